"""Traps: changing shapes, autograd functions, checkpoints, opaque modules, and modules that mix rows."""

import warnings

import pytest
import torch
from same import assert_all_close, assert_same, assert_same_or_error, raises_at, weighted_sum
from small import WIDTH, UseList, UseModel, matrices, sequences, vectors
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import bale
from bale.errors import BaleError, TraceError


def linear() -> nn.Linear:
    return nn.Linear(WIDTH, WIDTH)


# A module called with ever-changing shapes.


def test_a_module_called_with_ever_changing_shapes():
    class Total(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(1.5))

        def forward(self, h):
            return (h * self.scale).cumsum(-1)

    def use(model, n):
        return model.total(model.start.expand(2, n))

    model = UseModel(use, total=Total(), start=nn.Parameter(torch.ones(1)))
    assert_same(model, list(range(1, 12)))


def test_a_cell_called_with_another_number_of_arguments():
    class Any(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear()

        def forward(self, *xs, **named):
            return self.linear(sum(xs) + sum(named.values()))

    model = UseModel(lambda m, xs: m.cell(*xs, last=xs[0]), cell=Any())
    assert_same(model, sequences((1, 2, 3, 4, 5, 6)))


def test_a_cell_called_with_a_list_of_any_length():
    class Join(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear()

        def forward(self, children):
            return torch.tanh(self.linear(torch.stack(children).sum(0)))

    def use(model, xs):
        return model.join([model.leaf(x) for x in xs])

    model = UseModel(use, join=Join(), leaf=linear())
    few = assert_same(model, sequences((2, 3))).last.types
    assert assert_same(model, sequences((1, 2, 3, 4, 5, 6))).last.types == few


def test_a_tagger_over_whole_sentences_is_no_cell_per_length():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.step = nn.Linear(2 * WIDTH, WIDTH)

        def forward(self, rows):
            h, out = torch.zeros(WIDTH), []
            for row in rows:
                h = torch.tanh(self.step(torch.cat([h, row])))
                out.append(h)
            return torch.stack(out)

    model = UseModel(lambda m, rows: m.tagger(rows), tagger=Tagger())
    few = assert_same(model, matrices((2, 3)), policy="height").last
    many = assert_same(model, matrices((1, 2, 3, 4, 5, 6, 7)), policy="height").last
    assert many.types == few.types


# Autograd functions, checkpointing.


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3  # <- custom function

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 5 * x  # wrong on purpose: plain autograd would give 3 x^2


class CubeModule(nn.Module):
    def forward(self, x):
        return Cube.apply(x)


class CubeCell(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        return Cube.apply(self.linear(x)) + x


def test_a_custom_autograd_function_inside_the_forward():
    model = UseModel(lambda m, x: Cube.apply(m.cell(x)), cell=linear())
    with raises_at(TraceError, __file__, "custom function", sample=0):
        bale.batch(model)(vectors(3))


def test_a_custom_autograd_function_of_a_constant():
    model = UseModel(lambda m, x: m.cell(Cube.apply(x)), cell=linear())
    assert_same_or_error(model, vectors(3), "sample 0")
    assert_same(model, vectors(3, grad=False))


@pytest.mark.parametrize("make", [CubeModule, CubeCell])
def test_a_custom_autograd_function_inside_a_cell(make):
    assert_same(UseModel(lambda m, x: m.cube(m.cell(x)), cell=linear(), cube=make()), vectors(3))


def test_a_custom_autograd_function_inside_a_marked_function():
    @bale.cell
    def cube(x):
        return Cube.apply(x) * 2

    assert_same(UseModel(lambda m, x: cube(m.cell(x)), cell=linear()), vectors(3))


def test_a_custom_autograd_function_with_state_in_its_context():
    class Clip(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, limit):
            ctx.limit = limit
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad.clamp(-ctx.limit, ctx.limit), None

    class Clipped(nn.Module):
        def __init__(self):
            super().__init__()
            self.limit = 0.6

        def forward(self, x):
            return Clip.apply(x, self.limit)

    assert_same(UseModel(lambda m, x: m.clip(m.cell(x)) * 2, cell=linear(), clip=Clipped()), vectors(3))


def test_checkpoint_around_a_cell():
    model = UseModel(lambda m, x: checkpoint(m.cell, m.cell(x), use_reentrant=False), cell=linear())
    assert_same(model, vectors(3))


def test_checkpoint_around_a_function_of_values():
    def use(model, xs):
        def block(h):
            return torch.tanh(model.cell(h)) + h

        h = model.cell(xs[0])
        for _ in xs:
            h = checkpoint(block, h, use_reentrant=False)
        return h

    assert_same(UseModel(use, cell=linear()), sequences())


class Checkpointed(nn.Module):
    def __init__(self, reentrant=False):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH))
        self.reentrant = reentrant

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=self.reentrant)


def test_checkpoint_inside_a_cell():
    assert_same(UseModel(lambda m, x: m.block(m.cell(x)), cell=linear(), block=Checkpointed()), vectors(3))


def test_reentrant_checkpoint_is_the_loop_or_an_error():
    model, xs = UseModel(lambda m, x: m.block(m.cell(x)), cell=linear(), block=Checkpointed(True)), vectors(3)

    def gradients(outputs):
        model.zero_grad()
        weighted_sum(outputs).backward()
        return [p.grad.clone() for p in model.parameters()]

    wanted = gradients([model(x) for x in xs])
    try:
        got = gradients(bale.batch(model)(xs))
    except BaleError as error:
        assert "checkpoint" in str(error)
    else:
        assert_all_close(got, wanted)


def test_checkpoint_sequential():
    layers = nn.Sequential(linear(), nn.Tanh(), linear(), nn.Tanh())
    model = UseModel(
        lambda m, x: checkpoint_sequential(m.layers, 2, m.cell(x), use_reentrant=False), cell=linear(), layers=layers
    )
    assert_same(model, vectors(3))


def test_checkpoint_around_the_batched_model():
    model, xs = UseModel(lambda m, x: torch.tanh(m.cell(x)), cell=linear()), vectors(3)
    batched = bale.batch(model)
    out = checkpoint(lambda *samples: torch.stack(batched(list(samples))), *xs, use_reentrant=False)
    got = torch.autograd.grad(out.square().sum(), [*xs, *model.parameters()])
    loop = torch.stack([model(x) for x in xs]).square().sum()
    assert_all_close(got, torch.autograd.grad(loop, [*xs, *model.parameters()]))


# Modules that cannot be looked into.


def test_a_traced_script_module():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cell = torch.jit.trace(linear(), torch.ones(WIDTH))
        assert_same_or_error(UseModel(lambda m, x: m.out(m.cell(x)), cell=cell, out=linear()), vectors(3), "cell")


def test_a_compiled_child():
    model = UseModel(lambda m, x: m.cell(torch.tanh(m.cell(x))), cell=torch.compile(linear(), backend="eager"))
    assert_same_or_error(model, vectors(3), "cell")


# Rows.


def test_a_module_that_mixes_the_first_axis_of_one_value():
    """Statistics across the first axis of a matrix of one sample must not become statistics across samples."""

    class Standardise(nn.Module):
        def forward(self, x):
            return (x - x.mean(0)) / (1 + x.std(0))

    def use(model, x):
        return model.norm(torch.outer(model.cell(x), x))

    assert_same(UseModel(use, cell=linear(), norm=Standardise()), vectors(5))


def test_a_module_that_sums_everything():
    class Everything(nn.Module):
        def forward(self, x):
            return x.sum() * x

    assert_same(UseModel(lambda m, x: m.all(m.cell(x)), cell=linear(), all=Everything()), vectors(5))


def test_a_module_that_asks_for_its_number_of_dimensions():
    class ByRank(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear()

        def forward(self, x):
            h = self.linear(x)
            return h.sum(0) if x.dim() == 1 else h.mean(0)

    assert_same(UseModel(lambda m, x: m.cell(x), cell=ByRank()), vectors(4))
    assert_same(UseModel(lambda m, x: m.cell(x), cell=ByRank()), matrices())


def test_a_module_that_asks_for_its_first_size():
    class ByLength(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear()

        def forward(self, x):
            return self.linear(x) / x.shape[0]

    assert_same(UseModel(lambda m, x: m.cell(x), cell=ByLength()), vectors(4))
    assert_same(UseModel(lambda m, x: m.cell(x), cell=ByLength()), matrices((3, 1, 7, 2, 5, 4)))


def test_a_module_that_numbers_its_rows():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.positions = nn.Embedding(9, WIDTH)

        def forward(self, x):
            return x + self.positions(torch.arange(x.shape[0]))

    assert_same(UseModel(lambda m, x: m.positions(x), positions=Positions()), matrices((3, 1, 7, 2, 5, 4)))
    assert_same(UseList(lambda hs, xs: torch.stack(hs) * torch.arange(len(hs))[:, None]), sequences())
