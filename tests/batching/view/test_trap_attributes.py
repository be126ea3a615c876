"""Traps: attributes of a cell that change. Equal to the loop, or a clear error; never silence."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from same import assert_all_close, assert_same, assert_same_or_error
from small import WIDTH, UseModel, vectors
from torch import nn
from traps import Cell, equal_across, linear, one_cell, or_clear

import bale
from bale.errors import BaleError

# Attributes.


@pytest.mark.parametrize(
    "values",
    [(2.0, 3.0, 2.0), (1, 1.0, True), ("a", "b"), ((1, 2), (3, 4)), (0.0, -0.0)],
    ids=["floats", "equal numbers", "strings", "tuples", "zeros"],
)
def test_an_attribute_that_changes_between_calls(values):
    def body(self, h):
        if isinstance(self.knob, str):
            return h + len(self.knob) if self.knob == "a" else h * 5
        knob = self.knob[0] if isinstance(self.knob, tuple) else self.knob
        return torch.atan2(torch.full_like(h, knob), h) * knob

    model = one_cell(body, knob=values[0])
    equal_across(model, [lambda v=v: setattr(model.cell, "knob", v) for v in values])


def test_an_attribute_of_a_child_that_changes_between_calls():
    model = UseModel(lambda m, x: m.cell(x), cell=nn.Sequential(linear(), nn.LeakyReLU(0.1)))
    equal_across(model, [lambda v=v: setattr(model.cell[1], "negative_slope", v) for v in (0.1, 0.7, 0.1)])


def test_a_list_attribute_that_is_changed_in_place_between_calls():
    model = one_cell(lambda self, h: h * sum(self.knobs), knobs=[1.0])
    equal_across(model, [lambda: None, lambda: model.cell.knobs.append(4.0), lambda: model.cell.knobs.clear()])


def test_a_dict_attribute_that_is_changed_in_place_between_calls():
    model = one_cell(lambda self, h: h * self.knobs["a"], knobs={"a": 1.0})
    equal_across(model, [lambda v=v: self_set(model.cell.knobs, "a", v) for v in (2.0, 3.0)])


def self_set(mapping, key, value):
    mapping[key] = value


def test_an_object_attribute_that_is_changed_in_place_between_calls():
    settings = SimpleNamespace(factor=2.0)
    model = one_cell(lambda self, h: h * self.settings.factor, settings=settings)
    or_clear(
        lambda: equal_across(model, [lambda v=v: setattr(settings, "factor", v) for v in (2.0, 3.0)]),
        "settings",
        "differs",
        "other values",
    )


@pytest.mark.parametrize("check", ["new", "off"])
def test_an_object_attribute_that_is_changed_in_place_is_noticed_without_checks(check):
    settings = SimpleNamespace(factor=2.0)
    model = one_cell(lambda self, h: h * self.settings.factor, settings=settings)
    batched, xs = bale.batch(model, check=check), vectors(3)
    for factor in (2.0, 3.0, 4.0, 5.0):
        settings.factor = factor
        assert_all_close(batched(xs), [model(x) for x in xs])


def test_a_plain_tensor_attribute_that_is_changed_in_place_between_calls():
    model = one_cell(lambda self, h: h * self.mask, mask=torch.ones(WIDTH))
    equal_across(model, [lambda: None, lambda: model.cell.mask.mul_(3), lambda: model.cell.mask.zero_()])


def test_a_numpy_attribute_that_is_changed_in_place_between_calls():
    model = one_cell(lambda self, h: h * torch.from_numpy(self.mask), mask=np.ones(WIDTH))
    batched, xs = bale.batch(model, check="off"), vectors(3)
    for factor in (1.0, 2.0, 3.0):
        model.cell.mask[:] = factor
        assert_all_close(batched(xs), [model(x) for x in xs])


def test_a_class_attribute_that_changes_between_calls():
    class Scaled(nn.Module):
        factor = 1.0

        def __init__(self):
            super().__init__()
            self.linear = linear()

        def forward(self, x):
            return self.linear(x) * self.factor

    model = UseModel(lambda m, x: m.cell(x), cell=Scaled())
    equal_across(model, [lambda v=v: setattr(Scaled, "factor", v) for v in (1.0, 2.0, 1.0)])


def test_a_forward_replaced_between_calls():
    model = UseModel(lambda m, x: m.cell(x), cell=linear())

    def replace():
        model.cell.forward = lambda x: x * model.cell.bias

    equal_across(model, [lambda: None, replace])


def test_a_forward_replaced_on_the_class_between_calls(monkeypatch):
    class Mine(nn.Linear):
        pass

    model = UseModel(lambda m, x: m.cell(x), cell=Mine(WIDTH, WIDTH))
    change = lambda: monkeypatch.setattr(Mine, "forward", lambda self, x: x * self.bias)  # noqa: E731
    equal_across(model, [lambda: None, change])


def test_a_method_that_a_cell_calls_replaced_between_calls(monkeypatch):
    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear()

        def act(self, h):
            return h.tanh()

        def forward(self, x):
            return self.act(self.linear(x))

    model = UseModel(lambda m, x: m.cell(x), cell=Mine())
    equal_across(model, [lambda: None, lambda: monkeypatch.setattr(Mine, "act", lambda self, h: h.exp())])


def test_a_buffer_written_between_calls():
    model = one_cell(lambda self, h: h * self.scale)
    model.cell.register_buffer("scale", torch.ones(1))
    equal_across(model, [lambda v=v: model.cell.scale.fill_(v) for v in (2.0, 3.0)])


def test_an_attribute_that_changes_between_cell_calls_in_one_forward():
    def use(model, x):
        out = []
        for k in (1.0, 2.0, 3.0, 1.0):
            model.cell.knob = k
            out.append(model.cell(x))
        return out

    model = UseModel(use, cell=Cell(lambda self, h: h * self.knob, knob=0.0))
    assert_same(model, vectors(3))
    assert model.cell.knob == 1.0


def test_an_attribute_that_differs_per_sample():
    def use(model, sample):
        k, x = sample
        model.cell.knob = k
        return model.cell(x)

    model = UseModel(use, cell=Cell(lambda self, h: h * self.knob, knob=0))
    assert_same(model, list(enumerate(vectors(4))))
    assert model.cell.knob == 3


def test_a_list_attribute_that_is_changed_in_place_in_one_forward():
    def use(model, x):
        out = []
        for k in (1.0, 2.0):
            model.cell.knobs[0] = k
            out.append(model.cell(x))
        return out

    model = UseModel(use, cell=Cell(lambda self, h: h * self.knobs[0], knobs=[0.0]))
    assert_same_or_error(model, vectors(3), "cell")


def test_an_object_attribute_that_is_changed_in_place_in_one_forward():
    def use(model, x):
        out = []
        for k in (1.0, 2.0):
            model.cell.settings.factor = k
            out.append(model.cell(x))
        return out

    model = UseModel(use, cell=Cell(lambda self, h: h * self.settings.factor, settings=SimpleNamespace(factor=0.0)))
    assert_same_or_error(model, vectors(3), check="off")


def test_an_optional_branch_switched_by_an_attribute_in_one_forward():
    def use(model, x):
        model.cell.deep = False
        h = model.cell(x)
        model.cell.deep = True
        return model.cell(h)

    def body(self, h):
        return self.linear(h).tanh() if self.deep else h

    assert_same(UseModel(use, cell=Cell(body, deep=False)), vectors(3))


def test_a_weight_changed_in_place_in_one_forward():
    def use(model, x):
        h = model.cell(x)
        with torch.no_grad():
            model.cell.linear.weight.mul_(1.1)
        return h

    model = UseModel(use, cell=Cell(lambda self, h: h))
    with torch.no_grad():
        wanted = [copy.deepcopy(model)]
        loop = [wanted[0](x) for x in vectors(3)]
        try:
            got = bale.batch(model)(vectors(3))
        except BaleError as error:
            assert any(word in str(error) for word in ("in place", "changed", "writes")), error
        else:
            assert_all_close(got, loop)


class Chain(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = linear(), linear()

    def forward(self, h):
        return self.second(torch.tanh(self.first(h)))


def exchange(chain):
    first, second = chain.first, chain.second
    del chain.first, chain.second
    chain.second, chain.first = first, second  # registered in the order that they had


def test_children_that_exchange_their_names_between_calls():
    model = UseModel(lambda m, x: m.cell(x), cell=Chain())
    equal_across(model, [lambda: None, lambda: exchange(model.cell), lambda: exchange(model.cell)])
