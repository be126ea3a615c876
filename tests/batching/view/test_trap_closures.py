"""Traps: closures, globals and random numbers outside torch. Equal to the loop, or a clear error; never silence."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from same import assert_all_close, assert_same_or_error, weighted_sum
from small import WIDTH, UseModel, vectors
from torch import nn
from traps import Cell, equal_across, linear, one_cell, or_clear

import bale
from bale.errors import BaleError

FACTOR = 2.0
TABLE = [1.0, 2.0]
SETTINGS = SimpleNamespace(factor=2.0)


# Closures and globals.


def test_a_closure_that_changes_between_calls():
    factor = 2.0

    def body(self, h):
        return h * factor

    def change(value):
        nonlocal factor
        factor = value

    equal_across(one_cell(body), [lambda v=v: change(v) for v in (2.0, 3.0, 2.0)])


def test_a_global_that_changes_between_calls(monkeypatch):
    model = one_cell(lambda self, h: h * FACTOR)
    changes = [lambda v=v: monkeypatch.setitem(globals(), "FACTOR", v) for v in (2.0, 3.0, 2.0)]
    equal_across(model, changes)


def test_a_global_of_a_helper_that_changes_between_calls(monkeypatch):
    def helper(h):
        return h * FACTOR

    model = one_cell(lambda self, h: helper(h))
    equal_across(model, [lambda v=v: monkeypatch.setitem(globals(), "FACTOR", v) for v in (2.0, 3.0, 2.0)])


@pytest.mark.parametrize("check", ["always", "off"])
def test_a_global_list_or_object_that_changes_between_calls(check):
    model = one_cell(lambda self, h: h * TABLE[0] + SETTINGS.factor)
    batched, xs = bale.batch(model, check=check), vectors(3)
    for k in range(4):
        TABLE[0] = float(k)
        SETTINGS.factor = 2.0 * k
        assert_all_close(batched(xs), [model(x) for x in xs])


def test_a_default_argument_that_changes_between_calls():
    def forward(x, factors=[2.0]):  # noqa: B006
        return x * factors[0]

    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(WIDTH))

        def forward(self, x):
            return forward(x) * self.weight

    model = UseModel(lambda m, x: m.cell(x), cell=Mine())
    batched, xs = bale.batch(model, check="off"), vectors(3)
    for factor in (2.0, 3.0):
        forward.__defaults__[0][0] = factor
        assert_all_close(batched(xs), [model(x) for x in xs])


def test_a_closure_that_changes_in_one_forward():
    box = {"factor": 1.0}
    factor = 1.0

    def body(self, h):
        return h * factor

    def use(model, x):
        nonlocal factor
        out = []
        for k in (1.0, 2.0, 3.0):
            factor = k
            out.append(model.cell(x) + box["factor"])
        return out

    assert_same_or_error(UseModel(use, cell=Cell(body)), vectors(3), "factor", check="off")


def test_a_global_that_changes_in_one_forward(monkeypatch):
    monkeypatch.setitem(globals(), "FACTOR", 1.0)

    def use(model, x):
        out = []
        for k in (1.0, 2.0, 3.0):
            globals()["FACTOR"] = k
            out.append(model.cell(x))
        return out

    assert_same_or_error(UseModel(use, cell=Cell(lambda self, h: h * FACTOR)), vectors(3), "FACTOR", check="off")


def test_a_marked_function_whose_closure_changes_between_calls():
    factor = 2.0

    @bale.cell
    def scale(h):
        return h * factor

    def change(value):
        nonlocal factor
        factor = value

    model = UseModel(lambda m, x: scale(m.cell(x)), cell=linear())
    equal_across(model, [lambda v=v: change(v) for v in (2.0, 3.0, 2.0)])


def test_a_marked_function_whose_closure_changes_in_one_forward():
    factor = 2.0

    @bale.cell
    def scale(h):
        return h * factor

    def use(model, x):
        nonlocal factor
        out = []
        for k in (1.0, 2.0):
            factor = k
            out.append(scale(model.cell(x)))
        return out

    assert_same_or_error(UseModel(use, cell=linear()), vectors(3), "factor", check="off")


def test_a_tensor_in_a_closure_that_is_changed_in_place_between_calls():
    mask = torch.ones(WIDTH)
    model = one_cell(lambda self, h: h * mask)
    equal_across(model, [lambda: None, lambda: mask.mul_(3), lambda: mask.zero_()])


def test_a_tensor_in_a_closure_that_is_changed_in_place_in_one_forward():
    mask = torch.ones(WIDTH)

    def use(model, x):
        out = []
        for k in (1.0, 2.0):
            mask.fill_(k)
            out.append(model.cell(x).detach())
        return out

    assert_same_or_error(UseModel(use, cell=Cell(lambda self, h: h * mask)), vectors(3), "mask", check="off")


def test_a_tensor_with_gradients_in_the_closure_of_a_cell():
    loose = torch.randn(WIDTH, requires_grad=True)
    model, xs = one_cell(lambda self, h: h * loose), vectors(3)
    got = torch.autograd.grad(weighted_sum(bale.batch(model)(xs)), loose)
    assert_all_close(got, torch.autograd.grad(weighted_sum([model(x) for x in xs]), loose))


def test_an_environment_read_at_call_time(monkeypatch):
    import os

    model = one_cell(lambda self, h: h * float(os.environ["BALE_TEST_FACTOR"]))
    changes = [lambda v=v: monkeypatch.setenv("BALE_TEST_FACTOR", v) for v in ("2", "3")]
    or_clear(lambda: equal_across(model, changes), "environ", "other values", "differs")


# Python's and numpy's random numbers.


def drawing(body):
    def seed():
        random.seed(3)
        np.random.seed(3)  # noqa: NPY002

    model = UseModel(lambda m, xs: [m.cell(x) for x in xs], cell=Cell(body))
    samples = [vectors(n, seed=n) for n in (2, 3, 1)]
    seed()
    wanted = [model(s) for s in samples]
    after = random.random(), np.random.rand()  # noqa: NPY002
    for policy in bale.POLICIES:
        batched = bale.batch(model, policy=policy, check="always")
        for _ in range(2):
            seed()
            assert_all_close(batched(samples), wanted)
            assert (random.random(), np.random.rand()) == after  # noqa: NPY002


def test_pythons_random_in_a_cell():
    drawing(lambda self, h: h * random.random())


def test_a_coin_of_pythons_random_in_a_cell():
    drawing(lambda self, h: h if random.random() < 0.5 else h.tanh())


def test_numpys_random_in_a_cell():
    drawing(lambda self, h: h + np.random.standard_normal())  # noqa: NPY002


def test_a_generator_object_in_a_cell():
    generator = np.random.default_rng(0)
    model, xs = one_cell(lambda self, h: h * self.generator.random(), generator=generator), vectors(3)
    state = generator.bit_generator.state
    wanted = [model(x) for x in xs]
    generator.bit_generator.state = state
    or_clear(lambda: assert_all_close(bale.batch(model)(xs), wanted), "generator", "differs", "other values")


def test_a_random_object_in_a_cell():
    rng = random.Random(0)
    model, xs = one_cell(lambda self, h: h * self.rng.random(), rng=rng), vectors(3)
    state = rng.getstate()
    wanted = [model(x) for x in xs]
    rng.setstate(state)
    or_clear(lambda: assert_all_close(bale.batch(model)(xs), wanted), "rng", "differs", "other values")


def test_pythons_random_in_a_marked_cell_is_refused():
    model, xs = one_cell(lambda self, h: h * random.random()), vectors(3)
    bale.cell(model.cell)
    with pytest.raises(BaleError, match="random"):
        bale.batch(model)(xs)


def test_the_time_in_a_cell(monkeypatch):
    import itertools
    import time

    ticks = itertools.count()
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(ticks))
    model = one_cell(lambda self, h: h * (time.monotonic_ns() * 0 + 1))
    assert_same_or_error(model, vectors(3))
