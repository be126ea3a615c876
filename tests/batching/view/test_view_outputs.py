"""What does a batched model return, for what it is given?"""

import pytest
import torch
from same import assert_all_close, assert_same
from small import WIDTH, Tree, Use, UseList, UseModel, sequences, trees, vectors
from torch import nn

import bale
from bale.errors import BaleError


def test_a_list_with_one_output_per_sample_in_order():
    batched = assert_same(Tree(), trees())
    assert type(batched(trees())) is list
    assert batched.last.samples == len(trees())


@pytest.mark.parametrize("policy", list(bale.POLICIES))
def test_every_policy_by_name(policy):
    batched = assert_same(Tree(), trees(), policy=policy)
    assert batched.last.batches >= batched.last.bound


def test_no_samples_no_outputs():
    assert bale.batch(Tree())([]) == []


def test_one_sample():
    assert_same(Tree(), trees()[2:3])


@pytest.mark.parametrize("kind", [list, tuple, iter, lambda samples: (s for s in samples)])
def test_samples_come_in_any_sequence(kind):
    model, samples = Tree(), vectors(3)
    assert_all_close(bale.batch(model)(kind(samples)), [model(s) for s in samples])


def test_the_same_sample_twice():
    x, y = vectors(2)
    assert_same(Tree(), [x, y, x, (x, x)])


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda h, x: (h, h.sum()), id="tuple"),
        pytest.param(lambda h, x: {"h": h, "more": {"sum": h.sum()}}, id="dict"),
        pytest.param(lambda h, x: [h, [h * 2, (h, x)]], id="nested"),
        pytest.param(lambda h, x: (h, None), id="None"),
        pytest.param(lambda h, x: (h, 3, 2.5, "word", True), id="numbers and strings"),
        pytest.param(lambda h, x: (), id="nothing"),
        pytest.param(lambda h, x: None, id="only None"),
        pytest.param(lambda h, x: x, id="unchanged input"),
        pytest.param(lambda h, x: (x, h, x), id="unchanged input beside a value"),
        pytest.param(lambda h, x: (h, h), id="the same value twice"),
        pytest.param(lambda h, x: h.shape, id="shape"),
        pytest.param(lambda h, x: torch.ones(2), id="a tensor that no model made"),
        pytest.param(lambda h, x: h > 0, id="booleans"),
        pytest.param(lambda h, x: h.argmax(), id="integer scalar"),
        pytest.param(lambda h, x: h.topk(2), id="a named tuple of torch"),
    ],
)
def test_any_pytree(use):
    assert_same(Use(use), vectors(4))


def test_lists_whose_length_differs_per_sample():
    assert_same(UseList(lambda hs, xs: hs), sequences((2, 0, 3, 1)))


def test_structure_that_differs_per_sample():
    def use(hs, xs):
        return hs[0] if len(hs) == 1 else {"n": len(hs), "hs": hs} if len(hs) == 2 else None

    assert_same(UseList(use), sequences((1, 2, 3, 2, 1)))


def test_a_parameter_is_returned_as_it_is():
    model = UseModel(lambda m, x: (m.start, m.cell(x)), cell=nn.Linear(WIDTH, WIDTH), start=nn.Parameter(torch.ones(2)))
    batched = assert_same(model, vectors(3))
    assert all(start is model.start for start, _ in batched(vectors(3)))


def test_a_forward_that_computes_nothing():
    model = UseModel(lambda m, s: s, cell=nn.Linear(WIDTH, WIDTH))
    sample = object()
    assert bale.batch(model)([sample])[0] is sample


def test_a_model_without_parameters():
    assert_same(UseModel(lambda m, x: x.exp().sum() + 1), vectors(3))


def test_identity_returns_the_very_input():
    assert_same(UseModel(lambda m, x: m.same(x), same=nn.Identity()), vectors(3))


def test_stacked_outputs_have_a_new_first_axis():
    model, samples = Use(lambda h, x: (h, {"sum": h.sum()})), vectors(4)
    h, rest = bale.batch(model, stacked=True)(samples)
    loop = [model(s) for s in samples]
    assert_all_close([h, rest["sum"]], [torch.stack([a for a, _ in loop]), torch.stack([b["sum"] for _, b in loop])])


def test_stacked_gradients_are_the_loops():
    model, samples = Use(lambda h, x: h.tanh()), vectors(4)
    got = torch.autograd.grad(bale.batch(model, stacked=True)(samples).square().sum(), [model.cell.weight, *samples])
    loop = torch.stack([model(s) for s in samples]).square().sum()
    assert_all_close(got, torch.autograd.grad(loop, [model.cell.weight, *samples]))


@pytest.mark.parametrize(
    ("use", "samples"),
    [
        pytest.param(lambda hs, xs: torch.stack(hs), sequences((2, 2, 3)), id="shapes"),
        pytest.param(lambda hs, xs: hs, sequences((2, 2, 3)), id="structures"),
        pytest.param(lambda hs, xs: sum(hs) if len(hs) < 3 else sum(hs) > 0, sequences((2, 2, 3)), id="dtypes"),
        pytest.param(lambda hs, xs: sum(hs) if len(hs) < 3 else None, sequences((2, 2, 3)), id="no tensor"),
    ],
)
def test_stacked_names_the_sample_that_disagrees(use, samples):
    with pytest.raises(BaleError, match="sample 2"):
        bale.batch(UseList(use), stacked=True)(samples)


def test_stacked_needs_a_sample():
    with pytest.raises(BaleError, match="at least one sample"):
        bale.batch(Tree(), stacked=True)([])
