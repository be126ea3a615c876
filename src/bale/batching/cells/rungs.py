"""Rungs: the ways to run one cell for many rows, each proved against the per-row call before it is trusted.

`leading`  the call itself, on tensors with one more leading axis
`vmap`     torch.vmap of the call
`rows`     the call, row after row
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

from bale.batching.cells.call import Call, Kind
from bale.batching.cells.draws import Draw, Replay
from bale.batching.cells.hooks import without_hooks
from bale.batching.graph import Spec

Rung = Callable[[Sequence[torch.Tensor]], list[torch.Tensor]]  # columns [rows, *shape] -> outputs [rows, *shape]

PROOF_ROWS = (3, 7)  # coprime to most widths, so that a wrong broadcast fails instead of fitting by chance
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}


class ProofError(Exception):
    """A rung whose result is not that of the per-row call."""


def make_row(call: Call, ragged: Sequence[bool], tensor_outputs: Sequence[int]) -> Callable[..., list[torch.Tensor]]:
    """The call for one row. Where the user's call is ragged, one row of it is a call of length one."""
    is_ragged = any(ragged)

    def row(*tensors: torch.Tensor) -> list[torch.Tensor]:
        if is_ragged:
            tensors = tuple(t.unsqueeze(0) if r else t for t, r in zip(tensors, ragged, strict=True))
        outputs = call(*tensors)
        chosen = [outputs[k] for k in tensor_outputs]
        return [_only_row(out) for out in chosen] if is_ragged else chosen

    return row


def _only_row(out: torch.Tensor) -> torch.Tensor:
    if not out.dim() or out.shape[0] != 1:
        raise ProofError(f"from one row it makes shape {tuple(out.shape)}")
    return out.squeeze(0)


class Leading:
    """One call on columns with a leading axis.

    `align` pads operands of elementwise functions to the highest rank; `expand_shared` gives shared tensors a leading
    axis too (an initial state that is passed like any other).
    """

    name = "leading"

    def __init__(self, call: Call, tensor_outputs: Sequence[int], align: bool, expand_shared: bool = False):
        self.call, self.tensor_outputs, self.align, self.expand_shared = call, tensor_outputs, align, expand_shared
        self.launch = call.with_columns_for_shared() if expand_shared else call

    def __call__(self, columns: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        if self.expand_shared:
            columns = self.call.in_place_of_shared(columns, columns[0].shape[0])
        if self.align:
            rank = max(column.dim() for column in columns)
            columns = [_pad_rank(column, rank) for column in columns]
        outputs = self.launch(*columns)
        return [outputs[k] for k in self.tensor_outputs]


def _pad_rank(column: torch.Tensor, rank: int) -> torch.Tensor:
    missing = rank - column.dim()
    return column.reshape(column.shape[:1] + (1,) * missing + column.shape[1:]) if missing else column


class Vmap:
    name = "vmap"

    def __init__(self, row: Callable[..., list[torch.Tensor]], call: Call):
        self.row, self.state = row, call.state

    def __call__(self, columns: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        # A column that is one row expanded stays one row: a weight chosen by all nodes alike is no batch of weights.
        single = [column.dim() > 1 and column.shape[0] > 1 and column.stride(0) == 0 for column in columns]
        if all(single):
            single = [False] * len(columns)
        given = [column[0] if one else column for column, one in zip(columns, single, strict=True)]
        mapped = torch.vmap(self._stated, in_dims=tuple(None if one else 0 for one in single), randomness="different")
        return list(mapped(*given))

    def _stated(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        # vmap drops autocast, so it is entered again inside
        if not self.state.autocast:
            return tuple(self.row(*tensors))
        with self.state():
            return tuple(self.row(*tensors))


class Rows:
    name = "rows"

    def __init__(self, row: Callable[..., list[torch.Tensor]]):
        self.row = row

    def __call__(self, columns: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return self.collect([self.row(*tensors) for tensors in zip(*(c.unbind(0) for c in columns), strict=True)])

    @staticmethod
    def collect(results: Sequence[Sequence[torch.Tensor]]) -> list[torch.Tensor]:
        return [torch.stack(list(outputs)) for outputs in zip(*results, strict=True)]


def prove(rung: Rung, row: Callable[..., list[torch.Tensor]], call: Call, operands: Operands) -> None:
    """Compare `rung` with the per-row call on random columns of two lengths and two ranges, once with gradients.

    Raises ProofError with the reason. The draws of a random cell are the same on both sides.
    """
    for rows in PROOF_ROWS:
        for positive in (False, True):
            columns, numbers = operands.columns(rows, positive), operands.numbers(rows)
            with call.state(), torch.no_grad():
                _compare(_run(rung, columns, numbers), _run_rows(row, columns, numbers))
    if call.state.grad and not torch.is_inference_mode_enabled():
        with call.state(), without_hooks(operands.parameters):
            _compare_gradients(rung, row, operands)


def _run(rung: Rung, columns: Sequence[torch.Tensor], numbers: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    try:
        # a rung that warns where rows do not (vmap's "performance drop", a size that fits by chance) is not trusted
        with warnings.catch_warnings(action="error"), Replay(numbers):
            return rung(columns)
    except Exception as error:
        raise ProofError(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}") from error


def _run_rows(row: Any, columns: Sequence[torch.Tensor], numbers: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    results = []
    for k in range(columns[0].shape[0]):
        with Replay([number[k] for number in numbers]):
            results.append(row(*(column[k] for column in columns)))
    return Rows.collect(results)


def _compare(got: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> None:
    for out, want in zip(got, wanted, strict=True):
        difference = mismatch(out, want)
        if difference:
            raise ProofError(difference)


def _compare_gradients(rung: Rung, row: Any, operands: Operands) -> None:
    rows = PROOF_ROWS[0]
    columns, numbers = operands.columns(rows, positive=True), operands.numbers(rows)
    leaves = [c.requires_grad_() for c, s in zip(columns, operands.specs, strict=True) if s.requires_grad]
    sums = [alike for alike, s in zip(operands.alike, operands.specs, strict=True) if s.requires_grad]
    # a hook of the user's own must not see what is only tried
    leaves += [p for p in operands.parameters if p.requires_grad and not p._backward_hooks]
    sums += [False] * (len(leaves) - len(sums))
    try:
        wanted = _gradients(_run_rows(row, columns, numbers), leaves)
        got = _gradients(_run(rung, columns, numbers), leaves)
    except RuntimeError as error:
        raise ProofError(f"its backward fails: {error}") from error
    for a, b, one in zip(got, wanted, sums, strict=True):
        if a is None and b is None:
            continue
        if one:  # one operand for all rows: what it gets in all is what counts
            a, b = (None if g is None else g.sum(0) for g in (a, b))
        some = b if b is not None else a
        assert some is not None
        difference = mismatch(*(torch.zeros_like(some) if g is None else g for g in (a, b)))
        if difference:
            raise ProofError(f"gradients: {difference}")


def _gradients(outputs: Sequence[torch.Tensor], leaves: Sequence[torch.Tensor]) -> Sequence[torch.Tensor | None]:
    real = [torch.view_as_real(out) if out.is_complex() else out for out in outputs if out.requires_grad]
    if not real or not leaves:
        return [None] * len(leaves)
    weights = [torch.linspace(1, 2, out.numel(), dtype=out.dtype, device=out.device).view(out.shape) for out in real]
    total = torch.stack([(out * weight).sum().double() for out, weight in zip(real, weights, strict=True)]).sum()
    found = torch.autograd.grad(total, leaves, allow_unused=True)
    return [g.to_dense() if g is not None and g.layout is not torch.strided else g for g in found]


def mismatch(out: torch.Tensor, want: torch.Tensor, relative: float | None = None) -> str:
    """Why `out` is not `want`, or an empty string. `relative` to the largest magnitude; None: what its dtype allows."""
    if out.shape != want.shape:
        return f"shape {tuple(out.shape)} instead of {tuple(want.shape)}"
    if out.dtype != want.dtype:
        return f"{out.dtype} instead of {want.dtype}"
    if not (want.is_floating_point() or want.is_complex()):
        return "" if torch.equal(out, want) else "other values"
    finite = want[torch.isfinite(want)].abs()
    relative = TOLERANCE.get(want.dtype, 1e-4) if relative is None else relative
    tolerance = relative * (finite.max().item() if finite.numel() else 1.0) + 1e-12
    if torch.allclose(out, want, rtol=0.0, atol=tolerance, equal_nan=True):
        return ""
    return f"values differ by {(out - want).abs().nan_to_num(0.0).max().item():.2g} (allowed {tolerance:.2g})"


class Operands:
    """Random columns for a proof: the specs of the per-row operands, samples of the constants, and what is trained."""

    def __init__(
        self,
        specs: Sequence[Spec],
        kinds: Sequence[Kind],
        samples: Sequence[torch.Tensor | None],
        draws: Sequence[Draw],
        parameters: Sequence[torch.Tensor],
    ):
        self.specs, self.kinds, self.draws, self.parameters = specs, kinds, draws, parameters
        # of ids a copy, for their range; no sample of the user's own is kept alive
        self.samples = [None if s is None or s.is_floating_point() else s.detach().clone() for s in samples]
        self.alike = [False] * len(specs)  # operands of which all rows are the same one

    def columns(self, rows: int, positive: bool) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(rows)
        drawn = [
            self._column(spec, kind, sample, rows, positive, generator)
            for spec, kind, sample in zip(self.specs, self.kinds, self.samples, strict=True)
        ]
        return [c[:1].expand_as(c).clone() if one else c for c, one in zip(drawn, self.alike, strict=True)]

    @staticmethod
    def _column(
        spec: Spec, kind: Kind, sample: torch.Tensor | None, rows: int, positive: bool, generator: torch.Generator
    ) -> torch.Tensor:
        shape = (rows, *spec.shape)
        if spec.dtype.is_floating_point or spec.dtype.is_complex:
            column = torch.randn(shape, generator=generator, dtype=torch.float64)
            if positive:
                column = column.abs() + 0.1
            return column.to(spec.device, spec.dtype)
        if sample is not None and sample.numel():
            # integers are ids: only values that the program really uses are sure to be in range
            pool = sample.detach().reshape(-1, *spec.shape) if sample.dim() > len(spec.shape) else sample.detach()[None]
            pick = torch.randint(pool.shape[0], (rows,), generator=generator)
            return pool[pick.to(pool.device)]
        return torch.randint(2, shape, generator=generator).to(spec.device, spec.dtype)

    def numbers(self, rows: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(rows)
        return [draw(rows, generator if draw.device.type == "cpu" else None) for draw in self.draws]
