"""Indexing a lazy value: whole numbers are operand offsets or data, so that no index makes a type of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bale.batching.graph import Spec
from bale.batching.trace import ragged
from bale.batching.trace.arguments import Index
from bale.batching.trace.nodes import lift
from bale.batching.trace.ref import Ref
from bale.batching.trace.tracer import Tracer


@dataclass(frozen=True)
class IndexPlan:
    """What basic indexing does to each axis: "new", "all", "one" or (length, step). Part of a type; starts are data."""

    steps: tuple[Any, ...]


def getitem(trace: Tracer, tensor: Any, index: Any) -> Any:
    """`tensor[index]`: a Ref, or the function to record and its arguments."""
    entries = tuple(map(_known, index if type(index) is tuple else (index,)))
    if type(tensor) is Ref and tensor.length is not None and len(entries) == 1:
        positions = _positions(entries[0], tensor.length)
        if positions:
            return ragged.choose_rows(trace, tensor, positions)
    table = trace.shared.get(id(tensor))
    if table is not None and entries:
        positions = _positions_in_table(trace, entries[0], table)
        if positions and all(_is_basic(entry) for entry in entries[1:]):
            rows = ragged.rows_of_table(trace, positions, table)
            entries = _expand_ellipsis((slice(None), *entries[1:]), tensor.dim())
            return rows if len(entries) == 1 else _index(trace, rows, entries)
    if not all(_is_basic(entry) for entry in entries):
        return torch.Tensor.__getitem__, (tensor, _integers(index, entries))
    entries = _expand_ellipsis(entries, tensor.dim())
    if type(tensor) is not Ref and id(tensor) not in trace.shared and entries and all(map(_is_int, entries)):
        tensor = lift(trace, tensor)
    if type(tensor) is Ref:
        return _index(trace, tensor, entries)
    plan, starts = _plan(tensor.shape, entries)
    return basic_index, (tensor, plan, *starts)


def _known(entry: Any) -> Any:
    """A whole number that the sample itself brings in a tensor is known now; arrays are tensors."""
    if isinstance(entry, np.ndarray):
        entry = torch.from_numpy(np.array(entry))
    if isinstance(entry, np.bool_):
        return bool(entry)
    if isinstance(entry, torch.Tensor) and type(entry) is not Ref and entry.dim() == 0 and not _is_mask(entry):
        return int(entry)
    return entry


def _is_mask(entry: torch.Tensor) -> bool:
    return entry.dtype in (torch.bool, torch.uint8)


def _positions(entry: Any, length: int) -> list[int] | None:
    """Which rows a list, or a sample's own tensor of positions, or mask, picks."""
    if isinstance(entry, (list, range)) and entry and all(map(_is_int, entry)):
        return [_position(position, length, 0) for position in entry]
    if not isinstance(entry, torch.Tensor) or type(entry) is Ref or entry.dim() != 1:
        return None
    if _is_mask(entry):
        return entry.nonzero().flatten().tolist() if entry.shape[0] == length else None
    return [_position(position, length, 0) for position in entry.tolist()]


def _positions_in_table(trace: Tracer, entry: Any, table: torch.Tensor) -> Sequence[int] | None:
    """Which rows of a parameter are picked, where how many may differ from sample to sample."""
    if not table.dim():
        return None
    if not isinstance(entry, slice):
        return _positions(entry, table.shape[0])
    if not _is_basic(entry) or (entry.step or 1) < 1:
        return None
    positions = range(*entry.indices(table.shape[0]))
    return positions if len(positions) in trace.lengths and len(positions) < table.shape[0] else None


def _integers(index: Any, entries: tuple[Any, ...]) -> Any:
    """The index with masks that the sample brings as positions: how many they pick is known now."""
    found: list[Any] = []
    for entry in entries:
        if not isinstance(entry, torch.Tensor) or type(entry) is Ref or not _is_mask(entry):
            found.append(entry)
        elif entry.dim():
            found += entry.nonzero(as_tuple=True)
        else:
            found.append(bool(entry))  # a new axis, of length 1 or 0
    return found[0] if type(index) is not tuple and len(found) == 1 else tuple(found)  # a list in a tuple is another


def _is_lazy_number(entry: Any) -> bool:
    return type(entry) is Ref and entry.dim() == 0 and not entry.dtype.is_floating_point and entry.dtype != torch.bool


def _is_basic(entry: Any) -> bool:
    if isinstance(entry, slice):
        return all(part is None or _is_int(part) for part in (entry.start, entry.stop, entry.step))
    return entry is None or entry is Ellipsis or _is_int(entry) or _is_lazy_number(entry)


def _is_int(entry: Any) -> bool:
    return not isinstance(entry, (bool, torch.Tensor)) and hasattr(entry, "__index__")


def _expand_ellipsis(entries: tuple[Any, ...], dims: int) -> tuple[Any, ...]:
    used = sum(entry is not None and entry is not Ellipsis for entry in entries)
    if used > dims:
        raise IndexError(f"too many indices for tensor of dimension {dims}")
    k = next((k for k, entry in enumerate(entries) if entry is Ellipsis), None)
    if k is None:
        return entries
    return entries[:k] + (slice(None),) * (dims - used) + entries[k + 1 :]


def _position(index: Any, size: int, dim: int) -> int:
    position = index.__index__()
    if not -size <= position < size:
        raise IndexError(f"index {position} is out of bounds for dimension {dim} with size {size}")
    return position % size


def _take(trace: Tracer, ref: Ref, entries: tuple[Any, ...]) -> Any:
    """Whole numbers on the first axes of a value: its rows are operands as they are."""
    if not entries:
        return ref
    if trace.outer_grad and ref.requires_grad and not torch.is_grad_enabled():
        return None  # an offset would carry gradients: let a node cut them
    if all(_is_int(entry) for entry in entries):
        for dim, entry in enumerate(entries):
            ref = _row(trace, ref, entry, dim)
        return ref
    if ref.length is None:
        return None
    if _is_int(entries[0]):  # a row, and then what of it
        return _index(trace, _row(trace, ref, entries[0], 0), entries[1:])
    if not isinstance(entries[0], slice):
        return None
    positions = range(*entries[0].indices(ref.length))
    if not positions or positions.step < 1:
        return None
    if len(entries) == 1:
        return ragged.same(ref) if positions == range(ref.length) else ragged.choose_rows(trace, ref, positions)
    if positions == range(ref.length):
        return None
    return _index(trace, ragged.choose_rows(trace, ref, positions), (slice(None), *entries[1:]))


def _index(trace: Tracer, ref: Ref, entries: tuple[Any, ...]) -> Any:
    """`ref[entries]`, in two steps where they are as many."""
    taken = _take(trace, ref, entries)
    if taken is not None:
        return taken
    plan, starts = _plan(ref.shape, entries)
    return basic_index, (ref, plan, *starts)


def _row(trace: Tracer, ref: Ref, index: Any, dim: int) -> Ref:
    trace.owns(ref)
    home, spec = ref.home, ref.spec
    if home.rows is None:
        home.rows = trace.home(Spec(tuple(ref.shape[1:]), spec.dtype, spec.device, spec.requires_grad))
    return ref[_position(index, home.axis, dim)]


def _plan(shape: torch.Size, entries: tuple[Any, ...]) -> tuple[IndexPlan, list[Any]]:
    """What to do per axis (part of the type) and where to start (data)."""
    plan: list[Any] = []
    starts: list[Any] = []
    dim = 0
    for entry in entries:
        if entry is None:
            plan.append("new")
            continue
        size = shape[dim]
        if isinstance(entry, slice):
            if (entry.step or 1) < 1:
                raise ValueError("step must be greater than zero")
            start, stop, step = entry.indices(size)
            length = len(range(start, stop, step))
            if length == size:
                plan.append("all")
            else:
                plan.append((length, step))
                starts.append(Index(start))
        else:
            plan.append("one")
            starts.append(entry if type(entry) is Ref else Index(_position(entry, size, dim)))
        dim += 1
    return IndexPlan(tuple(plan)), starts


def basic_index(tensor: torch.Tensor, plan: IndexPlan, *starts: torch.Tensor) -> torch.Tensor:
    """Basic indexing whose starting points are tensors, so that nodes with other indices share a launch."""
    given = iter(starts)
    dim = 0
    for step in plan.steps:
        if step == "new":
            tensor = tensor.unsqueeze(dim)
            dim += 1
        elif step == "all":
            dim += 1
        elif step == "one":
            position = next(given).reshape(1)
            position = torch.where(position < 0, position + tensor.shape[dim], position)
            tensor = tensor.index_select(dim, position).squeeze(dim)
        else:
            length, stride = step
            offsets = torch.arange(length, device=tensor.device) * stride
            tensor = tensor.index_select(dim, next(given) + offsets)
            dim += 1
    return tensor


@dataclass(frozen=True)
class Picks:
    """How a value that is not recorded is indexed: "number" (an operand), None, "..." or (start, stop, step)."""

    entries: tuple[Any, ...]


def pick_of(tensor: Any, index: Any) -> tuple[Any, str, tuple[Any, ...]]:
    """A function, its name and arguments for `tensor[index]`, where the tensor's shape differs from call to call."""
    entries = tuple(map(_known, index if type(index) is tuple else (index,)))
    if type(tensor) is not Ref or not all(_is_basic(entry) for entry in entries):
        return torch.Tensor.__getitem__, "__getitem__", (tensor, _integers(index, entries))
    entries = _expand_ellipsis(entries, tensor.dim())
    picks: list[Any] = []
    numbers: list[Any] = []
    dim = 0
    for entry in entries:
        if isinstance(entry, slice):
            if (entry.step or 1) < 1:
                raise ValueError("step must be greater than zero")
            picks.append((entry.start, entry.stop, entry.step))
        elif entry is None:
            picks.append(None)
            continue
        elif _is_int(entry) and tensor.shape[dim] == 1:
            _position(entry, 1, dim)
            picks.append("only")
        else:
            picks.append("number")
            numbers.append(entry if type(entry) is Ref else Index(_position(entry, tensor.shape[dim], dim)))
        dim += 1
    return pick, "basic_index", (tensor, Picks(tuple(picks)), *numbers)


def pick(tensor: torch.Tensor, picks: Picks, *numbers: torch.Tensor) -> torch.Tensor:
    """Basic indexing as `picks` say, at its true shape."""
    given = iter(numbers)
    dim = 0
    for entry in picks.entries:
        if entry is None:
            tensor = tensor.unsqueeze(dim)
            dim += 1
        elif entry == "only":
            tensor = tensor.select(dim, 0)
        elif entry == "number":
            tensor = tensor.index_select(dim, next(given).reshape(1)).squeeze(dim)
        else:
            whole = (slice(None),) * dim
            tensor = tensor[(*whole, slice(*entry))]
            dim += 1
    return tensor
