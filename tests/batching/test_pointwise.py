"""Compiled elementwise formulas equal torch's, within a stated error of tanh and sigmoid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bale.batching.cells.pointwise import FORMULAS, Load, compiled, constant, formula, kernel_text

aten = torch.ops.aten
TANH_ERROR = 3e-7  # absolute
SIGMOID_ERROR = 2e-7  # relative, from -87 on
WIDTH = 64


def run(target: Any, *operands: Tensor | float) -> Tensor:
    """One formula as a kernel over [rows, WIDTH] tensors; numbers are written into it."""
    tensors = [t for t in operands if isinstance(t, Tensor)]
    names = {id(t): f"v{k}" for k, t in enumerate(tensors)}
    loads = [(names[id(t)], Load(k, 0)) for k, t in enumerate(tensors)]
    given = [names[id(o)] if isinstance(o, Tensor) else constant(o) for o in operands]
    out = torch.full_like(tensors[0], 777.0)
    text = kernel_text(
        len(tensors) + 1, 1, loads, [f"y = {formula(target, given)}"], [(Load(len(tensors), 0), "y")], {}
    )
    rows, width = tensors[0].shape
    compiled(text)(rows, width, *(t.numpy() for t in (*tensors, out)), 0)
    return out


def numbers(seed: int) -> Tensor:
    """[rows, WIDTH]: ordinary numbers, and the special ones."""
    drawn = torch.randn(16, WIDTH, generator=torch.Generator().manual_seed(seed)) * 3
    special = torch.tensor([0.0, -0.0, 1.0, -1.0, torch.inf, -torch.inf, torch.nan, 3e38, -3e38, 1e-30])
    # each special number of one operand meets each of the other
    order = torch.arange(special.numel() ** 2)
    chosen = special[order // special.numel() if seed % 2 else order % special.numel()]
    drawn.view(-1)[: chosen.numel()] = chosen
    return drawn


ARITY = {aten.neg.default: 1, aten.sigmoid.default: 1, aten.tanh.default: 1, aten.relu.default: 1,
         aten.clone.default: 1}  # fmt: skip
APPROXIMATE = {aten.sigmoid.default, aten.tanh.default}


@pytest.mark.parametrize("target", [t for t in FORMULAS if t is not aten.threshold_backward.default], ids=str)
def test_every_formula_is_torchs(target: Any) -> None:
    operands = [numbers(seed) for seed in range(ARITY.get(target, 2))]
    if target is aten.rsub.Scalar:
        operands = [operands[0], 2.5]
    if target in (aten.sigmoid_backward.default, aten.tanh_backward.default):
        operands[1] = operands[1].clamp(-1, 1)  # what the forward function can have returned
    got, want = run(target, *operands), target(*operands)
    allowed = TANH_ERROR if target in APPROXIMATE else 0.0
    torch.testing.assert_close(got, want, rtol=4e-7, atol=allowed, equal_nan=True)


def test_a_sigmoid_is_good_relative_to_itself() -> None:
    x = torch.linspace(-87, 87, 100 * WIDTH).view(-1, WIDTH)
    want = torch.sigmoid(x.double())
    assert ((run(aten.sigmoid.default, x).double() - want).abs() / want).max() < SIGMOID_ERROR


@pytest.mark.parametrize("threshold", [0, 0.5])
def test_a_threshold_lets_the_gradient_of_nan_through_as_torch_does(threshold: float) -> None:
    gradient, x = numbers(0), numbers(1)
    want = aten.threshold_backward.default(gradient, x, threshold)
    torch.testing.assert_close(run(aten.threshold_backward.default, gradient, x, threshold), want, rtol=0, atol=0,
                               equal_nan=True)  # fmt: skip


@pytest.mark.parametrize("target", [aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor], ids=str)
@pytest.mark.parametrize("number", [0, 3, -0.1, float("inf"), float("-inf"), float("nan")])
def test_numbers_are_written_into_the_formula(target: Any, number: float) -> None:
    x = numbers(0)
    torch.testing.assert_close(run(target, x, number), target(x, number), rtol=4e-7, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("target", "function"), [(aten.tanh.default, torch.tanh), (aten.sigmoid.default, torch.sigmoid)]
)
def test_the_error_of_tanh_and_sigmoid(target: Any, function: Any) -> None:
    grid = torch.linspace(-30, 30, 2**20).view(-1, WIDTH)
    got, want = run(target, grid).double(), function(grid.double())
    assert (got - want).abs().max().item() < TANH_ERROR


@pytest.mark.parametrize(("target", "low"), [(aten.tanh.default, -1.0), (aten.sigmoid.default, 0.0)])
def test_tanh_and_sigmoid_stay_in_their_range(target: Any, low: float) -> None:
    """sqrt(1 - tanh ** 2) and log(sigmoid) must not meet a number outside their domain."""
    grid = torch.cat([torch.linspace(-30, 30, 2**20), torch.tensor([torch.inf, -torch.inf]).repeat(WIDTH // 2)])
    got = run(target, grid.view(-1, WIDTH))
    assert low <= got.min().item() and got.max().item() <= 1.0


def test_a_store_may_overwrite_what_its_own_element_was_read_from() -> None:
    x, y = numbers(0), numbers(2)
    want = y - x
    text = kernel_text(2, 1, [("a", Load(0, 0)), ("b", Load(1, 0))], ["c = b - a"], [(Load(0, 0), "c")], {})
    compiled(text)(x.shape[0], WIDTH, x.numpy(), y.numpy(), 0)
    torch.testing.assert_close(x, want, rtol=0, atol=0, equal_nan=True)


def test_a_load_finds_its_rows_and_columns() -> None:
    """Rows by number or through an index, columns in widths and a rest, one number per row, a vector for all."""
    rng = np.random.default_rng(0)
    wide, other, narrow = (rng.normal(size=(9, w)).astype(np.float32) for w in (11, 3, 1))
    vector, out = rng.normal(size=3).astype(np.float32), np.zeros((9, 3), np.float32)
    index = rng.integers(0, 9, 9)
    loads = [("a", Load(0, 0, column=2, rest=1)), ("b", Load(1, 1, indexed=True)), ("c", Load(2, 0, narrow=True)),
             ("d", Load(3, 0, vector=True))]  # fmt: skip
    text = kernel_text(5, 2, loads, ["e = a + b * c - d"], [(Load(4, 1), "e")], {1: 0})
    rows, first, at = 4, 2, 3
    compiled(text)(rows, 3, wide, other, narrow, vector, out, index, first, at)
    chosen = slice(first, first + rows)
    want = wide[chosen, 7:10] + other[index[at : at + rows]] * narrow[chosen] - vector
    np.testing.assert_allclose(out[at : at + rows], want, rtol=1e-6)
    assert not out[:at].any() and not out[at + rows :].any()
