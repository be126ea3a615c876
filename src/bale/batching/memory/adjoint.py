"""Adjoint: where does the gradient of every operand lie, and which of them does the gradient of every value sum?

The mirror of Layout. Each operand of each batch has a *block*: the rows of its gradient, written by the batch when it
runs backward. The gradient of a value is the sum of the block rows of its readers, in a fixed order: a gather, as in
the forward run, and not a scatter; so nothing is cleared, nothing is added in place, and sums are the same every time.

A kernel reads gradients where they lie, as one row or as the sum of two. Only those with more readers are summed first,
each into a row that is kept free for it in the same memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import torch
from numba import njit

from bale.batching.graph import Graph, Mode
from bale.batching.memory.layout import MOST_ROWS, Layout
from bale.batching.schedule.schedule import Schedule

Memory = tuple[torch.dtype, torch.device]


@dataclass(frozen=True)
class Block:
    """The slots of one type whose gradients lie side by side, row by row."""

    slots: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Reads:
    """Rows that something other than a batch reads: the outputs of the samples, one after another."""

    arena: np.ndarray
    step: np.ndarray
    row: np.ndarray
    start: np.ndarray  # int64 [outputs + 1]: output -> its range in these


@dataclass(frozen=True, eq=False)
class Adjoint:
    """
    memories       dtype and device of each memory; `size` its length in numbers
    block_base     int64 [batch blocks]  where each block begins in its memory, listed batch after batch
    block_start    int64 [batches + 1]   batch -> its blocks
    output_base    int64 [outputs]       the same for the outputs of the samples
    classes        arena and step of each class of rows; `class_start` int64 its first place in `start`
    start          int64 [places + 1]    place -> its readers: rows of the memory, of the width of the class
    reader         int32 [..]
    first, second  int32 [places]        the rows whose sum is the gradient of a place that has one reader or as many as
                                         kernels add (0: a row of zeros); or the row for the sum of more readers
    """

    memories: tuple[Memory, ...]
    size: tuple[int, ...]
    block_base: np.ndarray
    block_start: np.ndarray
    output_base: np.ndarray
    classes: tuple[tuple[int, int], ...]
    class_start: np.ndarray
    start: np.ndarray
    reader: np.ndarray
    first: np.ndarray
    second: np.ndarray
    crowded: np.ndarray  # int64 [places + 1]: how many places before have more than one reader
    summed: np.ndarray  # int64 [places + 1]: how many places before have a row for the sum of their readers

    def of_arena(self, arena: int) -> list[int]:
        """The classes of an arena."""
        return [k for k, (at, _) in enumerate(self.classes) if at == arena]

    def place_of(self, arena: int) -> int | None:
        """The place of an arena's first row, if its gradients are all read as rows of its own width; else None."""
        return self._places.get(arena)

    @cached_property
    def _places(self) -> dict[int, int]:
        return {arena: int(self.class_start[number]) for arena, number in only_classes(self.classes).items()}

    def single(self, low: int, high: int) -> bool:
        """Has none of these places more than one reader?"""
        return bool(self.crowded[low] == self.crowded[high])


def make_adjoint(
    graph: Graph,
    schedule: Schedule,
    layout: Layout,
    blocks: Sequence[Sequence[Block]],
    reads: Reads,
    kernels: Sequence[Sequence[int]] | None = None,
) -> Adjoint:
    """Blocks for every batch (`blocks` per type), and the readers of every row. O(gathered rows).

    The blocks of all batches of a type lie one after another, so one launch can write them all; those of outputs of the
    samples lie in the order of what they are gradients of, so that they need not be gathered where nothing is added to
    them. `kernels` says per type and output as the sum of how many rows, 1 or 2, a kernel reads its gradient where it
    lies; 0 if none does. Raises OverflowError where a memory has more rows than an int32 counts.
    """
    memories: dict[Memory, int] = {}
    memory_of_arena = [memories.setdefault((dtype, device), len(memories)) for _, dtype, device in layout.arenas]
    numel = np.array([prod(shape) for shape, _, _ in layout.arenas], np.int64)
    size = np.ones(len(memories), np.int64)
    np.maximum.at(size, memory_of_arena, numel)  # a row of zeros comes first
    table, slots = _block_table(graph, blocks, memories)
    block_start, block_base, operands = _place_blocks(
        schedule.batch_type, np.argsort(schedule.batch_type, kind="stable"), schedule.batch_start, layout.batch_rows,
        layout.gather_start, np.array([len(t.slots) for t in graph.types], np.int64), *table, slots, size,
    )  # fmt: skip
    output_base = _place_outputs(reads, numel, np.array(memory_of_arena, np.int64), size)
    classes, class_start, class_of, unit = _find_classes(layout, numel, reads)
    place = class_start[class_of] + np.concatenate([layout.gather_row, reads.row])
    class_memory = np.array([memory_of_arena[arena] for arena, _ in classes], np.int64)
    places = int(class_start[-1])
    if any(size[m] // u + places > MOST_ROWS for m, u in zip(class_memory.tolist(), unit.tolist(), strict=True)):
        raise OverflowError(
            f"the gradients of this mini-batch are {size.max()} numbers, in more rows than {MOST_ROWS}; "
            "split the mini-batch"
        )
    start, reader, crowded = _count_readers(
        layout.gather_start, layout.length_start, layout.length, operands, class_of, place, unit, output_base,
        reads.start, layout.gather_row.size, places,
    )  # fmt: skip
    added = np.zeros(places, np.int8)
    if kernels is not None:
        first_place = np.full(len(layout.arenas), -1, np.int64)
        for arena, number in only_classes(classes).items():
            first_place[arena] = class_start[number]
        by_value = graph.by_type(kernels, np.int8)
        _spread(added, by_value, layout.value_arena, layout.value_row, layout.value_rows, first_place)
    first, second, summed = _rows_to_add(start, reader, added, class_start, class_memory, unit, size)
    return Adjoint(
        tuple(memories), tuple(size.tolist()), block_base, block_start, output_base, classes, class_start, start,
        reader, first, second, crowded, summed,
    )  # fmt: skip


@njit(cache=True)
def _spread(added, of_value, value_arena, value_row, value_rows, place):
    """From values to their places, where kernels can read them: in arenas of one class, of step 1."""
    for value in range(value_arena.size):
        first = place[value_arena[value]]
        if first >= 0 and of_value[value] > 0:
            for row in range(value_row[value], value_row[value] + value_rows[value]):
                added[first + row] = of_value[value]


def only_classes(classes: tuple[tuple[int, int], ...]) -> dict[int, int]:
    """Of the arenas that are read as rows of their own width only: arena -> its class."""
    count = Counter(arena for arena, _ in classes)
    return {arena: k for k, (arena, step) in enumerate(classes) if count[arena] == 1 and step == 1}


def _block_table(
    graph: Graph, blocks: Sequence[Sequence[Block]], memories: dict[Memory, int]
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Type -> its blocks; per block its first entry among `slots`, how many, width, memory, and what it has a row for.

    `slots` are slots with whether they sum rows: side by side may lie what one node has summed and another as it is.
    """
    start, rows, slots = [0], [], []
    for node_type, of_type in zip(graph.types, blocks, strict=True):
        for block in of_type:
            spec, how = node_type.slot_specs[block.slots[0]], node_type.slots[block.slots[0]]
            per = GATHERED if how in (Mode.MAX, Mode.STACK) else NODES if how in (Mode.SUM, Mode.MEAN) else ROWS
            rows.append((len(slots), len(block.slots), prod(spec.shape), memories[spec.dtype, spec.device], per))
            slots += [(slot, node_type.slots[slot] in (Mode.SUM, Mode.MEAN)) for slot in block.slots]
        start.append(len(rows))
    return (np.array(start, np.int64), np.array(rows, np.int64).reshape(-1, 5)), np.array(slots, np.int64).reshape(
        -1, 2
    )


GATHERED, NODES, ROWS = range(3)  # a block has a row for each gathered row, each node, or each row of the launch


@njit(cache=True)
def _place_blocks(
    batch_type, by_type, batch_start, batch_rows, gather_start, slot_count, type_blocks, blocks, slots, size
):
    """Batch -> its blocks, where each begins, and per column base, stride, shift, width and whether rows are summed."""
    batches = batch_type.size
    block_start, column_start = np.zeros(batches + 1, np.int64), np.zeros(batches + 1, np.int64)
    for batch in range(batches):
        kind = batch_type[batch]
        block_start[batch + 1] = block_start[batch] + type_blocks[kind + 1] - type_blocks[kind]
        column_start[batch + 1] = column_start[batch] + slot_count[kind]
    base = np.empty(block_start[batches], np.int64)
    operands = np.zeros((5, column_start[batches]), np.int64)
    operands[0] = -1
    operands[3] = 1
    low = 0
    while low < batches:
        kind = batch_type[by_type[low]]
        high = low
        while high < batches and batch_type[by_type[high]] == kind:
            high += 1
        for number in range(type_blocks[kind + 1] - type_blocks[kind]):
            first, count, width, memory, per = blocks[type_blocks[kind] + number]
            stride = max(width * count, 1)
            at = -(-size[memory] // stride) * stride  # code counts in rows of the whole block
            for batch in by_type[low:high]:
                column = column_start[batch] + slots[first, 0]
                if per == GATHERED:
                    rows = gather_start[column + 1] - gather_start[column]
                elif per == NODES:
                    rows = batch_start[batch + 1] - batch_start[batch]
                else:
                    rows = batch_rows[batch]
                base[block_start[batch] + number] = at
                for k in range(count):
                    column = column_start[batch] + slots[first + k, 0]
                    operands[0, column], operands[1, column] = at, width * count
                    operands[2, column], operands[3, column] = k * width, max(width, 1)
                    operands[4, column] = slots[first + k, 1]
                at += rows * width * count
            size[memory] = at
        low = high
    return block_start, base, operands


def _place_outputs(reads: Reads, numel: np.ndarray, memory_of_arena: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Where the gradient of each output begins: in the order of the rows that they read."""
    base = np.zeros(reads.start.size - 1, np.int64)
    some = np.flatnonzero(np.diff(reads.start))  # the others have no rows
    first = reads.start[some]  # all rows of an output lie in one arena, in order
    arena, rows = reads.arena[first], np.diff(reads.start)[some]
    unit = np.maximum(numel[arena] // np.maximum(reads.step[first], 1), 1)
    order = np.lexsort((reads.row[first], reads.step[first], arena))
    base[some[order]] = _one_after_another(memory_of_arena[arena[order]], unit[order], rows[order], size)
    return base


@njit(cache=True)
def _one_after_another(memory, unit, rows, size):
    base = np.empty(memory.size, np.int64)
    for k in range(memory.size):
        base[k] = -(-size[memory[k]] // unit[k]) * unit[k]
        size[memory[k]] = base[k] + rows[k] * unit[k]
    return base


def _find_classes(layout: Layout, numel: np.ndarray, reads: Reads) -> tuple[Any, ...]:
    """The classes, the first place of each, the class of everything that is read, and the width of each class."""
    class_of, kinds = _classes(
        np.concatenate([layout.gather_arena, reads.arena]), np.concatenate([layout.gather_step, reads.step])
    )
    classes = tuple((int(arena), int(step)) for arena, step in kinds)
    rows = np.array([layout.arena_rows[a] * s for a, s in classes], np.int64)
    class_start = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)
    unit = np.array([max(numel[a] // max(s, 1), 1) for a, s in classes], np.int64)
    return classes, class_start, class_of, unit


@njit(cache=True)
def _classes(arena, step):
    """The class of every row, and the arena and step of every class, in order of first occurrence: there are few."""
    kinds = [(arena[0], step[0]) for _ in range(min(arena.size, 1))]
    class_of = np.zeros(arena.size, np.int64)
    known = 0
    for row in range(arena.size):
        if kinds[known] != (arena[row], step[row]):  # mostly as the row before
            known = len(kinds)
            for k in range(len(kinds)):
                if kinds[k] == (arena[row], step[row]):
                    known = k
            if known == len(kinds):
                kinds.append((arena[row], step[row]))
        class_of[row] = known
    return class_of, kinds


@njit(cache=True)
def _count_readers(gather_start, length_start, length, operands, class_of, place, unit, output_base, output_start,
                   gathered, places):  # fmt: skip
    base, stride, shift, wide, summed = operands[0], operands[1], operands[2], operands[3], operands[4]
    address = np.full(place.size, -1, np.int64)
    for column in range(base.size):
        if base[column] < 0:
            continue
        low, high = gather_start[column], gather_start[column + 1]
        if summed[column]:
            entry = low
            for node in range(length_start[column + 1] - length_start[column]):
                at = base[column] + node * stride[column] + shift[column]
                for _ in range(length[length_start[column] + node]):
                    address[entry] = at // unit[class_of[entry]]
                    entry += 1
            continue
        offset = 0
        for entry in range(low, high):
            width = unit[class_of[entry]]
            row, rest = offset // wide[column], offset % wide[column]
            address[entry] = (base[column] + row * stride[column] + shift[column] + rest) // width
            offset += width
    for output in range(output_base.size):
        offset = output_base[output]
        for entry in range(gathered + output_start[output], gathered + output_start[output + 1]):
            address[entry] = offset // unit[class_of[entry]]
            offset += unit[class_of[entry]]
    # A counting sort: readers of a place in the order of the batches that read it, outputs last.
    start = np.zeros(places + 2, np.int64)
    for entry in range(place.size):
        if address[entry] >= 0:
            start[place[entry] + 2] += 1
    for k in range(places):
        start[k + 2] += start[k + 1]
    reader = np.zeros(start[places + 1], np.int32)
    for entry in range(place.size):
        if address[entry] >= 0:
            reader[start[place[entry] + 1]] = address[entry]
            start[place[entry] + 1] += 1
    start = start[:-1]
    crowded = np.zeros(places + 1, np.int64)
    for k in range(places):
        crowded[k + 1] = crowded[k] + (start[k + 1] - start[k] > 1)
    return start, reader, crowded


@njit(cache=True)
def _rows_to_add(start, reader, added, class_start, class_memory, unit, size):
    """The rows to add for every place, and how many places before have a row for a sum; these lie at the very end."""
    places = start.size - 1
    first, second = np.zeros(places, np.int32), np.zeros(places, np.int32)
    summed = np.zeros(places + 1, np.int64)
    for number in range(unit.size):
        memory = class_memory[number]
        free = -(-size[memory] // unit[number])
        for k in range(class_start[number], class_start[number + 1]):
            count = start[k + 1] - start[k]
            needs_row = added[k] > 0 and count > added[k]
            summed[k + 1] = summed[k] + needs_row
            if needs_row:
                first[k] = free
                free += 1
                size[memory] = free * unit[number]
            elif count > 0:
                first[k] = reader[start[k]]
                if added[k] > 1 and count > 1:
                    second[k] = reader[start[k] + 1]
    return first, second, summed
