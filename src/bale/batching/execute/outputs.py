"""Outputs: which rows do the samples' results read, and how do they become tensors in memory of their own?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bale.batching.graph import WHOLE, Spec
from bale.batching.memory.layout import Layout

if TYPE_CHECKING:
    from bale.batching.execute.memory import CallMemory
    from bale.batching.execute.reference import Arenas


@dataclass(frozen=True, eq=False)
class Group:
    """Results of one Spec: the rows they read, one result after another, as in Layout.

    shape    that of each; without the first axis where that differs, and then `lengths` int64 [members] are how long
    count    int64 [members]: of how many rows each is made
    """

    shape: tuple[int, ...]
    lengths: np.ndarray | None
    dtype: torch.dtype
    device: torch.device
    requires_grad: bool
    members: int
    arena: np.ndarray
    step: np.ndarray
    row: np.ndarray
    count: np.ndarray

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """That of every member."""
        if self.lengths is None:
            return [self.shape] * self.members
        return [(length, *self.shape) for length in self.lengths.tolist()]

    def rows_of(self, arenas: Arenas) -> list[torch.Tensor]:
        """From the reference executor's arenas, under its autograd graph."""
        gathered = arenas.gather(self.arena, self.step, self.row, self.shape)
        parts = gathered.unbind(0) if self.lengths is None else gathered.split(self.lengths.tolist())
        # a part is a view of what was taken apart; its clone is nobody's
        rows = [part.clone() for part in parts]
        return rows if self.requires_grad else [row.detach() for row in rows]

    def rows(self, memory: CallMemory) -> list[torch.Tensor]:
        """From the planned executor's arenas."""
        if not self.arena.size or 0 in self.shape:
            return [torch.empty(shape, dtype=self.dtype, device=self.device) for shape in self.shapes]
        arena, step = int(self.arena[0]), int(self.step[0])
        if (self.arena == arena).all() and (self.step == step).all():
            source, first = memory.arena(arena, step).tensor, int(self.row[0])
            if self._lies_in_pieces():
                ends = np.cumsum(self.count)
                lows = self.row[ends - self.count]
                pieces = zip(lows.tolist(), (lows + self.count).tolist(), self.shapes, strict=True)
                return [source[low:high].reshape(shape).clone() for low, high, shape in pieces]
            if (np.diff(self.row) == 1).all():
                gathered = source[first : first + self.row.size]
            else:
                gathered = source.index_select(0, torch.from_numpy(self.row).to(source.device))
        else:
            gathered = self._mixed(memory)
        apart: Any = (
            torch.unbind_copy(gathered.view(self.members, *self.shape))
            if self.lengths is None
            else torch.split_with_sizes_copy(gathered.view(-1, *self.shape), self.lengths.tolist())
        )
        return list(apart)

    def _lies_in_pieces(self) -> bool:
        """Is each result made of several rows, which follow each other?"""
        begins = np.zeros(self.row.size, bool)
        begins[np.cumsum(self.count) - self.count] = True
        return self.row.size > self.members and bool((np.diff(self.row) == 1)[~begins[1:]].all())

    def _mixed(self, memory: CallMemory) -> torch.Tensor:
        pieces = []
        for arena, step, row in zip(self.arena.tolist(), self.step.tolist(), self.row.tolist(), strict=True):
            pieces.append(memory.arena(arena, step).tensor[row].reshape(-1))
        return torch.cat(pieces)


def group_results(
    layout: Layout, values: np.ndarray, index: np.ndarray, kinds: Sequence[tuple[Spec, int | None]]
) -> tuple[list[Group], list[int]]:
    """Groups of results that look alike, and the place of each of their members among the results.

    Of every result: its value in the graph that runs, a row of it or WHOLE, its Spec and, where ragged, length.
    """
    members: dict[Any, list[int]] = {}
    for k, (spec, length) in enumerate(kinds):
        members.setdefault((spec, length is None), []).append(k)
    groups = []
    for (spec, is_whole), mine in members.items():
        lengths = None if is_whole else np.array([kinds[k][1] for k in mine], np.int64)
        entries = _entries(layout, values[mine], index[mine], len(spec.shape) + (not is_whole))
        look = spec.shape, lengths, spec.dtype, spec.device, spec.requires_grad
        groups.append(Group(*look, len(mine), *entries))
    return groups, [k for mine in members.values() for k in mine]


def _entries(layout: Layout, values: np.ndarray, index: np.ndarray, rank: int) -> tuple[np.ndarray, ...]:
    """The arena, step and row of each row that `values` (or one row of each) are made of, and how many each has."""
    arena = layout.value_arena[values].astype(np.int64)
    steps = np.ones(len(layout.arenas), np.int64)
    for k in np.unique(arena).tolist():
        inner = layout.arenas[k][0]
        steps[k] = int(np.prod(inner[: max(len(inner) - rank, 0)], dtype=np.int64))
    step = steps[arena]
    whole = index == WHOLE
    count = np.where(whole, layout.value_rows[values] * step, 1)
    first = layout.value_row[values] * step + np.where(whole, 0, index)
    ends = np.cumsum(count)
    row = np.arange(int(count.sum())) + np.repeat(first - ends + count, count)
    repeated = np.repeat(arena, count).astype(np.int32), np.repeat(step, count).astype(np.int32)
    return *repeated, row.astype(np.int64), count.astype(np.int64)
