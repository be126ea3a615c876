"""train/eval, no_grad, inference_mode, autocast, dtypes: a batched model follows them as the loop does."""

import pytest
import torch
from same import assert_all_close, assert_close, assert_same, weighted_sum
from small import WIDTH, Tree, UseModel, sequences, trees, vectors
from torch import nn

import bale

BFLOAT16 = torch.finfo(torch.bfloat16).eps


class Switched(nn.Module):
    """A cell whose forward differs between training and evaluation."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        return self.linear(x) * 2 if self.training else self.linear(x)


def test_train_and_eval_toggled_between_calls():
    model = UseModel(lambda m, x: m.cell(x) + m.training, cell=Switched())
    batched, xs = bale.batch(model, check="always"), vectors(3)
    for mode in (True, False, False, True):
        model.train(mode)
        assert batched.training is mode
        assert_all_close(batched(xs), [model(x) for x in xs])
    for mode in (False, True):
        batched.train(mode)
        assert model.training is mode
        assert model.cell.training is mode
        assert_all_close(batched(xs), [model(x) for x in xs])
    assert batched.eval() is batched
    assert not model.cell.linear.training


def test_one_cell_toggled_between_calls():
    model = UseModel(lambda m, x: m.a(m.b(x)), a=Switched(), b=Switched())
    batched, xs = bale.batch(model, check="always"), vectors(3)
    for a, b in ((True, False), (False, False), (False, True), (True, True)):
        model.a.train(a)
        model.b.train(b)
        assert_all_close(batched(xs), [model(x) for x in xs])


def test_a_cell_toggled_inside_the_forward():
    def use(model, x):
        model.cell.eval()
        h = model.cell(x)
        model.cell.train()
        return model.cell(h)

    model = UseModel(use, cell=Switched())
    xs = vectors(3)
    assert_all_close(bale.batch(model)(xs), [model(x) for x in xs])
    assert model.cell.training


def test_no_grad():
    model = Tree()
    batched = bale.batch(model, check="always")
    with torch.no_grad():
        outputs = batched(trees())
        assert not any(out.requires_grad for out in outputs)
        assert_all_close(outputs, [model(t) for t in trees()])


def test_no_grad_then_grad_then_no_grad():
    model, samples = Tree(), trees()
    batched = bale.batch(model, check="always")
    for enabled in (False, True, False, True):
        with torch.set_grad_enabled(enabled):
            outputs = batched(samples)
        assert all(out.requires_grad is enabled for out in outputs)
        if enabled:
            got = torch.autograd.grad(weighted_sum(outputs), list(model.parameters()))
            wanted = torch.autograd.grad(weighted_sum([model(s) for s in samples]), list(model.parameters()))
            assert_all_close(got, wanted)


def test_no_grad_inside_grad_in_the_forward_of_an_inference_call():
    def use(model, x):
        with torch.enable_grad():
            h = model.cell(x)
        return h

    model = UseModel(use, cell=nn.Linear(WIDTH, WIDTH))
    with torch.no_grad():
        got, wanted = bale.batch(model)(vectors(2)), [model(x) for x in vectors(2)]
    assert [out.requires_grad for out in got] == [out.requires_grad for out in wanted]
    assert_all_close(got, wanted)


def test_inference_mode():
    model, samples = Tree(), trees()
    batched = bale.batch(model, check="always")
    with torch.inference_mode():
        outputs = batched(samples)
        assert all(out.is_inference() for out in outputs)
        assert_all_close(outputs, [model(t) for t in samples])
    assert_same(model, samples)
    assert all(out.requires_grad for out in batched(samples))


def test_samples_made_in_inference_mode():
    model = Tree()
    with torch.inference_mode():
        samples = [torch.randn(WIDTH), (torch.randn(WIDTH), torch.randn(WIDTH))]
        got = bale.batch(model)(samples)
        assert_all_close(got, [model(t) for t in samples])


def test_inference_mode_first_and_training_afterwards():
    model, samples = Tree(), trees()
    batched = bale.batch(model)
    with torch.inference_mode():
        batched(samples)
    got = torch.autograd.grad(weighted_sum(batched(samples)), list(model.parameters()))
    wanted = torch.autograd.grad(weighted_sum([model(s) for s in samples]), list(model.parameters()))
    assert_all_close(got, wanted)


# Autocast.


def float_trees():
    return [torch.randn(WIDTH, dtype=torch.float32), (torch.randn(WIDTH, dtype=torch.float32),) * 3, ()]


class AutocastAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.Linear(WIDTH, WIDTH)

    def forward(self, xs):
        values = torch.stack([torch.tanh(self.cell(x)) for x in xs])
        weights = torch.softmax(values @ values[-1], 0)
        return (weights[:, None] * values).sum(0), values.mean(0)


def compare_autocast(model, samples, dtype=torch.bfloat16):
    eps = torch.finfo(dtype).eps
    parameters = list(model.parameters())
    with torch.autocast("cpu", dtype=dtype):
        got = bale.batch(model, check="always")(samples)
        wanted = [model(s) for s in samples]
    assert_all_close(got, wanted, relative=4 * eps)
    loss, loop = weighted_sum(got), weighted_sum(wanted)
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    for out, want in zip(gradients, torch.autograd.grad(loop, parameters, allow_unused=True), strict=True):
        if want is not None:
            assert_close(out, want, 16 * eps, "gradient")


def test_autocast_around_the_call():
    compare_autocast(Tree().float(), float_trees())


def test_autocast_over_a_ragged_attention():
    samples = [[torch.randn(WIDTH, dtype=torch.float32) for _ in range(n)] for n in (2, 4, 1)]
    compare_autocast(AutocastAttention().float(), samples)


def test_autocast_inside_the_forward():
    def use(model, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            h = model.cell(x)
        return h, model.cell(x)

    model = UseModel(use, cell=nn.Linear(WIDTH, WIDTH)).float()
    xs = [x.float() for x in vectors(3, grad=False)]
    got, wanted = bale.batch(model)(xs), [model(x) for x in xs]
    assert [(a.dtype, b.dtype) for a, b in got] == [(torch.bfloat16, torch.float32)] * 3
    assert_all_close([a for a, _ in got], [a for a, _ in wanted], relative=4 * BFLOAT16)
    assert_all_close([b for _, b in got], [b for _, b in wanted], relative=1e-6)


def test_autocast_disabled_inside_an_autocast_call():
    def use(model, x):
        h = model.cell(x)
        with torch.autocast("cpu", enabled=False):
            return h, model.cell(h.float())

    model = UseModel(use, cell=nn.Linear(WIDTH, WIDTH)).float()
    compare_autocast(model, [x.float() for x in vectors(3, grad=False)])


def test_autocast_switched_between_calls():
    model = Tree().float()
    batched, samples = bale.batch(model, check="always"), float_trees()
    dtypes = []
    for enabled in (True, False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            got, wanted = batched(samples), [model(s) for s in samples]
        dtypes.append(got[0].dtype)
        assert_all_close(got, wanted, relative=4 * BFLOAT16 if enabled else 1e-5)
    assert dtypes[0] == dtypes[2] != dtypes[1]


def test_autocast_inside_a_cell():
    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(WIDTH, WIDTH)

        def forward(self, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.linear(x)

    model = UseModel(lambda m, x: m.cell(x), cell=Cell()).float()
    xs = [x.float() for x in vectors(4, grad=False)]
    got, wanted = bale.batch(model)(xs), [model(x) for x in xs]
    assert_all_close(got, wanted, relative=4 * BFLOAT16)


# Dtypes.


def test_float64():
    assert_same(Tree().double(), trees())


def test_float32():
    samples = [torch.randn(WIDTH, dtype=torch.float32), (torch.randn(WIDTH, dtype=torch.float32),) * 3]
    assert_same(Tree().float(), samples, relative=1e-5, gradient_relative=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types(dtype):
    samples = [torch.randn(WIDTH, dtype=dtype), (torch.randn(WIDTH, dtype=dtype),) * 3]
    eps = torch.finfo(dtype).eps
    assert_same(Tree().to(dtype), samples, relative=4 * eps, gradient_relative=16 * eps)


def test_complex_numbers():
    model = UseModel(lambda m, x: m.cell(x).abs(), cell=nn.Linear(WIDTH, WIDTH, dtype=torch.complex128))
    xs = [torch.randn(WIDTH, dtype=torch.complex128) for _ in range(3)]
    assert_all_close(bale.batch(model, check="always")(xs), [model(x) for x in xs])


def test_samples_of_several_dtypes():
    def use(model, x):
        return model.cell(x.to(model.cell.weight.dtype))

    xs = [torch.ones(3, dtype=d) for d in (torch.float32, torch.float64, torch.int64, torch.bool, torch.bfloat16)]
    assert_same(UseModel(use, cell=nn.Linear(WIDTH, WIDTH)), xs)


def test_another_default_dtype_inside_the_forward():
    def use(model, x):
        return model.cell(x + torch.zeros(WIDTH, dtype=torch.float32))

    assert_same(UseModel(use, cell=nn.Linear(WIDTH, WIDTH)), vectors(2))


def test_moved_to_another_dtype_between_calls():
    model = Tree()
    batched = bale.batch(model, check="always")
    for dtype in (torch.float64, torch.float32, torch.float64):
        assert batched.to(dtype) is batched
        samples = [torch.ones(WIDTH, dtype=dtype), (torch.ones(WIDTH, dtype=dtype),) * 2]
        outputs = batched(samples)
        assert [out.dtype for out in outputs] == [dtype] * 2
        assert_all_close(outputs, [model(s) for s in samples], relative=1e-5)


@pytest.mark.parametrize("change", ["double", "float", "cpu", "half"])
def test_conversions_return_the_batched_model(change):
    batched = bale.batch(Tree())
    assert getattr(batched, change)() is batched
    assert next(batched.parameters()) is next(batched.inner.parameters())


def test_deterministic_algorithms():
    torch.use_deterministic_algorithms(True)
    try:
        assert_same(Tree(), trees())
        assert_same(
            UseModel(lambda m, xs: torch.stack([m.cell(x) for x in xs]).sum(0), cell=nn.Linear(3, 3)), sequences()
        )
    finally:
        torch.use_deterministic_algorithms(False)


def test_anomaly_detection():
    with torch.autograd.set_detect_anomaly(True, check_nan=True):
        assert_same(Tree(), trees())
