"""Memory: the arenas and adjoint memories of one call, and how a batch finds its operands and gradients in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numba import njit

from bale.batching.cells.kernels import Kernels
from bale.batching.cells.pointwise import NUMBA
from bale.batching.execute.gather import Index, Matrix, sum_crowded, take, take_pieces, take_sum
from bale.batching.execute.mixed import Mixed, find_mixed, pick
from bale.batching.graph import Graph, Mode, Spec
from bale.batching.memory.adjoint import Adjoint
from bale.batching.memory.layout import Layout
from bale.batching.schedule.schedule import Schedule


@dataclass(frozen=True, eq=False)
class Sources:
    """Per column of the layout, as lists: the class (arena, step) its rows come from, or None where it is mixed; its
    first row where they are consecutive, else -1; whether all are one row. `node_start` has the first entry of every
    node of columns with lengths, `node_first` where a column begins there."""

    source: list[tuple[int, int] | None]
    consecutive: list[int]
    constant: list[bool]
    node_start: np.ndarray
    node_first: list[int]
    low: list[int]
    high: list[int]


def find_sources(layout: Layout) -> Sources:
    code = layout.gather_arena.astype(np.int64) << 32 | layout.gather_step
    single, consecutive, constant, node_start, node_first = _find(
        layout.gather_start, code, layout.gather_row, layout.length_start, layout.length
    )
    source = [None if c < 0 else (c >> 32, c & 0xFFFFFFFF) for c in single.tolist()]
    start = layout.gather_start.tolist()
    return Sources(
        source, consecutive.tolist(), constant.tolist(), node_start, node_first.tolist(), start[:-1], start[1:]
    )  # fmt: skip


@njit(cache=True)
def _find(gather_start, code, row, length_start, length):
    columns = gather_start.size - 1
    single, consecutive = np.full(columns, -1, np.int64), np.full(columns, -1, np.int64)
    constant = np.zeros(columns, np.bool_)
    node_start, node_first = np.zeros(length.size + columns, np.int64), np.zeros(columns, np.int64)
    for column in range(columns):
        low, high = gather_start[column], gather_start[column + 1]
        one, follows, same = low < high, low < high, low < high
        for entry in range(low + 1, high):
            one = one and code[entry] == code[low]
            follows = follows and row[entry] == row[low] + entry - low
            same = same and row[entry] == row[low]
        if one:
            single[column] = code[low]
            constant[column] = same
            if follows:
                consecutive[column] = row[low]
        at = length_start[column] + column
        node_first[column] = at
        node_start[at] = low
        for k in range(length_start[column + 1] - length_start[column]):
            node_start[at + k + 1] = node_start[at + k] + length[length_start[column] + k]
    return single, consecutive, constant, node_start, node_first


def common_source(layout: Layout, sources: Sources, columns: Sequence[int], width: int) -> tuple[int, int] | None:
    """The class that the rows of all `columns` come from, where it can be read as rows of `width`."""
    source = sources.source[columns[0]]
    if source is None or any(sources.source[column] != source for column in columns):
        return None
    return source if numel(layout.arenas[source[0]][0]) // source[1] == width else None


def whole_operand(layout: Layout, sources: Sources, columns: Sequence[int], width: int) -> tuple[int, int, int] | None:
    """The class that the rows of all `columns` come from and the first row there, if they are rows of `width` that
    follow each other from column to column: then they need not be copied together."""
    source, first = sources.source[columns[0]], sources.consecutive[columns[0]]
    if source is None or first < 0 or numel(layout.arenas[source[0]][0]) // source[1] != width:
        return None
    expected = first
    for column in columns:
        if sources.source[column] != source or sources.consecutive[column] != expected:
            return None
        expected += sources.high[column] - sources.low[column]
    return *source, first


def whole_gradient(adjoint: Adjoint, arena: int, lows: Sequence[int], rows: Sequence[int]) -> int | None:
    """The first reader of the batches' rows (`rows` from each of `lows` on), if each row has one and they follow each
    other from batch to batch: then gradients need not be copied together."""
    place = adjoint.place_of(arena)
    if place is None:
        return None
    first = expected = int(adjoint.first[place + lows[0]])
    for low, n in zip(lows, rows, strict=True):
        if first == 0 or not adjoint.single(place + low, place + low + n):
            return None
        here = adjoint.first[place + low : place + low + n]
        if here[0] != expected or (np.diff(here) != 1).any():
            return None
        expected += n
    return first


def first_rows(graph: Graph, schedule: Schedule, layout: Layout) -> np.ndarray:
    """int64 [batches, most outputs]: the arena row of the first node's outputs of each batch."""
    first = schedule.order[schedule.batch_start[:-1]]
    most = max((len(t.outputs) for t in graph.types), default=0)
    value = graph.value_start[first][:, None] + np.arange(most)
    return layout.value_row[np.minimum(value, layout.value_row.size - 1)].astype(np.int64)


@dataclass(eq=False)
class CallMemory:
    """All tensors of one call. `adjoint` is None where nothing asks for gradients; `kernels` run loops over rows."""

    graph: Graph
    schedule: Schedule
    layout: Layout
    adjoint: Adjoint | None
    kernels: Kernels = NUMBA
    arenas: list[Matrix] = field(default_factory=list)
    gradients: list[torch.Tensor] = field(default_factory=list)
    _arena_views: dict[tuple[int, int], Matrix] = field(default_factory=dict)
    _gradient_views: dict[tuple[int, int], Matrix] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for (shape, dtype, device), rows in zip(self.layout.arenas, self.layout.arena_rows, strict=True):
            self.arenas.append(self.matrix(torch.empty(rows, numel(shape), dtype=dtype, device=device)))

    def matrix(self, tensor: torch.Tensor) -> Matrix:
        return Matrix(tensor, self.kernels)

    def open_gradients(self) -> None:
        """Take the adjoint memories; the row that stands for "no reader" is zero."""
        assert self.adjoint is not None
        if self.gradients:
            return
        widest = [1] * len(self.adjoint.memories)
        for shape, dtype, device in self.layout.arenas:
            k = self.adjoint.memories.index((dtype, device))
            widest[k] = max(widest[k], numel(shape))
        for (dtype, device), size, wide in zip(self.adjoint.memories, self.adjoint.size, widest, strict=True):
            memory = torch.empty(size, dtype=dtype, device=device)
            memory[:wide] = 0
            self.gradients.append(memory)

    @cached_property
    def sources(self) -> Sources:
        return find_sources(self.layout)

    @cached_property
    def device(self) -> torch.device:
        return device_of(self.layout)

    @cached_property
    def indices(self) -> dict[str, Index]:
        """All row numbers that batches read, by name: of Layout, Sources and Adjoint."""
        arrays = {
            "gather_row": self.layout.gather_row,
            "length": self.layout.length,
            "node_start": self.sources.node_start,
            "mixed_row": self.mixed.row,
            "mixed_place": self.mixed.place,
        }
        if self.adjoint is not None:
            arrays |= {name: getattr(self.adjoint, name) for name in "reader first second start summed".split()}
        handed = self.kernels.indices(list(arrays.values()), self.device)
        return {name: Index(array, self.device) for name, array in zip(arrays, handed, strict=True)}

    @cached_property
    def mixed(self) -> Mixed:
        sources, arenas = self.sources, self.layout.arenas
        spans = zip(sources.source, sources.low, sources.high, strict=True)
        columns = [(low, high) for source, low, high in spans if source is None and low < high]
        return find_mixed(self.layout, columns, lambda arena, step: numel(arenas[arena][0]) // step)

    @property
    def rows(self) -> Index:
        """The layout's gathered rows."""
        return self.indices["gather_row"]

    @cached_property
    def identity(self) -> Index:
        rows = int(self.layout.batch_rows.sum())
        longest = max([*self.layout.arena_rows, self.layout.gather_row.size, rows], default=0)
        numbers = torch.arange(longest + 1, device=self.device)
        handed = self.kernels.array(numbers)
        return Index(numbers if handed is None else handed, self.device)

    @cached_property
    def first_row(self) -> np.ndarray:
        return first_rows(self.graph, self.schedule, self.layout)

    def arena(self, number: int, step: int) -> Matrix:
        """An arena whose rows are taken apart into `step` rows each."""
        key = (number, step)
        if key not in self._arena_views:
            matrix = self.arenas[number]
            self._arena_views[key] = matrix.narrow(matrix.tensor.shape[1] // step) if step != 1 else matrix
        return self._arena_views[key]

    def gradient(self, memory: int, width: int) -> Matrix:
        """An adjoint memory as rows of `width`."""
        key = (memory, width)
        if key not in self._gradient_views:
            flat = self.gradients[memory]
            self._gradient_views[key] = self.matrix(flat[: flat.numel() // width * width].view(-1, width))
        return self._gradient_views[key]

    def memory_of(self, dtype: torch.dtype, device: torch.device) -> int:
        assert self.adjoint is not None
        return self.adjoint.memories.index((dtype, device))


def device_of(layout: Layout) -> torch.device:
    """Where a call runs: on the first device that holds any of its values and is not the CPU, if there is one."""
    devices = [device for _, _, device in layout.arenas]
    return next((device for device in devices if device.type != "cpu"), torch.device("cpu"))


def numel(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def fetch_operand(memory: CallMemory, column: int, mode: Mode, spec: Spec, nodes: int, target: Matrix, row: int,
                  at: int) -> None:  # fmt: skip
    """Write the rows of one operand of one batch to `target`, from `row` on, in the columns from `at` on."""
    sources = memory.sources
    low, high = sources.low[column], sources.high[column]
    source, width = sources.source[column], numel(spec.shape)
    if mode in (Mode.SUM, Mode.MEAN):
        mean, first = mode is Mode.MEAN, sources.node_first[column]
        if source is not None:
            given = memory.arena(*source)
            take_sum(given, memory.rows, memory.indices["node_start"].array, first, nodes, target, row, at, mean)
            return
        mixed = memory.matrix(mixed_rows(memory, low, high, width))
        starts = memory.indices["node_start"].array[first : first + nodes + 1] - low
        take_sum(mixed, memory.identity, starts, 0, nodes, target, row, at, mean)
        return
    if low == high:
        return
    if source is None:
        rows = mixed_rows(memory, low, high, width)
        target.tensor[row : row + rows.shape[0], at : at + width] = rows
        return
    given = memory.arena(*source)
    unit = given.tensor.shape[1]
    if unit == width:
        take(given, memory.rows, low, high - low, target, row, at)
    else:  # the whole of a ragged value, row after row
        rows = given.tensor.index_select(0, memory.rows.tensor[low:high]).view(-1, width)
        target.tensor[row : row + rows.shape[0], at : at + width] = rows


def fetch_all(memory: CallMemory, columns: Sequence[int], source: tuple[int, int], target: Matrix, at: int) -> None:
    """Write an operand of all these batches to `target`, batch after batch. `source`: see common_source."""
    sources = memory.sources
    low, high = (np.array([ends[column] for column in columns]) for ends in (sources.low, sources.high))
    take_pieces(memory.arena(*source), memory.rows, low, high, target, at)


def mixed_rows(memory: CallMemory, low: int, high: int, width: int) -> torch.Tensor:
    """[rows, width]: gathered rows that come from more than one class."""
    row, place = (memory.indices[name].tensor for name in ("mixed_row", "mixed_place"))
    out = pick(memory.mixed, low, lambda arena, step: memory.arena(arena, step).tensor, row, place)
    return out.view(-1, width) if width else out.view(high - low, 0)


def fetch_gradient(memory: CallMemory, arena: int, first_row: int, rows: int, target: Matrix, row: int,
                   at: int) -> None:  # fmt: skip
    """Write the gradients of `rows` rows of an arena to `target`: for each of them the sum over its readers."""
    adjoint = memory.adjoint
    assert adjoint is not None
    shape, dtype, device = memory.layout.arenas[arena]
    width, classes = numel(shape), adjoint.of_arena(arena)
    if adjoint.place_of(arena) is not None:
        _fetch_class(memory, classes[0], width, first_row, rows, target, row, at)
        return
    total = memory.matrix(torch.empty(rows, width, dtype=dtype, device=device))
    if not classes:
        total.tensor.zero_()
    for at_first, k in zip([True, *[False] * (len(classes) - 1)], classes, strict=False):
        step = adjoint.classes[k][1]
        part = total if at_first else memory.matrix(torch.empty_like(total.tensor))
        _fetch_class(memory, k, width // step, first_row * step, rows * step, part.narrow(width // step), 0, 0)
        if not at_first:
            total.tensor.add_(part.tensor)
    target.tensor[row : row + rows, at : at + width] = total.tensor


def sum_readers(memory: CallMemory, arena: int, place: int, rows: int) -> None:
    """Make the sums of the readers of those of an arena's rows, from `place` on, for which a row is kept free."""
    shape, dtype, device = memory.layout.arenas[arena]
    given = memory.gradient(memory.memory_of(dtype, device), numel(shape)).array
    reader, start, summed, first = (memory.indices[name].array for name in ("reader", "start", "summed", "first"))
    sum_crowded(given, reader, start, summed, first, place, rows)


def _fetch_class(memory: CallMemory, number: int, width: int, first: int, count: int, target: Matrix, row: int,
                 at: int) -> None:  # fmt: skip
    adjoint = memory.adjoint
    assert adjoint is not None
    _, dtype, device = memory.layout.arenas[adjoint.classes[number][0]]
    given = memory.gradient(memory.memory_of(dtype, device), max(width, 1))
    low = int(adjoint.class_start[number]) + first
    indices = memory.indices
    if adjoint.single(low, low + count):
        take(given, indices["first"], low, count, target, row, at)
    else:
        take_sum(given, indices["reader"], indices["start"].array, low, count, target, row, at)
