"""Layout: the row of every value, and the rows that every operand gathers. A Schedule becomes memory."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import accumulate
from operator import mul

import numpy as np
import torch
from numba import njit

from bale.batching.fold import MODES, slot_modes
from bale.batching.graph import WHOLE, Graph, Mode
from bale.batching.schedule.schedule import Schedule

_STACK, _ROW, _AFTER = (MODES.index(mode) for mode in (Mode.STACK, Mode.ROW, Mode.AFTER))

Storage = tuple[tuple[int, ...], torch.dtype, torch.device]

MOST_ROWS = (1 << 31) - 1  # a row is an int32, here and in the adjoint: half as much to read


@dataclass(frozen=True, eq=False)
class Layout:
    """Where every value lies and what every operand of every batch reads.

    arenas         per arena the shape, dtype and device of its rows
    arena_rows     how many rows each arena has
    value_arena    int32 [values]      the arena of each value
    value_row      int32 [values]      its first row there
    value_rows     int32 [values]      how many rows it has: 1, or the length of its ragged axis
    batch_rows     int32 [batches]     rows that the batch's launch computes
    gather_start   int64 [columns + 1] column -> its range in the three arrays below; columns are the slots of the
                                       first batch's type, then the second's, ...
    gather_arena   int32 [gathered]    the arena that a row comes from
    gather_step    int32 [gathered]    rows of the gather per row of the arena (1, or what its leading axes hold)
    gather_row     int64 [gathered]    the row, counted in such steps
    length_start   int64 [columns + 1] column -> its range in `length`
    length         int32 [..]          rows per node, for columns that are ragged or reduced
    """

    arenas: tuple[Storage, ...]
    arena_rows: tuple[int, ...]
    value_arena: np.ndarray
    value_row: np.ndarray
    value_rows: np.ndarray
    batch_rows: np.ndarray
    gather_start: np.ndarray
    gather_arena: np.ndarray
    gather_step: np.ndarray
    gather_row: np.ndarray
    length_start: np.ndarray
    length: np.ndarray

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Layout):
            return NotImplemented
        return (self.arenas, self.arena_rows) == (other.arenas, other.arena_rows) and all(
            np.array_equal(getattr(self, field.name), getattr(other, field.name)) for field in fields(self)[2:]
        )

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return (
            f"Layout: {self.value_row.size} values in {len(self.arenas)} arenas, {self.gather_row.size} rows gathered"
        )


def make_layout(graph: Graph, schedule: Schedule) -> Layout:
    """Rows in execution order, one arena per shape, dtype and device, so that a batch writes slices.

    Inside an arena, outputs that meet in one operand lie together, apart from others: the h of a chain's steps are one
    run of rows, and those of the next step are as many of them as go on. O(nodes + gathered rows).

    Raises OverflowError where an arena has more rows than an int32 counts.
    """
    arenas: dict[Storage, int] = {}
    arena_of_type = [[arenas.setdefault(out.storage, len(arenas)) for out in t.outputs] for t in graph.types]
    value_arena = graph.by_type(arena_of_type, np.int32)
    is_ragged = graph.by_type([[out.ragged for out in t.outputs] for t in graph.types], bool)
    value_rows = np.where(is_ragged, graph.rows[graph.value_node], 1).astype(np.int32)
    first_output, region = _regions(graph, arena_of_type)
    value_row, batch_rows, arena_rows = _place_values(
        schedule.order, schedule.batch_start, schedule.batch_type, graph.value_start, graph.rows, value_arena,
        value_rows, first_output, region, len(arenas),
    )  # fmt: skip
    if arena_rows.max(initial=0) > MOST_ROWS:
        raise OverflowError(
            f"{arena_rows.max()} values of this mini-batch have one shape, and bale counts to {MOST_ROWS}; "
            "split the mini-batch"
        )
    shapes = [shape for shape, _, _ in arenas]
    mode, rank = slot_modes(graph)
    gathers = _gather(
        schedule.order, schedule.batch_start, graph.rows, graph.slot_start, graph.part_start, graph.part_value,
        graph.part_index, value_arena, value_row, value_rows, mode, rank, _repeats(graph),
        np.array([len(shape) for shape in shapes], np.int32), _axis_products(shapes),
    )  # fmt: skip
    return Layout(tuple(arenas), tuple(arena_rows.tolist()), value_arena, value_row, value_rows, batch_rows, *gathers)


def _repeats(graph: Graph) -> np.ndarray:
    """bool [nodes]: a ragged node repeats its one-row operands for each of its rows."""
    repeats = [any(spec.ragged for spec in t.slot_specs) and any(out.ragged for out in t.outputs) for t in graph.types]
    return np.array(repeats, bool)[graph.type]


def _axis_products(shapes: list[tuple[int, ...]]) -> np.ndarray:
    """int64 [arenas, ranks]: the product of the first k axes of each arena's rows."""
    deepest = max((len(shape) for shape in shapes), default=0) + 1
    rows = []
    for shape in shapes:
        products = list(accumulate(shape, mul, initial=1))
        rows.append(products + products[-1:] * (deepest - len(products)))
    return np.array(rows, np.int64).reshape(len(shapes), deepest)


def _regions(graph: Graph, arena_of_type: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Type -> the number of its first output; output -> the region of its arena in which its values lie.

    A region has the number of the first output that is in it.
    """
    outputs = np.array([len(t.outputs) for t in graph.types], np.int64)
    slots = np.array([len(t.slots) for t in graph.types], np.int64)
    arena = np.array([number for of_type in arena_of_type for number in of_type], np.int64)
    first_output, first_slot = np.cumsum(outputs) - outputs, np.cumsum(slots) - slots
    region = _unite(
        graph.type, graph.slot_start, graph.part_start, graph.part_value, graph.value_start, first_output, first_slot,
        int(slots.sum()), arena,
    )  # fmt: skip
    return first_output, region


@njit(cache=True)
def _unite(types, slot_start, part_start, part_value, value_start, first_output, first_slot, slots, arena):
    """Output -> the first of those of its arena that it meets in an operand, over others too."""
    output = np.empty(value_start[-1], np.int32)  # of its type, which a value is
    for node in range(types.size):
        for value in range(value_start[node], value_start[node + 1]):
            output[value] = first_output[types[node]] + value - value_start[node]
    parent = np.arange(arena.size)
    arenas = arena.max() + 1 if arena.size else 0
    seen = np.full((slots, arenas), -1, np.int64)  # one output of each arena that a slot reads
    for node in range(types.size):
        for k in range(slot_start[node + 1] - slot_start[node]):
            slot = first_slot[types[node]] + k
            last = np.int64(-1)
            for part in range(part_start[slot_start[node] + k], part_start[slot_start[node] + k + 1]):
                mine = np.int64(output[part_value[part]])
                if mine == last:
                    continue
                last = mine
                other = seen[slot, arena[mine]]
                seen[slot, arena[mine]] = mine
                if other < 0 or other == mine:
                    continue
                while parent[mine] != mine:
                    mine = parent[mine]
                while parent[other] != other:
                    other = parent[other]
                parent[max(mine, other)] = min(mine, other)
    for each in range(arena.size):  # parents are smaller: settled before
        parent[each] = parent[parent[each]]
    return parent


@njit(cache=True)
def _place_values(order, batch_start, batch_type, value_start, rows, value_arena, value_rows, first_output, region,
                  arenas):  # fmt: skip
    batches = batch_start.size - 1
    size, arena_of = np.zeros(region.size, np.int64), np.full(region.size, -1, np.int64)
    for batch in range(batches):
        for node in order[batch_start[batch] : batch_start[batch + 1]]:
            for value in range(value_start[node], value_start[node + 1]):
                here = region[first_output[batch_type[batch]] + value - value_start[node]]
                size[here] += value_rows[value]
                arena_of[here] = value_arena[value]
    top, arena_rows = np.zeros(region.size, np.int64), np.zeros(arenas, np.int64)
    for here in range(region.size):  # regions of an arena lie one after another
        if arena_of[here] >= 0:
            top[here] = arena_rows[arena_of[here]]
            arena_rows[arena_of[here]] += size[here]
    row = np.zeros(value_arena.size, np.int32)
    batch_rows = np.zeros(batches, np.int32)
    for batch in range(batches):
        nodes = order[batch_start[batch] : batch_start[batch + 1]]
        first = nodes[0]
        for node in nodes:
            batch_rows[batch] += rows[node]
        # output by output, so that each output of a batch is one slice
        for output in range(value_start[first + 1] - value_start[first]):
            here = region[first_output[batch_type[batch]] + output]
            for node in nodes:
                value = value_start[node] + output
                row[value] = top[here]
                top[here] += value_rows[value]
    return row, batch_rows, arena_rows


@njit(cache=True)
def _gather(order, batch_start, rows, slot_start, part_start, part_value, part_index, value_arena, value_row,
            value_rows, mode, rank, repeats, arena_rank, products):  # fmt: skip
    columns = 0
    for batch in range(batch_start.size - 1):
        first = order[batch_start[batch]]
        columns += slot_start[first + 1] - slot_start[first]
    start, length_start = np.zeros(columns + 1, np.int64), np.zeros(columns + 1, np.int64)
    arena, step, row = [np.int32(0) for _ in range(0)], [np.int32(0) for _ in range(0)], [np.int64(0) for _ in range(0)]
    length = [np.int32(0) for _ in range(0)]
    column = 0
    for batch in range(batch_start.size - 1):
        nodes = order[batch_start[batch] : batch_start[batch + 1]]
        first = nodes[0]
        for k in range(slot_start[first + 1] - slot_start[first]):
            kind = mode[slot_start[first] + k]
            for node in nodes:
                slot = slot_start[node] + k
                if kind == _AFTER:
                    continue
                begin = len(row)
                times = rows[node] if kind == _ROW and repeats[node] else 1
                for _ in range(times):
                    for part in range(part_start[slot], part_start[slot + 1]):
                        value = part_value[part]
                        at = value_arena[value]
                        # axes of the arena's rows that lie before the rows that are gathered
                        leading = max(arena_rank[at] - rank[slot], 0)
                        factor = products[at, leading]
                        if part_index[part] != WHOLE:
                            arena.append(at)
                            step.append(factor)
                            row.append(value_row[value] * factor + part_index[part])
                        else:
                            for i in range(value_rows[value] * factor):
                                arena.append(at)
                                step.append(factor)
                                row.append(value_row[value] * factor + i)
                if kind != _ROW:
                    length.append(np.int32(len(row) - begin))
            column += 1
            start[column] = len(row)
            length_start[column] = len(length)
    return (
        start,
        np.array(arena, np.int32),
        np.array(step, np.int32),
        np.array(row, np.int64),
        length_start,
        np.array(length, np.int32),
    )
