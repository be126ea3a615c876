"""What does each layout of memory copy for one mini-batch? Counted from plans; nothing runs.

naive            each batch copies each of its operands into memory of its own, and adds each of their gradients to that
                 of the values they came from: DyNet's way without its check whether operands lie in order
execution order  values lie in the order in which a policy runs them, and what happens to lie in order is read where it
                 is, without a copy; its gradient is not copied either, where nobody else reads those rows. So do DyNet
                 and ED-Batch, between batches
planned          bale: nodes and rows arranged for their readers, rows read through an index by kernels, gradients
                 read where their readers left them (account.py)

All three run the same batches of the same graph, equal computations merged, reductions folded into operands. A sum or
mean over values is one row written for each node, whatever it reads; backward a scatter adds its gradient to every one
of them. What a layout clears before it adds is not counted, nor what all need alike (see `account`).

Inside a cell, the first two have every operation for itself, the third a plan (cells/traffic.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

import bale
from bale.batching.engine import make_call, make_plan, trace_samples
from bale.batching.execute.account import Copies, account
from bale.batching.execute.memory import Sources, find_sources
from bale.batching.execute.outputs import group_results
from bale.batching.execute.planned import PlannedCall
from bale.batching.graph import Mode, Spec
from bale.batching.memory.layout import Layout, make_layout
from bale.batching.plans import Plans
from bale.batching.schedule import make_schedule
from bale.batching.trace.containers import restore


@dataclass(frozen=True)
class Between:
    """Of one layout: the copies between all batches of a call."""

    forward: Copies
    backward: Copies

    @property
    def written(self) -> int:
        return self.forward.written + self.backward.written


@dataclass(frozen=True)
class Inside:
    """Of one layout: what all batches of a call launch and copy inside their cells."""

    launches: int = 0
    copies: int = 0
    written: int = 0

    def __add__(self, other: Inside) -> Inside:
        return Inside(self.launches + other.launches, self.copies + other.copies, self.written + other.written)


def inside(call: PlannedCall, plan: bool) -> tuple[Inside, Inside]:
    """Forward and backward, of cells with their plan or without. A gather or a rung has no inside that is counted.

    A product that runs once for all batches counts as one of each batch here.
    """
    found = [Inside(), Inside()]
    for kind, emitted in enumerate(call.emitted):
        if emitted is None:
            continue
        batches = call.schedule.batch_type == kind
        rows = int(call.layout.batch_rows[batches].sum())
        ways = emitted.traffic.after if plan else emitted.traffic.before
        for way, count in enumerate((ways.forward, ways.backward)[: 1 + call.wants_gradients]):
            times = int(batches.sum())
            found[way] += Inside(count.launches * times, count.copies * times, count.bytes * rows)
    return found[0], found[1]


@dataclass(frozen=True)
class Column:
    """One operand of one batch. `number` is its column in the layout, `nodes` how many calls the batch has."""

    number: int
    mode: Mode
    spec: Spec
    nodes: int


def calls(batched: bale.Batched, samples: Sequence[Any]) -> tuple[PlannedCall, PlannedCall]:
    """Plan a mini-batch without running it: as bale does, and in the order in which its policy runs the nodes."""
    settings, registry = batched.settings, batched.registry
    traced = trace_samples(batched.inner, samples, {}, settings, registry)
    try:
        plan = make_plan(traced.trace, settings, Plans())
        schedule = make_schedule(plan.graph, settings.policy)
        in_order = replace(plan, schedule=schedule, layout=make_layout(plan.graph, schedule))
        values, index = traced.trace.results
        groups, order = group_results(in_order.layout, plan.reduced.value(values), index, traced.trace.kinds)
        in_order = replace(in_order, groups=groups, order=order)
        made = [make_call(traced.trace, each, settings) for each in (plan, in_order)]
    finally:
        restore(traced.held)  # what forwards left there will never be computed
    for call in made:
        call.settle()
    return made[0], made[1]


def planned(call: PlannedCall) -> Between:
    types = account(call).types
    return Between(sum((t.forward for t in types), Copies()), sum((t.backward for t in types), Copies()))


def naive(call: PlannedCall) -> Between:
    forward = backward = Copies()
    for column in columns_of(call):
        forward += gather(call.layout, column)
        if column.spec.requires_grad and call.wants_gradients:
            backward += scatter(call.layout, column)
    return Between(forward, backward)


def execution_order(call: PlannedCall) -> Between:
    sources, alone = find_sources(call.layout), read_once(call)
    forward = backward = Copies()
    for column in columns_of(call):
        low, high = rows_of(call.layout, column)
        is_view = lies_in_order(call.layout, sources, column)
        forward += Copies() if is_view else gather(call.layout, column)
        if column.spec.requires_grad and call.wants_gradients and not (is_view and alone[low:high].all()):
            backward += scatter(call.layout, column)
    return Between(forward, backward)


def columns_of(call: PlannedCall) -> Iterator[Column]:
    """All operands that are rows of values."""
    number = 0
    for kind, nodes in zip(call.schedule.batch_type.tolist(), np.diff(call.schedule.batch_start).tolist(), strict=True):
        node_type = call.graph.types[kind]
        for mode, spec in zip(node_type.slots, node_type.slot_specs, strict=True):
            column = Column(number, mode, spec, nodes)
            low, high = rows_of(call.layout, column)
            number += 1
            if mode is not Mode.AFTER and low < high:
                yield column


def gather(layout: Layout, column: Column) -> Copies:
    read = _bytes_of_rows(layout, column)
    return Copies(1, _bytes_of_nodes(column) if _is_reduced(column) else read, read)


def scatter(layout: Layout, column: Column) -> Copies:
    written = _bytes_of_rows(layout, column)
    return Copies(1, written, _bytes_of_nodes(column) if _is_reduced(column) else written)


def lies_in_order(layout: Layout, sources: Sources, column: Column) -> bool:
    """Are its rows consecutive, and as wide as the operand? A reduction also has to be one of single values."""
    source = sources.source[column.number]
    if sources.consecutive[column.number] < 0 or source is None:
        return False
    low, high = rows_of(layout, column)
    fits = prod(layout.arenas[source[0]][0]) // source[1] == prod(column.spec.shape)
    return fits and (not _is_reduced(column) or high - low == column.nodes)


def read_once(call: PlannedCall) -> np.ndarray:
    """bool [gathered]: does nothing else, no operand and no result of a sample, read the row?"""
    layout = call.layout
    results = {name: [getattr(group, name) for group in call.groups] for name in ("arena", "step", "row")}
    arena, step, row = (
        np.concatenate([mine, *results[name]]).astype(np.int64)
        for name, mine in (("arena", layout.gather_arena), ("step", layout.gather_step), ("row", layout.gather_row))
    )
    own = row // np.maximum(step, 1)  # the row of the arena: one that is read in parts has readers for each
    key = np.stack([arena, own], 1)
    _, which, count = np.unique(key, axis=0, return_inverse=True, return_counts=True)
    parts = count[which.reshape(-1)] // np.maximum(step, 1)
    return parts[: layout.gather_row.size] <= 1


def rows_of(layout: Layout, column: Column) -> tuple[int, int]:
    return int(layout.gather_start[column.number]), int(layout.gather_start[column.number + 1])


def _is_reduced(column: Column) -> bool:
    return column.mode in (Mode.SUM, Mode.MEAN, Mode.MAX)


def _bytes_of_nodes(column: Column) -> int:
    return column.nodes * prod(column.spec.shape) * column.spec.dtype.itemsize


def _bytes_of_rows(layout: Layout, column: Column) -> int:
    low, high = rows_of(layout, column)
    widths = np.array([prod(shape) for shape, _, _ in layout.arenas], np.int64)
    numbers = widths[layout.gather_arena[low:high]] // np.maximum(layout.gather_step[low:high], 1)
    return int(numbers.sum()) * column.spec.dtype.itemsize
