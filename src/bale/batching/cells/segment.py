"""Gathers and reductions over lists of any length: identity cells whose work is done by their operand slots."""

from __future__ import annotations

from collections.abc import Callable

import torch

from bale.batching.cells.call import Kind
from bale.batching.cells.celltype import CellType
from bale.batching.cells.probe import OutputLeaf
from bale.batching.graph import Mode, NodeType, Spec

REDUCTIONS = {"sum": Mode.SUM, "mean": Mode.MEAN, "amax": Mode.MAX}


def segment_reduce(rows: torch.Tensor, segment: torch.Tensor, segments: int, mode: Mode) -> torch.Tensor:
    """[rows, *shape], int64 [rows] -> [segments, *shape]. Differentiable twice; every segment has a row."""
    if mode is Mode.MAX:
        index = _expand(segment, rows)
        # scatter_reduce's backward shares the gradient with equal entries of `start`, even where it excludes them from
        # the forward: so it must equal nothing
        empty = float("nan") if rows.dtype.is_floating_point else 0
        start = torch.full((segments, *rows.shape[1:]), empty, dtype=rows.dtype, device=rows.device)
        return start.scatter_reduce(0, index, rows, "amax", include_self=False)
    total = rows.new_zeros((segments, *rows.shape[1:])).index_add(0, segment, rows)
    if mode is Mode.MEAN:
        count = torch.bincount(segment, minlength=segments).to(rows.dtype)
        total = total / count.view(-1, *[1] * (rows.dim() - 1))
    return total


def _expand(segment: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return segment.view(-1, *[1] * (rows.dim() - 1)).expand_as(rows)


def softmax(rows: torch.Tensor, segment: torch.Tensor, segments: int) -> tuple[torch.Tensor]:
    top = segment_reduce(rows.detach(), segment, segments, Mode.MAX)
    weights = (rows - top.index_select(0, segment)).exp()
    return (weights / segment_reduce(weights, segment, segments, Mode.SUM).index_select(0, segment),)


def log_softmax(rows: torch.Tensor, segment: torch.Tensor, segments: int) -> tuple[torch.Tensor]:
    return (rows - logsumexp(rows, segment, segments)[0].index_select(0, segment),)


def logsumexp(rows: torch.Tensor, segment: torch.Tensor, segments: int) -> tuple[torch.Tensor]:
    top = segment_reduce(rows.detach(), segment, segments, Mode.MAX)
    shifted = (rows - top.index_select(0, segment)).exp()
    return (segment_reduce(shifted, segment, segments, Mode.SUM).log() + top,)


def maximum(rows: torch.Tensor, segment: torch.Tensor, segments: int) -> tuple[torch.Tensor, torch.Tensor]:
    return _extreme(rows, segment, segments, rows.detach())


def minimum(rows: torch.Tensor, segment: torch.Tensor, segments: int) -> tuple[torch.Tensor, torch.Tensor]:
    return _extreme(rows, segment, segments, -rows.detach())


def _extreme(
    rows: torch.Tensor, segment: torch.Tensor, segments: int, key: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    # the first row that holds the extreme: the gradient goes there alone, as torch.max(dim) sends it
    top = segment_reduce(key, segment, segments, Mode.MAX).index_select(0, segment)
    position = torch.arange(rows.shape[0], device=rows.device)
    index = _expand(position, rows)
    candidate = torch.where((key == top) | key.isnan(), index, rows.shape[0])
    first = torch.full((segments, *rows.shape[1:]), rows.shape[0], device=rows.device)
    first = first.scatter_reduce(0, _expand(segment, rows), candidate, "amin", include_self=True)
    start = torch.full((segments,), rows.shape[0], device=rows.device).scatter_reduce(0, segment, position, "amin")
    return rows.gather(0, first), first - start.view(-1, *[1] * (rows.dim() - 1))


KERNELS: dict[str, Callable[..., tuple[torch.Tensor, ...]]] = {
    "softmax": softmax,
    "log_softmax": log_softmax,
    "logsumexp": logsumexp,
    "max": maximum,
    "min": minimum,
}
KEEPS_ROWS = ("softmax", "log_softmax")


def identity_type(name: str, mode: Mode, spec: Spec, grad: bool) -> CellType:
    """A node that only gathers: `stack` (ragged), or a reduction of its parts to one row. `grad`: is it recorded?"""
    ragged = mode is Mode.STACK
    out = Spec(spec.shape, spec.dtype, spec.device, spec.requires_grad and grad, ragged)
    node_type = NodeType(name, (mode,), (spec,), (out,))
    return CellType(
        name, node_type, (Kind.VALUE,), (ragged,), (None,), None, (OutputLeaf(out),), None, "gather", ragged=ragged
    )


def constant_type(spec: Spec) -> CellType:
    """A tensor of the sample's own that stands where a node's value is expected."""
    node_type = NodeType("constant", (), (), (spec,))
    return CellType(
        "constant", node_type, (Kind.CONST,), (spec.ragged,), (None,), None, (OutputLeaf(spec),), None, "gather",
        ragged=spec.ragged,
    )  # fmt: skip


def kernel_type(name: str, spec: Spec, grad: bool) -> CellType:
    """A reduction or normalisation along the ragged axis that needs all rows of a segment at once."""
    keeps = name in KEEPS_ROWS
    out = Spec(spec.shape, spec.dtype, spec.device, spec.requires_grad and grad, keeps)
    outputs = [OutputLeaf(out)]
    if name in ("max", "min"):
        outputs.append(OutputLeaf(Spec(spec.shape, torch.int64, spec.device)))
    node_type = NodeType(name, (Mode.STACK,), (spec,), tuple(leaf.tensor for leaf in outputs if leaf.tensor))
    return CellType(
        name, node_type, (Kind.VALUE,), (True,), (None,), None, tuple(outputs), KERNELS[name], "segments",
        ragged=keeps, segments=True,
    )  # fmt: skip
