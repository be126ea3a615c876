"""Traps: backward hooks, layers of equal size, and a value-dependent `if` inside a cell."""

import copy

import torch
from same import DIFFERENT, assert_all_close, assert_same, assert_same_or_error, raises_at, weighted_sum
from small import WIDTH, UseModel, vectors
from torch import nn
from traps import linear

import bale

# Backward hooks, equal-sized layers, and a value-dependent `if`.


def test_backward_hooks_on_a_cell():
    def use(model, xs):
        h = torch.zeros(WIDTH)
        for x in xs:
            h = torch.tanh(model.cell(h + x))
        return h

    for register in ("register_full_backward_hook", "register_full_backward_pre_hook"):
        model, calls = UseModel(use, cell=linear()), []

        def hook(module, *grads, calls=calls):
            calls.append(1)
            return tuple(g * 0.5 if g is not None else None for g in grads[0])

        getattr(model.cell, register)(hook)
        samples = [vectors(n, seed=n) for n in (2, 3, 1)]
        assert_same(model, samples)
        assert len(calls) == 6 * (1 + len(DIFFERENT))


def test_a_backward_hook_added_between_calls():
    model, xs = UseModel(lambda m, x: m.cell(x), cell=linear()), vectors(3)
    batched = bale.batch(model)
    batched(xs)
    model.cell.register_full_backward_hook(lambda module, into, out: tuple(g * 2 for g in into))
    got = torch.autograd.grad(weighted_sum(batched(xs)), xs)
    assert_all_close(got, torch.autograd.grad(weighted_sum([model(x) for x in xs]), xs))


def test_a_backward_hook_on_a_child_of_a_cell():
    model = UseModel(lambda m, x: m.cell(x), cell=nn.Sequential(linear(), nn.Tanh()))
    model.cell[0].register_full_backward_hook(lambda module, into, out: tuple(g * 2 for g in into))
    assert_same(model, vectors(3))


def test_a_tensor_hook_registered_inside_a_cell():
    class Hooked(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear()

        def forward(self, x):
            h = self.linear(x)
            if h.requires_grad:
                h.register_hook(lambda g: g.clamp(-0.6, 0.6))
            return h * 2

    assert_same_or_error(UseModel(lambda m, x: m.cell(x), cell=Hooked()), vectors(3), "hook")


def test_layers_of_equal_size_keep_their_own_weights():
    layers = nn.ModuleList(linear() for _ in range(4))

    def use(model, xs):
        h = torch.zeros(WIDTH)
        for k, x in enumerate(xs):
            h = torch.tanh(model.layers[k % 4](h + x))
        return h

    assert assert_same(UseModel(use, layers=layers), [vectors(n, seed=n) for n in (1, 5, 3)]).last.types >= 4


def test_layers_of_equal_size_and_equal_weights_keep_their_own_gradients():
    first = linear()
    model = UseModel(lambda m, x: m.b(m.a(x)), a=first, b=copy.deepcopy(first))
    assert_same(model, vectors(3))


def test_a_value_dependent_if_inside_a_cell_names_its_line():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear()

        def forward(self, x):
            h = self.linear(x)
            if h.sum() > 0:  # <- if inside a cell
                return h * 2
            return h

    model = UseModel(lambda m, x: m.cell(x), cell=Branching())
    with raises_at(bale.errors.ValueReadError, __file__, "if inside a cell", sample=0):
        bale.batch(model)(vectors(4))


class BranchingOnConstant(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = linear()

    def forward(self, x):
        return self.linear(x) * 2 if x.sum() > 0 else self.linear(x)


def halve(model, x):
    h = model.cell(x)
    while x.norm() > 0.5:
        x = x / 2
        h = model.cell(h)
    return h


def test_a_value_dependent_if_on_a_constant_inside_a_cell():
    """The sample's own tensors are known while its forward runs: Python may look at them."""
    model = UseModel(lambda m, x: m.cell(x), cell=BranchingOnConstant())
    assert_same(model, vectors(6, grad=False))
    assert_same_or_error(model, vectors(6), "sample 0")


def test_a_while_loop_until_a_constant_is_small():
    assert_same(UseModel(halve, cell=linear()), vectors(5, grad=False))
    assert_same_or_error(UseModel(halve, cell=linear()), vectors(5), "sample 0")
