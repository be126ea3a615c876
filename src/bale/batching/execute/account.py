"""Account: what does a planned call move and hold? Counted from the plan, without running it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bale.batching.cells.call import Kind
from bale.batching.execute.captured_frame import early_columns
from bale.batching.execute.memory import Sources, common_source, find_sources, first_rows, numel, only_places
from bale.batching.execute.planned import PlannedCall
from bale.batching.graph import Mode, Spec
from bale.batching.memory.adjoint import Adjoint


@dataclass(frozen=True)
class TypeAccount:
    """One type's traffic, over all its batches.

    views       operands of batches that are read where they lie: consecutive rows, or rows that a kernel finds itself
    gathers     operands that are copied together first
    forward     bytes written by those copies; `backward` by gathers of gradients
    launches    calls of products, kernels and other functions, forward and backward (a rung under autograd counts once)
    """

    views: int
    gathers: int
    forward: int
    backward: int
    launches: int


@dataclass(frozen=True)
class Account:
    """A call's traffic by type, and the bytes of all the memory that it takes for values and gradients."""

    types: tuple[TypeAccount, ...]
    peak_bytes: int


def account(call: PlannedCall) -> Account:
    """Count `call`. Gradients are counted where the outputs carry any."""
    blocks = call.blocks() if call.wants_gradients else []
    adjoint = call.adjoint(blocks) if call.wants_gradients else None
    sources = find_sources(call.layout)
    early = call.early_slots()
    types = tuple(_account_type(call, kind, sources, adjoint, early[kind]) for kind in range(len(call.graph.types)))
    held = sum(
        rows * numel(shape) * dtype.itemsize
        for (shape, dtype, _), rows in zip(call.layout.arenas, call.layout.arena_rows, strict=True)
    )
    if adjoint is not None:
        held += sum(size * dtype.itemsize for size, (dtype, _) in zip(adjoint.size, adjoint.memories, strict=True))
    for kind, emitted in enumerate(call.emitted):
        rows = int(call.layout.batch_rows[call.schedule.batch_type == kind].sum())
        if emitted is not None:
            held += rows * 4 * sum(emitted.buffers)
    return Account(types, held)


def _account_type(
    call: PlannedCall, kind: int, sources: Sources, adjoint: Adjoint | None, early: frozenset[int]
) -> TypeAccount:
    node_type, emitted = call.graph.types[kind], call.emitted[kind]
    batches = np.flatnonzero(call.schedule.batch_type == kind)
    slots = np.array([len(t.slots) for t in call.graph.types], np.int64)
    first = np.concatenate([[0], np.cumsum(slots[call.schedule.batch_type])])[batches]
    views = gathers = forward = 0
    accesses = _accesses(call, kind)
    for slot, (mode, spec) in enumerate(zip(node_type.slots, node_type.slot_specs, strict=True)):
        if mode is Mode.AFTER or accesses[slot] is None:
            continue
        columns = (first + slot).tolist()
        indexed = accesses[slot] == "index" and mode is Mode.ROW
        indexed = indexed and common_source(call.layout, sources, columns, numel(spec.shape)) is not None
        for column in columns:
            in_place = indexed
            if emitted is None and mode in (Mode.ROW, Mode.STACK):
                in_place = sources.consecutive[column] >= 0 or sources.constant[column]
            rows = sources.high[column] - sources.low[column]
            views, gathers = views + in_place, gathers + (not in_place)
            forward += 0 if in_place else rows * _row_bytes(spec)
    backward = 0 if adjoint is None else _backward_bytes(call, kind, batches, adjoint)
    launches = batches.size
    if emitted is not None:
        once = early_columns(call.program.cells[kind], emitted, node_type.slots, early)
        launches = emitted.launches_of(batches.size, once)
    return TypeAccount(views, gathers, forward, backward, int(launches) + gathers)


def _accesses(call: PlannedCall, kind: int) -> list[object]:
    """Per slot how the type's code reads it, None where it does not."""
    emitted, cell = call.emitted[kind], call.program.cells[kind]
    if emitted is None:
        return ["rows"] * len(cell.node_type.slots)
    return [access for access, of in zip(emitted.columns, cell.kinds, strict=True) if of is Kind.VALUE] + [None]


def _backward_bytes(call: PlannedCall, kind: int, batches: np.ndarray, adjoint: Adjoint) -> int:
    """What gathers of the gradients of this type's outputs write."""
    emitted, node_type = call.emitted[kind], call.graph.types[kind]
    rows = call.layout.batch_rows[batches].tolist()
    lows = first_rows(call.graph, call.schedule, call.layout)[batches]
    value = call.graph.value_start[call.schedule.order[call.schedule.batch_start[batches[0]]]]
    found = 0
    for number, spec in enumerate(node_type.outputs):
        access = "rows" if emitted is None else emitted.gradients[number]
        if not spec.requires_grad or access is None:
            continue
        arena = int(call.layout.value_arena[value + number])
        alone = access == "index" and only_places(adjoint, arena, lows[:, number].tolist(), rows) is not None
        found += 0 if alone else sum(rows) * _row_bytes(spec)
    return found


def _row_bytes(spec: Spec) -> int:
    return numel(spec.shape) * spec.dtype.itemsize
