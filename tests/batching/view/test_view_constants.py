"""What a sample brings along and parameters used directly: data, so that numbers and indices make no types."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from same import assert_same
from small import WIDTH, UseList, UseModel, sequences, vectors
from torch import nn

import bale


def linear() -> nn.Linear:
    return nn.Linear(WIDTH, WIDTH)


def types_of(use, few, many, **parts):
    """How many types `use` makes for few and for many distinct numbers."""
    return assert_same(UseModel(use, **parts), few).last.types, assert_same(UseModel(use, **parts), many).last.types


# Parameters.

PARAMETERS = {
    "h0": lambda m, x: m.cell(m.h0) + x,
    "h0 + x": lambda m, x: m.h0 + x,
    "h0 alone": lambda m, x: (m.h0 * 2, x),
    "h0.expand": lambda m, x: m.h0.expand(2, 3) + x,
    "h0[1]": lambda m, x: m.h0[1] * m.cell(x),
    "h0[1:]": lambda m, x: m.h0[1:] * m.cell(x)[1:],
    "h0 in a stack": lambda m, x: torch.stack([m.h0, m.cell(x), m.h0]),
    "h0 in a cat": lambda m, x: torch.cat([m.h0, m.cell(x)]),
    "h0 in a sum": lambda m, x: sum([m.h0, m.cell(x)]),
    "a for in h0": lambda m, x: [a * x for a in m.h0],
    "W @ h": lambda m, x: m.W[0] @ m.cell(x),
    "h @ W": lambda m, x: m.cell(x) @ m.W[1],
    "W[0].T @ h": lambda m, x: m.W[0].T @ m.cell(x),
    "W.sum": lambda m, x: m.W.sum() * x,
    "W.mT @ h": lambda m, x: m.W.mT @ m.cell(x),
    "F.linear(h, W)": lambda m, x: F.linear(m.cell(x), m.W[1], m.h0),
    "F.linear(x, W)": lambda m, x: F.linear(x, m.W[1]),
    "weight of a cell": lambda m, x: m.cell(x) @ m.cell.weight.t() + m.cell.bias,
    "W.view": lambda m, x: m.W.view(6, 3) @ x,
    "W.shape": lambda m, x: m.cell(x) * m.W.shape[0] * len(m.W) * m.W.size(1) * m.W.dim(),
    "norm of the weights": lambda m, x: sum(p.square().sum() for p in m.parameters()) + m.cell(x).sum(),
    "a scalar": lambda m, x: m.scale * m.cell(x) + m.scale,
    "scale.exp()": lambda m, x: m.scale.exp() * x,
    "numbers of a detached parameter": lambda m, x: m.cell(x) * m.scale.item(),
    "parameter.detach()": lambda m, x: m.cell(x) * m.h0.detach(),
    "parameter.data": lambda m, x: m.cell(x) * m.h0.data,
    "buffer": lambda m, x: m.cell(x) * m.mask + m.mask,
    "clone": lambda m, x: m.h0.clone() + x,
    "both parameters": lambda m, x: m.h0 * m.W[0, 1],
}


@pytest.mark.parametrize("use", [pytest.param(f, id=name) for name, f in PARAMETERS.items()])
def test_parameters_used_directly(use):
    model = UseModel(
        use, cell=linear(), h0=nn.Parameter(torch.randn(3)), W=nn.Parameter(torch.randn(2, 3, 3)),
        scale=nn.Parameter(torch.tensor(0.7)),
    )  # fmt: skip
    model.register_buffer("mask", torch.tensor([1.0, 0.0, 2.0]))
    assert_same(model, vectors(4))


def test_a_running_state_that_begins_as_a_parameter():
    def use(model, xs):
        h = model.h0
        for x in xs:
            h = torch.tanh(model.cell(h) + x)
        return h

    assert_same(UseModel(use, cell=linear(), h0=nn.Parameter(torch.randn(WIDTH))), sequences((2, 0, 3)))


def test_a_parameter_changed_in_place_by_nobody_keeps_its_identity():
    model = UseModel(lambda m, x: m.h0 if x.sum() > 0 else m.cell(x), cell=linear(), h0=nn.Parameter(torch.randn(3)))
    assert_same(model, [torch.ones(3), -torch.ones(3)])


def test_unregistered_parameters_in_a_plain_list():
    model = UseModel(lambda m, x: m.cell(x) * m.loose[0] + m.loose[1], cell=linear())
    model.loose = [torch.randn(3), torch.randn(3)]
    assert_same(model, vectors(3))


def test_an_unregistered_tensor_with_gradients():
    loose = torch.randn(WIDTH, requires_grad=True)
    model = UseModel(lambda m, sample: m.cell(sample[0]) * sample[1], cell=linear())
    assert_same(model, [(x, loose) for x in vectors(3)])


def test_a_tensor_with_gradients_in_a_closure():
    loose = torch.randn(WIDTH, requires_grad=True)
    model = UseModel(lambda m, x: m.cell(x) * loose, cell=linear())
    xs = vectors(3)
    got = torch.autograd.grad(torch.stack(bale.batch(model)(xs)).square().sum(), loose)[0]
    wanted = torch.autograd.grad(torch.stack([model(x) for x in xs]).square().sum(), loose)[0]
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)


# Constants of the sample.

CONSTANTS = {
    "int": [3, 0, -7],
    "float": [0.5, -2.25, 0.0],
    "bool": [True, False, True],
    "0-d tensor": [torch.tensor(0.5), torch.tensor(2.0)],
    "0-d integer tensor": [torch.tensor(2), torch.tensor(5)],
    "tensor": [torch.ones(3), torch.arange(3.0)],
    "0-d with gradient": [torch.tensor(0.5, requires_grad=True), torch.tensor(2.0, requires_grad=True)],
    "numpy float": [np.float64(0.5), np.float64(4.0)],
    "numpy int": [np.int64(2), np.int32(3)],
    "float32 tensor": [torch.ones(3, dtype=torch.float32), torch.zeros(3, dtype=torch.float32)],
    "int beside float": [1, 2.5, 3],
    "tensor beside int": [torch.ones(3), 2],
}


@pytest.mark.parametrize("constants", [pytest.param(c, id=name) for name, c in CONSTANTS.items()])
def test_constants_of_the_sample(constants):
    def use(model, sample):
        x, constant = sample
        return model.cell(x) * constant + constant

    assert_same(UseModel(use, cell=linear()), list(zip(vectors(len(constants)), constants, strict=True)))


def test_numpy_arrays_of_the_sample():
    def use(model, array):
        return model.cell(torch.from_numpy(array)) * torch.as_tensor(array) + torch.tensor(array)

    generator = np.random.default_rng(0)
    assert_same(UseModel(use, cell=linear()), [generator.standard_normal(3) for _ in range(3)])


def test_a_numpy_buffer_that_the_forward_fills_again_and_again():
    buffer = np.zeros(3)

    def use(model, number):
        buffer[:] = number
        return model.cell(torch.tensor(buffer))

    assert_same(UseModel(use, cell=linear()), [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda word: torch.tensor(word), id="0-d"),
        pytest.param(lambda word: torch.tensor([word]), id="1-d"),
        pytest.param(lambda word: torch.LongTensor([[word]]), id="2-d"),
        pytest.param(lambda word: torch.tensor(word, dtype=torch.int32), id="int32"),
    ],
)
def test_word_ids(make):
    last = assert_same(UseModel(lambda m, w: m.words(make(w)), words=nn.Embedding(9, WIDTH)), [1, 8, 0, 1]).last
    assert (last.types, last.batches) == (1, 1)


def test_the_lookup_by_F():
    words = nn.Parameter(torch.randn(9, WIDTH))
    model = UseModel(lambda m, w: F.embedding(torch.tensor(w), m.words), words=words)
    assert_same(model, [1, 8, 0, 1])


def test_constants_are_shared_between_samples():
    x, y = vectors(2)
    assert_same(UseModel(lambda m, sample: m.cell(sample[0]) * sample[1], cell=linear()), [(x, y), (y, x), (x, x)])


def test_zeros_made_in_the_forward():
    def use(model, xs):
        h = torch.zeros(WIDTH)
        for x in xs:
            h = model.cell(h) + x
        return h

    assert_same(UseModel(use, cell=linear()), sequences((2, 0, 3)))


# Data or type?


def test_numbers_as_operands_make_no_types():
    samples = sequences(tuple(range(1, 12)))
    few = assert_same(UseList(lambda hs, xs: hs[0] / len(hs)), samples[:2]).last.types
    assert assert_same(UseList(lambda hs, xs: hs[0] / len(hs)), samples).last.types == few


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda m, n: m.cell(m.h0) * n, id="times an int"),
        pytest.param(lambda m, n: m.cell(m.h0) * (n / 7), id="times a float"),
        pytest.param(lambda m, n: n - m.cell(m.h0), id="an int minus"),
        pytest.param(lambda m, n: m.cell(m.h0).masked_fill(torch.tensor([True, False, True]), 0.0) + n, id="plus"),
        pytest.param(lambda m, n: torch.maximum(m.cell(m.h0), torch.tensor(float(n))), id="0-d tensor"),
        pytest.param(lambda m, n: m.words(torch.tensor(n)), id="emb(id)"),
        pytest.param(lambda m, n: m.words(torch.arange(n + 1))[n], id="emb(ids)[i]"),
        pytest.param(lambda m, n: m.cell(m.words(torch.arange(n + 1))[-1]), id="emb(ids)[-1]"),
        pytest.param(lambda m, n: m.cell(m.words(torch.arange(n + 1))[n // 2]), id="emb(ids)[n // 2]"),
        pytest.param(lambda m, n: m.W[n % 9] * 2, id="W[kind]"),
        pytest.param(lambda m, n: m.W[n % 9] @ m.h0, id="W[kind] @ h"),
        pytest.param(lambda m, n: m.W[n % 9, 1], id="W[kind, 1]"),
        pytest.param(lambda m, n: m.cell(m.h0) @ m.words.weight[n % 9], id="weight[kind]"),
        pytest.param(lambda m, n: m.cell(m.h0)[n % 3], id="h[i]"),
        pytest.param(lambda m, n: m.cell(m.h0)[n % 2 : n % 2 + 2], id="h[i:i + 2]"),
        pytest.param(lambda m, n: torch.outer(m.cell(m.h0), m.h0)[n % 3, n % 2], id="matrix[i, j]"),
        pytest.param(lambda m, n: torch.outer(m.cell(m.h0), m.h0)[:, n % 3], id="matrix[:, i]"),
        pytest.param(lambda m, n: m.cell(m.h0) ** n, id="h ** n"),
        pytest.param(lambda m, n: m.cell(m.h0).pow(n), id="h.pow(n)"),
        pytest.param(lambda m, n: m.cell(m.h0).log_softmax(0)[n % 3], id="log_softmax[label]"),
        pytest.param(lambda m, n: F.cross_entropy(m.cell(m.h0), torch.tensor(n % 3)), id="cross_entropy(label)"),
    ],
)
def test_numbers_and_indices_make_no_types(use):
    parts = lambda: {  # noqa: E731
        "cell": linear(), "words": nn.Embedding(30, WIDTH), "h0": nn.Parameter(torch.rand(3)),
        "W": nn.Parameter(torch.randn(9, 3, 3)),
    }  # fmt: skip
    few = assert_same(UseModel(use, **parts()), [1, 2], policy="height").last
    many = assert_same(UseModel(use, **parts()), list(range(1, 13)), policy="height").last
    assert many.types == few.types
    assert many.batches == few.batches


def test_numbers_that_fix_shapes_are_types():
    use = lambda m, n: m.cell(m.h0).repeat(n)  # noqa: E731
    few, many = types_of(use, [1, 2], [1, 2, 3, 4], cell=linear(), h0=nn.Parameter(torch.rand(3)))
    assert many > few


def test_equal_numbers_of_other_types_keep_their_promotion():
    def use(model, number):
        return model.count(torch.tensor(0)).long() * number

    samples = [2, 2.0, True, np.float32(2.0), np.int8(2)]
    assert_same(UseModel(use, count=nn.Embedding(1, 3)), samples)
