"""Account: what does a planned call move and hold? Counted from the plan, without running it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bale.batching.cells.call import Kind
from bale.batching.execute.captured_frame import early_columns, is_whole, may_lie_apart
from bale.batching.execute.memory import (
    Sources,
    common_source,
    find_sources,
    first_rows,
    numel,
    whole_gradient,
    whole_operand,
)
from bale.batching.execute.planned import PlannedCall
from bale.batching.graph import Mode, NodeType, Spec
from bale.batching.memory.adjoint import Adjoint, Block


@dataclass(frozen=True)
class Copies:
    """Copies between batches: how many, and the bytes that they write and read.

    Tests compare the bytes with those of calls that run. They are exact for float32, float64 and int64 on the CPU;
    where neither numba nor Triton runs, torch writes what it selects to memory of its own first.
    """

    launches: int = 0
    written: int = 0
    read: int = 0

    def __add__(self, other: Copies) -> Copies:
        return Copies(self.launches + other.launches, self.written + other.written, self.read + other.read)


@dataclass(frozen=True)
class TypeAccount:
    """One type's traffic, over all its batches.

    views       operands of batches that are read where they lie: consecutive rows, or rows that a kernel finds itself
    gathers     operands that are copied together first
    forward     copies of operands, and of results where the type's code cannot write them where they shall lie
    backward    copies, sums and scalings of gradients
    launches    calls of products, kernels, copies and other functions, forward and backward (a rung under autograd
                counts once)
    """

    views: int
    gathers: int
    forward: Copies
    backward: Copies
    launches: int


@dataclass(frozen=True)
class Account:
    """A call's traffic by type, and the bytes of all the memory that it takes for values and gradients."""

    types: tuple[TypeAccount, ...]
    peak_bytes: int


def account(call: PlannedCall) -> Account:
    """Count `call`. Gradients are counted where the outputs carry any.

    Not counted are what every layout needs alike: the constants of the samples, stacked once a call, and their results,
    copied out of the arenas as their gradients are copied in.
    """
    blocks = call.blocks() if call.wants_gradients else []
    adjoint = call.adjoint(blocks) if call.wants_gradients else None
    sources, early = find_sources(call.layout), call.early_slots()
    slots = np.array([len(t.slots) for t in call.graph.types], np.int64)
    columns = np.concatenate([[0], np.cumsum(slots[call.schedule.batch_type])])
    types = tuple(
        _account_type(_Counter(call, kind, sources, columns, adjoint, blocks[kind] if blocks else (), early[kind]))
        for kind in range(len(call.graph.types))
    )
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


def _account_type(counter: _Counter) -> TypeAccount:
    batches = counter.batches.size
    views, forward = counter.operands()
    gathers = forward.launches
    forward += counter.results()
    backward = counter.gradients() + counter.blocks() if counter.adjoint is not None else Copies()
    emitted = counter.emitted
    launches = batches if emitted is None else emitted.launches_of(batches, counter.early)
    return TypeAccount(views, gathers, forward, backward, launches + forward.launches + backward.launches)


class _Counter:
    """Counts one type: the mirror of its frame."""

    def __init__(self, call: PlannedCall, kind: int, sources: Sources, columns: np.ndarray, adjoint: Adjoint | None,
                 blocks: tuple[Block, ...], early: frozenset[int]):  # fmt: skip
        self.call, self.kind, self.sources, self.adjoint = call, kind, sources, adjoint
        self.layout, self.emitted, self.own_blocks = call.layout, call.emitted[kind], blocks
        self.node_type: NodeType = call.graph.types[kind]
        self.batches = np.flatnonzero(call.schedule.batch_type == kind)
        self.columns = columns[self.batches]  # of each batch the first
        self.nodes = np.diff(call.schedule.batch_start)[self.batches].tolist()
        cell = call.program.cells[kind]
        self.numbers = [number for number, of in enumerate(cell.kinds) if of is Kind.VALUE]  # slot -> column
        self.early: frozenset[int] = (
            frozenset() if self.emitted is None else early_columns(cell, self.emitted, self.node_type.slots, early)
        )
        self.rows: list[int] = call.layout.batch_rows[self.batches].tolist()

    # Forward.

    def operands(self) -> tuple[int, Copies]:
        """How many are read where they lie, and the copies of the others."""
        views, copies = 0, Copies()
        for slot, (mode, spec) in enumerate(zip(self.node_type.slots, self.node_type.slot_specs, strict=True)):
            if mode is Mode.AFTER or self._access(slot) is None:
                continue
            in_place = self._in_place(slot, mode, numel(spec.shape))
            views += sum(in_place)
            copied = Copies()
            for column, nodes, is_view in zip((self.columns + slot).tolist(), self.nodes, in_place, strict=True):
                copied += Copies() if is_view else self._operand(column, mode, spec, nodes)
            at_once = not any(in_place) and self._is_fetched_at_once(slot, mode, numel(spec.shape))
            copies += replace(copied, launches=1) if at_once else copied
        return views, copies

    def _is_fetched_at_once(self, slot: int, mode: Mode, width: int) -> bool:
        """Is the operand copied for all batches before the first?"""
        if self.emitted is None or mode is not Mode.ROW or self.numbers[slot] not in self.early:
            return False
        return common_source(self.layout, self.sources, (self.columns + slot).tolist(), width) is not None

    def _access(self, slot: int) -> object:
        """How the type's code reads a slot, None where it does not."""
        if self.emitted is None:
            return "rung"
        return self.emitted.columns[self.numbers[slot]] if slot < len(self.numbers) else None

    def _in_place(self, slot: int, mode: Mode, width: int) -> list[bool]:
        """Of every batch: is this operand read where it lies?"""
        sources, layout, columns = self.sources, self.layout, (self.columns + slot).tolist()
        access, emitted, whole_rows = self._access(slot), self.emitted, mode in (Mode.ROW, Mode.STACK)
        if emitted is None:
            return [
                whole_rows
                and self._unit(column) == width
                and (sources.consecutive[column] >= 0 or sources.constant[column])
                for column in columns
            ]
        if access == "index" and mode is Mode.ROW and common_source(layout, sources, columns, width):
            return [True] * len(columns)
        if whole_rows and is_whole(access, emitted) and whole_operand(layout, sources, columns, width):
            return [True] * len(columns)
        apart = width and may_lie_apart(self.numbers[slot], access, mode, emitted, self.early)
        if self.adjoint is None and apart:
            return [whole_operand(layout, sources, [column], width) is not None for column in columns]
        return [False] * len(columns)

    def _unit(self, column: int) -> int | None:
        """The width of the gathered rows, if they are all of one class."""
        source = self.sources.source[column]
        return None if source is None else numel(self.layout.arenas[source[0]][0]) // source[1]

    def _operand(self, column: int, mode: Mode, spec: Spec, nodes: int) -> Copies:
        """fetch_operand, or what the rung's frame does itself."""
        low, high = self.sources.low[column], self.sources.high[column]
        if low == high:
            return Copies()
        layout, unit, width = self.layout, self._unit(column), numel(spec.shape)
        if unit is not None:
            numbers = (high - low) * unit
        else:
            widths = np.array([numel(shape) for shape, _, _ in layout.arenas], np.int64)
            numbers = int((widths[layout.gather_arena[low:high]] // layout.gather_step[low:high]).sum())
        whole = numbers * spec.dtype.itemsize
        before = Copies() if unit is not None else Copies(0, 2 * whole, 2 * whole)  # picked by class, put in order
        if mode in (Mode.SUM, Mode.MEAN):
            return before + Copies(1, nodes * width * spec.dtype.itemsize, whole)
        if self.emitted is None:
            return before + (Copies(1, whole, whole) if unit is not None else Copies(1))
        return before + (Copies(1, whole, whole) if unit in (width, None) else Copies(1, 2 * whole, 2 * whole))

    def results(self) -> Copies:
        """A rung returns its outputs in memory of its own."""
        if self.emitted is not None:
            return Copies()
        bytes_per_row = sum(map(_row_bytes, self.node_type.outputs))
        moved = sum(self.rows) * bytes_per_row
        return Copies(len(self.node_type.outputs) * len(self.rows), moved, moved)

    # Backward.

    def gradients(self) -> Copies:
        """Of the outputs, from where their readers left them."""
        call, copies = self.call, Copies()
        lows = first_rows(call.graph, call.schedule, call.layout)[self.batches]
        value = call.graph.value_start[call.schedule.order[call.schedule.batch_start[self.batches[0]]]]
        for number, spec in enumerate(self.node_type.outputs):
            access = "rung" if self.emitted is None else self.emitted.gradients[number]
            if spec.requires_grad and access is not None:
                arena = int(call.layout.value_arena[value + number])
                copies += self._gradient(arena, lows[:, number].tolist(), _row_bytes(spec), access)
        return copies

    def _gradient(self, arena: int, lows: list[int], row_bytes: int, access: object) -> Copies:
        adjoint = self.adjoint
        assert adjoint is not None
        place = adjoint.place_of(arena)
        may_lie = self.emitted is not None and is_whole(access, self.emitted)
        if may_lie and whole_gradient(adjoint, arena, lows, self.rows) is not None:
            return Copies()
        copies = Copies()
        for low, rows in zip(lows, self.rows, strict=True):
            if place is None:
                copies += _from_several_classes(adjoint, arena, low, rows, row_bytes)
            elif access == "index":
                copies += _sums(adjoint, place + low, rows, row_bytes)
            else:
                read = _readers(adjoint, place + low, rows)
                copies += Copies(1, rows * row_bytes, read * row_bytes)
        return copies

    def blocks(self) -> Copies:
        """Of the operands: gradients of means are scaled, those that a rung returns are copied to where they lie."""
        copies = Copies()
        for block in self.own_blocks:
            spec, modes = self.node_type.slot_specs[block.slots[0]], [self.node_type.slots[s] for s in block.slots]
            if self.emitted is None:
                moved = sum(self._block_rows(block)) * _row_bytes(spec)
                copies += Copies(len(self.rows), moved, moved)
            for slot, mode in zip(block.slots, modes, strict=True):
                if mode is Mode.MEAN:
                    lengths = [self._lengths(column) for column in (self.columns + slot).tolist()]
                    moved = sum(int((each > 1).sum()) for each in lengths) * _row_bytes(spec)
                    copies += Copies(len(self.rows), moved, moved)
        return copies

    def _lengths(self, column: int) -> np.ndarray:
        """Of how many rows each node of a batch takes the sum or mean."""
        return self.layout.length[self.layout.length_start[column] : self.layout.length_start[column + 1]]

    def _block_rows(self, block: Block) -> list[int]:
        mode = self.node_type.slots[block.slots[0]]
        if mode in (Mode.SUM, Mode.MEAN):
            return self.nodes
        if mode in (Mode.MAX, Mode.STACK):
            columns = (self.columns + block.slots[0]).tolist()
            return [self.sources.high[column] - self.sources.low[column] for column in columns]
        return self.rows


def _readers(adjoint: Adjoint, place: int, rows: int) -> int:
    """How many rows a gather reads for the gradients of `rows` places: a row of zeros counts where nobody reads one."""
    if adjoint.single(place, place + rows):
        return rows
    return int(adjoint.start[place + rows] - adjoint.start[place])


def _sums(adjoint: Adjoint, place: int, rows: int, row_bytes: int) -> Copies:
    """sum_readers"""
    made = np.flatnonzero(np.diff(adjoint.summed[place : place + rows + 1])) + place
    if not made.size:
        return Copies()
    read = int((adjoint.start[made + 1] - adjoint.start[made]).sum())
    return Copies(1, made.size * row_bytes, read * row_bytes)


def _from_several_classes(adjoint: Adjoint, arena: int, low: int, rows: int, row_bytes: int) -> Copies:
    """fetch_gradient where rows are read in more than one way: their gradients are added class by class."""
    classes, moved, read = adjoint.of_arena(arena), rows * row_bytes, 0
    for number in classes:
        step = adjoint.classes[number][1]
        read += _readers(adjoint, int(adjoint.class_start[number]) + low * step, rows * step) * row_bytes // step
    added = max(len(classes) - 1, 0)
    return Copies(1, (len(classes) + added + 1) * moved, read + (2 * added + 1) * moved)


def _row_bytes(spec: Spec) -> int:
    return numel(spec.shape) * spec.dtype.itemsize
