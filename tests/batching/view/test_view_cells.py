"""Which calls are recorded as cells, and may a cell be anything that a module can be?"""

import pytest
import torch
from same import assert_same
from small import WIDTH, Tree, UseList, UseModel, sequences, trees, vectors
from torch import nn

import bale
from bale.errors import BaleError


class Gate(nn.Module):
    """Two tensors in, two out."""

    def __init__(self):
        super().__init__()
        self.both = nn.Linear(2 * WIDTH, 2 * WIDTH)

    def forward(self, left, right):
        new, gate = self.both(torch.cat([left, right])).chunk(2)
        return torch.sigmoid(gate) * new, gate


class Scaled(nn.Module):
    """A cell with arguments that are no tensors."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x, times=1, name="tanh", twice=False, bias=None):
        h = getattr(torch, name)(self.linear(x)) * times
        h = h if bias is None else h + bias
        return h + h if twice else h


def test_a_module_called_with_tensors_is_one_node():
    batched = assert_same(UseModel(lambda m, x: m.gate(x, x)[0], gate=Gate()), vectors(5))
    assert (batched.last.nodes, batched.last.types, batched.last.batches) == (5, 1, 1)


def test_a_module_called_with_a_tree_is_descended_into():
    batched = assert_same(nn.Sequential(Tree()), trees())
    assert batched.last.nodes > len(trees())


def test_several_tensors_in_and_out():
    def use(model, xs):
        h, c = xs[0], xs[0]
        for x in xs:
            h, c = model.gate(h + x, c)
        return h, c

    assert_same(UseModel(use, gate=Gate()), sequences())


def test_outputs_of_a_cell_may_be_a_dict_with_values_that_are_no_tensors():
    class Rich(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(WIDTH, WIDTH)

        def forward(self, x):
            h = self.linear(x)
            return {"h": h, "parts": [h[:1], (h.sum(),)], "width": WIDTH, "none": None, "x": x}

    assert_same(UseModel(lambda m, x: m.cell(m.cell(x)["h"]), cell=Rich()), vectors(3))


def test_an_unused_output_of_a_cell():
    assert_same(UseModel(lambda m, x: m.gate(x, x)[1], gate=Gate()), vectors(3))


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda m, x: [m.cell(x, k) for k in (1, 2, 3)], id="int"),
        pytest.param(lambda m, x: [m.cell(x, t) for t in (1, 1.0, True, 0.0, -0.0)], id="equal numbers of other types"),
        pytest.param(lambda m, x: [m.cell(x, name=n) for n in ("tanh", "exp", "tanh")], id="str"),
        pytest.param(lambda m, x: [m.cell(x, twice=t) for t in (True, False)], id="bool"),
        pytest.param(lambda m, x: [m.cell(x, bias=None), m.cell(x, bias=x), m.cell(x, bias=2.0)], id="None or tensor"),
        pytest.param(lambda m, x: m.cell(times=2, x=x), id="all by keyword"),
    ],
)
def test_arguments_that_are_no_tensors(use):
    assert_same(UseModel(use, cell=Scaled()), vectors(3))


def test_cells_of_one_class_with_weights_of_their_own_never_mix():
    cells = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))
    batched = assert_same(UseModel(lambda m, x: [cell(x) for cell in m.cells], cells=cells), vectors(4))
    assert batched.last.types == 3


def test_one_module_under_two_names_is_one_cell():
    shared = nn.Linear(WIDTH, WIDTH)
    batched = assert_same(UseModel(lambda m, x: m.a(x) + m.b(x).exp(), a=shared, b=shared), vectors(4))
    assert len(list(batched.parameters())) == 2


def test_tied_weights():
    a, b = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
    b.weight = a.weight
    batched = assert_same(UseModel(lambda m, x: m.b(torch.tanh(m.a(x))), a=a, b=b), vectors(4))
    assert len(list(batched.parameters())) == 3


def test_an_embedding_tied_to_the_output_layer():
    def use(model, words):
        return model.out(sum(model.words(torch.tensor(w)) for w in words))

    words, out = nn.Embedding(5, WIDTH), nn.Linear(WIDTH, 5, bias=False)
    out.weight = words.weight
    assert_same(UseModel(use, words=words, out=out), [[1, 2], [4], [0, 0, 3]])


def test_a_weight_tied_between_a_cell_and_plain_arithmetic():
    model = UseModel(lambda m, x: m.cell(x) @ m.cell.weight, cell=nn.Linear(WIDTH, WIDTH))
    assert_same(model, vectors(3))


def test_a_cell_inside_a_cell():
    block = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Sequential(nn.Linear(WIDTH, 2), nn.ReLU()))
    batched = assert_same(UseModel(lambda m, x: m.block(x), block=block), vectors(4))
    assert batched.last.types == 1


def test_a_child_of_a_cell_called_on_its_own():
    model = UseModel(lambda m, x: m.block(x) + m.block[0](x), block=nn.Sequential(nn.Linear(3, 3), nn.Tanh()))
    assert_same(model, vectors(4))


# Marking.


def test_a_marked_module_is_a_cell():
    gate = bale.cell(Gate())
    batched = assert_same(UseModel(lambda m, x: m.gate(x, x)[0], gate=gate), vectors(3))
    assert batched.last.types == 1


def test_a_marked_class_makes_cells():
    @bale.cell
    class Marked(Gate):
        pass

    model = UseModel(lambda m, x: m.a(*m.b(x, x))[0], a=Marked(), b=Marked())
    assert assert_same(model, vectors(3)).last.types == 2


def test_marking_returns_what_it_marks():
    gate = Gate()
    assert bale.cell(gate) is gate
    assert bale.cell(Gate) is Gate
    del Gate._bale_cell


def test_a_marked_function_is_one_node():
    @bale.cell
    def mix(left, right, scale=1.0):
        return torch.tanh(left * scale + right).cumsum(0)

    batched = assert_same(UseModel(lambda m, x: mix(m.cell(x), x, scale=2.0), cell=nn.Linear(WIDTH, WIDTH)), vectors(4))
    assert batched.last.types == 2


def test_a_marked_function_outside_a_batched_model_is_itself():
    @bale.cell
    def double(x):
        """Twice."""
        return x + x

    assert torch.equal(double(torch.ones(2)), torch.full((2,), 2.0))
    assert (double.__name__, double.__doc__) == ("double", "Twice.")


def test_a_marked_method_sees_the_parameters_of_its_module():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(WIDTH, WIDTH)
            self.scale = nn.Parameter(torch.randn(WIDTH))

        @bale.cell
        def step(self, h, x):
            return torch.tanh(self.linear(h) * self.scale + x)

        def forward(self, xs):
            h = torch.zeros(WIDTH)
            for x in xs:
                h = self.step(h, x)
            return h

    batched = assert_same(Model(), sequences())
    # the first state is a constant and the others are values, so there may be two types
    assert batched.last.types <= 2
    assert batched.last.nodes == 10


def test_a_marked_function_with_several_outputs():
    @bale.cell
    def split(h):
        return h.exp(), {"sum": h.sum()}

    assert_same(UseModel(lambda m, x: split(m.cell(x)), cell=nn.Linear(WIDTH, WIDTH)), vectors(3))


def test_a_marked_function_takes_a_list_of_any_length():
    @bale.cell
    def total(values):
        return torch.stack(values).sum(0)

    assert_same(UseList(lambda hs, xs: total(hs)), sequences())


@pytest.mark.parametrize("thing", [3, "leaf", list])
def test_only_modules_and_functions_can_be_marked(thing):
    with pytest.raises(BaleError):
        bale.cell(thing)


# Restricting.


@pytest.mark.parametrize(
    "cells",
    [
        pytest.param(lambda model: [Gate], id="class"),
        pytest.param(lambda model: [model.gate], id="instance"),
        pytest.param(lambda model: ["gate"], id="path"),
        pytest.param(lambda model: [Gate, "out", model.out], id="all together"),
        pytest.param(lambda model: [], id="none"),
        pytest.param(lambda model: ["gate.both"], id="path of a child"),
    ],
)
def test_cells_can_be_restricted(cells):
    model = UseModel(lambda m, x: m.out(m.gate(x, x)[0]), gate=Gate(), out=nn.Linear(WIDTH, 2))
    assert_same(model, vectors(3), cells=cells(model))


def test_what_cells_leaves_out_is_descended_into():
    def types(cells):
        model = UseModel(lambda m, x: m.gate(x, x)[0], gate=Gate())
        return assert_same(model, vectors(3), cells=cells).last.types

    assert types([Gate]) == 1
    assert types([nn.Linear]) > 1


def test_a_subclass_is_not_the_class_that_cells_lists():
    class Special(nn.Linear):
        def forward(self, x):
            return super().forward(x).exp()

    model = UseModel(lambda m, x: m.a(m.b(x)), a=nn.Linear(WIDTH, WIDTH), b=Special(WIDTH, WIDTH))
    assert_same(model, vectors(3), cells=[nn.Linear])
