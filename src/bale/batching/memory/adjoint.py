"""Adjoint: where does the gradient of every operand lie, and which of them does the gradient of every value sum?

The mirror of Layout. Each operand of each batch has a *block*: the rows of its gradient, written by the batch when it
runs backward. The gradient of a value is the sum of the block rows of its readers, in a fixed order: a gather, as in
the forward run, and not a scatter; so nothing is cleared, nothing is added in place, and sums are the same every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit

from bale.batching.fold import MODES
from bale.batching.graph import Graph, Mode
from bale.batching.memory.layout import Layout
from bale.batching.schedule.schedule import Schedule

Memory = tuple[torch.dtype, torch.device]
_SUMMED = np.array([mode in (Mode.SUM, Mode.MEAN) for mode in MODES])


@dataclass(frozen=True)
class Block:
    """The slots of one type whose gradients lie side by side, row by row."""

    slots: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Reads:
    """Rows that something other than a batch reads: the outputs of the samples, shape by shape."""

    arena: np.ndarray
    step: np.ndarray
    row: np.ndarray
    groups: tuple[tuple[int, int, int], ...]  # first entry, entries, numbers per row of the group's tensor
    memory: tuple[Memory, ...]


@dataclass(frozen=True, eq=False)
class Adjoint:
    """
    memories       dtype and device of each memory; `size` its length in numbers
    block_base     int64 [batch blocks]  where each block begins in its memory, batch after batch
    block_start    int64 [batches + 1]   batch -> its blocks
    group_base     the same for the groups of outputs
    classes        arena and step of each class of rows; `class_start` int64 its first place in `start`
    start          int64 [places + 1]    place -> its readers: rows of the memory, of the width of the class
    reader         int32 [..]
    first          int32 [places]        the only reader of a place (0: a row of zeros), where `single` says so
    """

    memories: tuple[Memory, ...]
    size: tuple[int, ...]
    block_base: np.ndarray
    block_start: np.ndarray
    group_base: np.ndarray
    classes: tuple[tuple[int, int], ...]
    class_start: np.ndarray
    start: np.ndarray
    reader: np.ndarray
    first: np.ndarray
    crowded: np.ndarray  # int64 [places + 1]: how many places before have more than one reader

    def of_arena(self, arena: int) -> list[int]:
        """The classes of an arena."""
        return [k for k, (at, _) in enumerate(self.classes) if at == arena]

    def single(self, low: int, high: int) -> bool:
        """Has none of these places more than one reader?"""
        return bool(self.crowded[low] == self.crowded[high])


def make_adjoint(
    graph: Graph, schedule: Schedule, layout: Layout, blocks: Sequence[Sequence[Block]], reads: Reads
) -> Adjoint:
    """Blocks for every batch (`blocks` per type), and the readers of every row. O(gathered rows)."""
    memories: dict[Memory, int] = {}
    memory_of_arena = [memories.setdefault((dtype, device), len(memories)) for _, dtype, device in layout.arenas]
    numel = np.array([int(np.prod(shape, dtype=np.int64)) for shape, _, _ in layout.arenas], np.int64)
    sizes = [
        int(max((numel[a] for a, m in enumerate(memory_of_arena) if m == k), default=1)) for k in range(len(memories))
    ]
    columns = layout.gather_start.size - 1
    base, stride, shift = np.full(columns, -1, np.int64), np.zeros(columns, np.int64), np.zeros(columns, np.int64)
    wide, mode = np.ones(columns, np.int64), np.zeros(columns, np.int8)
    block_base, block_start = [], [0]
    column = 0
    for batch, kind in enumerate(schedule.batch_type.tolist()):
        node_type = graph.types[kind]
        nodes = int(schedule.batch_start[batch + 1] - schedule.batch_start[batch])
        for block in blocks[kind]:
            spec, how = node_type.slot_specs[block.slots[0]], node_type.slots[block.slots[0]]
            width = int(np.prod(spec.shape, dtype=np.int64))
            memory = memories[spec.dtype, spec.device]
            first = column + block.slots[0]
            if how in (Mode.MAX, Mode.STACK):
                rows = int(layout.gather_start[first + 1] - layout.gather_start[first])
            else:
                rows = nodes if how in (Mode.SUM, Mode.MEAN) else int(layout.batch_rows[batch])
            at = _whole_rows(sizes[memory], width * len(block.slots))  # code counts in rows of the whole block
            sizes[memory] = at + rows * width * len(block.slots)
            block_base.append(at)
            for k, slot in enumerate(block.slots):
                c = column + slot
                base[c], stride[c], shift[c], wide[c] = at, width * len(block.slots), k * width, max(width, 1)
                mode[c] = MODES.index(node_type.slots[slot])
        block_start.append(len(block_base))
        column += len(node_type.slots)
    group_base = []
    for (_, _, width), memory in zip(reads.groups, reads.memory, strict=True):
        k = memories[memory]
        at = _whole_rows(sizes[k], width)
        group_base.append(at)
        first, entries, _ = reads.groups[len(group_base) - 1]
        units = numel[reads.arena[first : first + entries]] // np.maximum(reads.step[first : first + entries], 1)
        sizes[k] = at + int(units.sum())
    classes, class_start, start, reader = _readers(
        layout, numel, base, stride, shift, wide, mode, reads, np.array(group_base, np.int64)
    )
    count = np.diff(start)
    only = np.where(count > 0, reader[np.minimum(start[:-1], max(reader.size - 1, 0))] if reader.size else 0, 0)
    crowded = np.concatenate([[0], np.cumsum(count > 1)])
    return Adjoint(
        tuple(memories), tuple(sizes), np.array(block_base, np.int64), np.array(block_start, np.int64),
        np.array(group_base, np.int64), classes, class_start, start, reader, only.astype(np.int32), crowded,
    )  # fmt: skip


def _whole_rows(size: int, width: int) -> int:
    """The first place from `size` on that is a whole number of rows from the beginning."""
    width = max(width, 1)
    return -(-size // width) * width


def _readers(layout: Layout, numel: np.ndarray, base: np.ndarray, stride: np.ndarray, shift: np.ndarray,
             wide: np.ndarray, mode: np.ndarray, reads: Reads, group_base: np.ndarray):  # fmt: skip
    row = np.concatenate([layout.gather_row, reads.row])
    class_of, kinds = _classes(
        np.concatenate([layout.gather_arena, reads.arena]), np.concatenate([layout.gather_step, reads.step])
    )
    classes = tuple((int(arena), int(step)) for arena, step in kinds)
    rows = np.array([layout.arena_rows[a] * s for a, s in classes], np.int64)
    class_start = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)
    unit = np.array([max(numel[a] // max(s, 1), 1) for a, s in classes], np.int64)
    groups = np.array(reads.groups, np.int64).reshape(-1, 3)
    start, reader = _count_readers(
        layout.gather_start, layout.length_start, layout.length, base, stride, shift, wide, _SUMMED[mode],
        class_of, class_start[class_of] + row, unit, group_base, groups, layout.gather_row.size, int(class_start[-1]),
    )  # fmt: skip
    return classes, class_start, start, reader


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
def _count_readers(gather_start, length_start, length, base, stride, shift, wide, summed, class_of, place, unit,
                   group_base, groups, gathered, places):  # fmt: skip
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
    for group in range(groups.shape[0]):
        offset = group_base[group]
        for k in range(groups[group, 1]):
            entry = gathered + groups[group, 0] + k
            width = unit[class_of[entry]]
            address[entry] = offset // width
            offset += width
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
    return start[:-1], reader
