"""check: compare a batched model with the per-sample run, and name the first cell that differs."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from bale.batching.api import Batched, as_samples, batch
from bale.batching.cells.celltype import CellType
from bale.batching.engine import run_samples
from bale.batching.trace.tracer import Registry
from bale.errors import CheckError

# relative to the largest magnitude of each tensor
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 4 * 2**-7, torch.float16: 4 * 2**-10}
GRADIENT = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 16 * 2**-7, torch.float16: 16 * 2**-10}


@dataclass(frozen=True)
class Checked:
    """What was compared, and the largest difference, relative to each tensor's largest magnitude."""

    samples: int
    rows: int
    outputs: int
    gradients: int
    difference: float
    random: bool

    def __str__(self) -> str:
        counted = f"{self.samples} samples, {self.rows} rows of cells"
        if self.random:
            return f"equal: {counted} given equal draws; outputs not compared, since the model draws random numbers"
        return (
            f"equal: {counted}, {self.outputs} output tensors, {self.gradients} gradients; "
            f"largest relative difference {self.difference:.1e}"
        )


def check(model: nn.Module, samples: Iterable[Any], **kwargs: Any) -> Checked:
    """Compare every row of every batch with its cell, and all outputs and gradients with the per-sample loop.

    Works on copies: neither `model` (batched or not) nor the random state changes. Tolerances are relative to each
    tensor's largest magnitude: float64 1e-10; float32 1e-5, gradients 1e-4; half types 4 and 16 of their epsilon.

    Raises CheckError naming the first cell, output or parameter that differs.
    """
    batched = model if isinstance(model, Batched) else batch(model)
    given = as_samples(samples, batched.settings.star)
    rows, random = 0, False
    first = ""

    def watch(cell: CellType, nodes: np.ndarray, operands: Any, numbers: Any, outputs: Any) -> None:
        nonlocal rows, random, first
        count = outputs[0].shape[0]
        rows, random = rows + count, random or bool(cell.draws)
        for k in range(count if not first else 0):
            difference = cell.verify(operands, numbers, outputs, which=(k,))
            if difference:
                first = f"cell {cell.name} (rung {cell.rung_name}), row {k} of a batch of {count}: {difference}"
                return

    with torch.random.fork_rng(devices=[]):
        inner = copy.deepcopy(batched.inner)
        exact = replace(batched.settings.backend, products="float32")
        cells = batched.settings.cells.moved(batched.inner, inner)
        settings = replace(batched.settings, check="off", backend=exact, cells=cells)
        result = run_samples(inner, given, kwargs, settings, Registry(), watch=watch)
        random = random or any(cell.seeded for cell in result.trace.uses)
        if first:
            raise CheckError(
                f"{first}. The first that differs; please report it, and use bale.batch(..., check='always')"
            )
        if random:
            return Checked(len(given), rows, 0, 0, 0.0, random)
        single = copy.deepcopy(batched.inner)
        expected = [single(*s, **kwargs) if settings.star else single(s, **kwargs) for s in given]
        return _compare(result.outputs, expected, inner, single, rows)


def _compare(
    outputs: Sequence[Any], expected: Sequence[Any], inner: nn.Module, single: nn.Module, rows: int
) -> Checked:
    worst, tensors = 0.0, 0
    pairs = []
    for k, (output, want) in enumerate(zip(outputs, expected, strict=True)):
        got, spec = pytree.tree_flatten(output)
        wanted, other = pytree.tree_flatten(want)
        if spec != other:
            raise CheckError(f"sample {k}: its output has the structure {spec}, per sample {other}")
        for a, b in zip(got, wanted, strict=True):
            if isinstance(b, torch.Tensor):
                tensors += 1
                worst = max(worst, _difference(a, b, TOLERANCE, f"sample {k}: its output"))
                pairs.append((a, b))
    gradients = 0
    names = [name for name, parameter in single.named_parameters() if parameter.requires_grad]
    if names and any(b.requires_grad for _, b in pairs):
        got, wanted = _gradients(pairs, 0, inner), _gradients(pairs, 1, single)
        for name, a, b in zip(names, got, wanted, strict=True):
            gradients += 1
            worst = max(worst, _difference(a, b, GRADIENT, f"the gradient of {name}"))
    return Checked(len(outputs), rows, tensors, gradients, worst, random=False)


def _gradients(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], side: int, model: nn.Module) -> list[torch.Tensor]:
    """Of a fixed random weighting of all outputs, for every trained parameter."""
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros((), dtype=torch.float64)
    for pair in pairs:
        weights = torch.randn(pair[1].shape, generator=generator, dtype=torch.float64)
        if pair[1].requires_grad and pair[1].dtype.is_floating_point:
            total = total + (pair[side].double() * weights.to(pair[1].device)).sum().cpu()
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(total, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def _difference(got: Any, want: torch.Tensor, tolerances: dict[torch.dtype, float], what: str) -> float:
    if not isinstance(got, torch.Tensor) or got.shape != want.shape or got.dtype != want.dtype:
        raise CheckError(f"{what} is {_describe(got)}, per sample {_describe(want)}")
    if not want.dtype.is_floating_point:
        if not torch.equal(got, want):
            raise CheckError(f"{what} differs from the per-sample run")
        return 0.0
    if not want.numel():
        return 0.0
    allowed = tolerances.get(want.dtype, 1e-4)
    got, want = got.detach().double(), want.detach().double()
    scale = max(want.abs().max().item(), 1e-30)
    relative = (got - want).abs().max().item() / scale
    if not relative <= allowed and not torch.allclose(got, want, rtol=0, atol=allowed * scale, equal_nan=True):
        raise CheckError(f"{what} differs from the per-sample run by {relative:.1e} of its largest magnitude")
    return relative


def _describe(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)
