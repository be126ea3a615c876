"""How do samples and keyword arguments reach the per-sample forward?"""

import pytest
import torch
from same import assert_same
from small import WIDTH, Tree, UseModel, vectors
from torch import nn

import bale
from bale.errors import BaleError


def linear() -> nn.Linear:
    return nn.Linear(WIDTH, WIDTH)


def test_a_tuple_is_one_sample():
    def use(model, sample):
        assert type(sample) is tuple
        left, right = sample
        return model.cell(left) - right

    xs = vectors(6)
    assert_same(UseModel(use, cell=linear()), list(zip(xs[:3], xs[3:], strict=True)))


def test_star_spreads_a_tuple():
    class Difference(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = linear()

        def forward(self, left, right, scale=1.0):
            return self.cell(left) * scale - right

    xs = vectors(4)
    assert_same(Difference(), [(xs[0], xs[1]), (xs[2], xs[3], 2.0)], star=True)


def test_star_needs_tuples():
    with pytest.raises(BaleError, match="sample 1"):
        bale.batch(Tree(), star=True)([(vectors(1)[0],), vectors(1)[0]])


@pytest.mark.parametrize("samples", ["text", {"a": 1}, 3], ids=["string", "dict", "int"])
def test_what_is_no_sequence_of_samples_is_refused(samples):
    with pytest.raises(BaleError, match="sequence of samples"):
        bale.batch(Tree())(samples)


def test_a_tensor_is_a_sequence_of_its_rows():
    model, rows = Tree(), torch.randn(4, WIDTH)
    for out, row in zip(bale.batch(model)(rows), rows, strict=True):
        torch.testing.assert_close(out, model(row), rtol=1e-10, atol=1e-12)


def test_samples_of_the_users_own_class():
    class Node:
        def __init__(self, x, children=()):
            self.x, self.children = x, children

    def use(model, node):
        children = [use(model, child) for child in node.children]
        return torch.tanh(model.cell(sum(children, node.x)))

    a, b, c, d = vectors(4)
    samples = [Node(a), Node(b, [Node(c), Node(d)]), Node(a, [Node(b, [Node(c)])])]
    assert_same(UseModel(use, cell=linear()), samples)


def test_keyword_arguments_are_shared_by_all_samples():
    def use(model, x, scale, words):
        return model.cell(x) * scale, words

    assert_same(UseModel(use, cell=linear()), vectors(3), kwargs={"scale": 2.5, "words": ("a", "b")})


@pytest.mark.parametrize("grad", [False, True])
def test_a_tensor_may_be_a_keyword_argument(grad):
    def use(model, x, memory):
        h = model.cell(x)
        return torch.softmax(memory @ h, 0) @ memory, memory

    memory = torch.randn(4, WIDTH, requires_grad=grad)
    assert_same(UseModel(use, cell=linear()), vectors(3), kwargs={"memory": memory})


def test_a_tensor_inside_a_keyword_argument():
    def use(model, x, state):
        return model.cell(x + state["h"][0])

    assert_same(UseModel(use, cell=linear()), vectors(3), kwargs={"state": {"h": [torch.randn(3, requires_grad=True)]}})


def test_a_keyword_argument_that_is_a_cells_argument():
    def use(model, x, left):
        return model.bilinear(left, x)

    kwargs = {"left": torch.randn(WIDTH, requires_grad=True)}
    assert_same(UseModel(use, bilinear=nn.Bilinear(WIDTH, WIDTH, 2)), vectors(3), kwargs=kwargs)


def test_another_keyword_tensor_at_the_next_call():
    model = UseModel(lambda m, x, scale: m.cell(x) * scale, cell=linear())
    batched, xs = bale.batch(model, check="always"), vectors(3)
    for _ in range(3):
        scale = torch.randn(WIDTH)
        for out, x in zip(batched(xs, scale=scale), xs, strict=True):
            torch.testing.assert_close(out, model(x, scale=scale), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [{"policy": "best"}, {"executor": "magic"}, {"check": "maybe"}, {"cells": [3]}],
    ids=lambda options: next(iter(options)),
)
def test_options_that_do_not_exist_are_refused(options):
    with pytest.raises(BaleError):
        bale.batch(Tree(), **options)


def test_only_modules_can_be_batched():
    with pytest.raises(BaleError, match=r"nn\.Module"):
        bale.batch(lambda x: x)
