"""CapturedFrame: batches of a type run by the code of its captured cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from bale.batching.cells.backend import Backend
from bale.batching.cells.celltype import CellType
from bale.batching.cells.emit import Emitted, paired_gradient
from bale.batching.cells.places import Place
from bale.batching.cells.products import joins
from bale.batching.execute.frame import Frame, Gradients, Views, slots_of_columns
from bale.batching.execute.gather import Matrix
from bale.batching.execute.launch import is_compared
from bale.batching.execute.memory import (
    common_source,
    fetch_all,
    fetch_gradient,
    fetch_operand,
    numel,
    sum_readers,
    whole_gradient,
    whole_operand,
)
from bale.batching.graph import Mode, Spec
from bale.batching.memory.adjoint import Block

Access = tuple[Any, Any, list[int]]  # an array, rows of it, and where each batch begins among them
Sums = tuple[Any, Any, list[int], Any]  # the same, and the rows that may be added to those


def captured_blocks(cell: CellType, emitted: Emitted) -> tuple[Block, ...]:
    """Blocks of operands that are nodes; gradients of constants lie elsewhere."""
    slot_of, found = slots_of_columns(cell), []
    for columns in emitted.blocks:
        members = [slot_of[c] for c in columns]
        if all(slot is not None for slot in members):
            found.append(Block(tuple(slot for slot in members if slot is not None)))
    return tuple(found)


def early_columns(cell: CellType, emitted: Emitted, modes: Sequence[Mode], early: frozenset[int]) -> frozenset[int]:
    """The columns whose products run once for the rows of all batches; `early` are slots, `modes` how they are read."""
    slot_of = slots_of_columns(cell)

    def is_there(column: int) -> bool:
        slot = slot_of[column]
        return slot is None or (slot in early and modes[slot] is Mode.ROW)

    return frozenset(filter(is_there, emitted.early))


def is_whole(access: Any, emitted: Emitted) -> bool:
    """Is what is read so a tensor of its own, or all of a buffer that is never written over?"""
    if not isinstance(access, Place):
        return access == "rows"
    number = access.home[1]
    return access.width == emitted.buffers[number] and number not in emitted.overwritten


def may_lie_apart(number: int, access: Any, mode: Mode, emitted: Emitted, early: frozenset[int]) -> bool:
    """Does the forward run read this column batch by batch only, wherever its rows lie?"""
    return (
        access == "rows" and mode in (Mode.ROW, Mode.STACK) and number not in early and number not in emitted.by_kernels
    )


def rows_added(accesses: Sequence[Any]) -> list[int]:
    """Per output as the sum of how many rows kernels read its gradient where it lies; 0 if none does."""
    paired = paired_gradient(accesses)
    return [(1 + (k == paired)) * (access == "index") for k, access in enumerate(accesses)]


class CapturedFrame(Frame):
    """Runs the code of a captured cell. Its attributes are what that code reads."""

    def __init__(self, *args: Any, emitted: Emitted, early_slots: frozenset[int], backend: Backend):
        """`early_slots`: those whose operands are there for all batches before the first."""
        super().__init__(*args)
        self.emitted, self.backend = emitted, backend
        self.early = early_columns(self.cell, emitted, self.node_type.slots, early_slots)
        self.blocks_of = captured_blocks(self.cell, emitted)
        self.device = self.cell.device
        self.buffers = [torch.empty(self.total, w, dtype=torch.float32, device=self.device) for w in emitted.buffers]
        self.reads = emitted.captured.read_tensors
        self.numbers = self.program.columns.numbers(self.cell, self.site.nodes)
        self.constants = iter(self.program.columns.of(self.cell, self.site.nodes))
        self.constant_columns: list[tuple[int, torch.Tensor]] = []
        self.fetches: list[Callable[[int], None]] = []
        self.early_fetches: list[Callable[[], None]] = []  # of all batches, before the first
        self.gradient_fetches: list[Callable[[int], None]] = []
        self.pieces: dict[int, list[torch.Tensor]] = {}  # memory that was to be copied to -> what lies elsewhere
        self.columns: list[Any] = []
        self.indexed_columns: list[Any] = []
        for number, access in enumerate(emitted.columns):
            full, indexed = self._open_column(number, access)
            self.columns.append(full)
            self.indexed_columns.append(indexed)
        self.outputs = [
            Views(self.memory.arenas[arena].tensor.view(-1), spec.shape, self.rows, lows, numel(spec.shape))
            for arena, spec, lows in zip(self.output_arenas, self.node_type.outputs, self.output_rows, strict=False)
        ]
        self.outputs_memory = [
            (self.memory.arenas[arena].array, rows)
            for arena, rows in zip(self.output_arenas, self.output_rows, strict=False)
        ]
        self.kept: dict[str, Any] = {}
        self._forward: Any = None
        self._backward: Any = None

    def pack(self, weight: torch.Tensor) -> torch.Tensor:
        """The transpose of a weight, copied where enough batches profit from rows that lie one after another."""
        return self.backend.pack(weight, len(self.rows))

    def joins(self, numbers: int) -> bool:
        """Does it pay to join weights of so many numbers for the batches of this call?"""
        return joins(len(self.rows), numbers)

    # Forward.

    def _open_column(self, number: int, access: Any) -> tuple[Any, Any]:
        slot = self.slot_of[number]
        if slot is None:
            constant = next(self.constants)
            if constant.requires_grad:
                self.constant_columns.append((number, constant))
            constant = constant.detach()
            if isinstance(access, Place):
                self.buffers[access.home[1]][:, access.column : access.column + access.width] = constant
            return constant, None
        if access is None:
            return None, None
        spec, mode = self.node_type.slot_specs[slot], self.node_type.slots[slot]
        width = numel(spec.shape)
        if access == "index" and mode is Mode.ROW:
            indexed = self._index(slot, width)
            if indexed is not None:
                return None, indexed
        if mode in (Mode.ROW, Mode.STACK) and is_whole(access, self.emitted):
            whole = self._whole(slot, width)
            if whole is not None:
                return self._lay(whole, access, spec), None
        target, at = self._target(access, spec)
        self._fetch(number, slot, access, target, at)
        full = target.tensor if isinstance(access, Place) else target.tensor.view(self.total, *spec.shape)
        return full, (target.array, self.memory.identity.array, self.starts) if access == "index" else None

    def _fetch(self, number: int, slot: int, access: Any, target: Matrix, at: int) -> None:
        """Have the rows of an operand copied together: batch by batch, or for all of them before the first."""
        memory, counts, starts = self.memory, self.site.counts, self.starts
        spec, mode = self.node_type.slot_specs[slot], self.node_type.slots[slot]
        width, columns = numel(spec.shape), [column + slot for column in self.site.columns]
        copied = [True] * len(columns)

        def fetch(k: int) -> None:
            if copied[k]:
                fetch_operand(memory, columns[k], mode, spec, counts[k], target, starts[k], at)

        if number in self.early:
            source = common_source(memory.layout, memory.sources, columns, width) if mode is Mode.ROW else None
            if source is None:
                self.early_fetches += [partial(fetch, k) for k in range(len(columns))]
            else:
                self.early_fetches.append(partial(fetch_all, memory, columns, source, target, at))
            return
        if memory.adjoint is None and width and may_lie_apart(number, access, mode, self.emitted, self.early):
            copied = self._lay_apart(slot, width, target)
        if any(copied):
            self.fetches.append(fetch)

    def _target(self, access: Any, spec: Spec) -> tuple[Matrix, int]:
        """Where the rows of all batches are fetched to, and the first column there."""
        if isinstance(access, Place):
            return self.memory.matrix(self.buffers[access.home[1]]), access.column
        rows = torch.empty(self.total, numel(spec.shape), dtype=spec.dtype, device=spec.device)
        return self.memory.matrix(rows), 0

    def _index(self, slot: int, width: int) -> Access | None:
        """How to read the operand where it lies, if all batches find it in one class of rows."""
        memory, numbers = self.memory, [column + slot for column in self.site.columns]
        source = common_source(memory.layout, memory.sources, numbers, width)
        if source is None:
            return None
        return memory.arena(*source).array, memory.rows.array, [memory.sources.low[c] for c in numbers]

    def _lay(self, whole: torch.Tensor, access: Any, spec: Spec) -> torch.Tensor:
        """Give the code these rows as they lie, in the place of a tensor or a buffer that they would be copied to."""
        if isinstance(access, Place):
            self.buffers[access.home[1]] = whole
            return whole
        return whole.view(self.total, *spec.shape)

    def _lay_apart(self, slot: int, width: int, target: Matrix) -> list[bool]:
        """Give the code the rows of each batch as they lie, if they lie in one piece; which batches must be copied?"""
        memory, pieces, copied = self.memory, [], []
        spec = self.node_type.slot_specs[slot]
        for column, start, n in zip(self.site.columns, self.starts, self.rows, strict=True):
            found = whole_operand(memory.layout, memory.sources, [column + slot], width)
            rows, first = (target.tensor, start) if found is None else (memory.arena(*found[:2]).tensor, found[2])
            pieces.append(rows[first : first + n].view(n, *spec.shape))
            copied.append(found is None)
        self.pieces[target.tensor.data_ptr()] = pieces
        return copied

    def split(self, whole: torch.Tensor) -> Sequence[torch.Tensor]:
        return self.pieces.get(whole.data_ptr()) or super().split(whole)

    def _whole(self, slot: int, width: int) -> torch.Tensor | None:
        """The operand where it lies, if the rows of all batches lie there in their order."""
        numbers = [column + slot for column in self.site.columns]
        found = whole_operand(self.memory.layout, self.memory.sources, numbers, width)
        if found is None:
            return None
        arena, step, first = found
        return self.memory.arena(arena, step).tensor[first : first + self.total]

    def forward(self, k: int) -> None:
        if self._forward is None:
            for fetch_early in self.early_fetches:
                fetch_early()
            self._forward = self.emitted.open_forward(self)
        for fetch in self.fetches:
            fetch(k)
        self._forward(k)
        compared = is_compared(self.cell, self.check)
        if compared or self.watch is not None:
            self._compare(k, compared)

    def _compare(self, k: int, compared: bool) -> None:
        low, n = self.starts[k], self.rows[k]
        numbers = [number[low : low + n] for number in self.numbers]
        outputs = [views[k] for views in self.outputs]
        operands = None
        if compared:
            operands = self._operands(k)
            difference = self.cell.verify(operands, numbers, outputs, tolerance=self.backend.tolerance)
            if difference:
                self.cell.give_up_capture(f"planned: {difference}")
                raise DemotedError
        if self.watch is not None:
            self.watch(self.cell, self.nodes(k), operands or self._operands(k), numbers, outputs)

    def _operands(self, k: int) -> list[torch.Tensor]:
        """The operands of a batch as tensors, wherever the code reads them."""
        low, n, found = self.starts[k], self.rows[k], []
        for number, slot in enumerate(self.slot_of):
            if slot is None:
                found.append(self.columns[number][low : low + n])
                continue
            spec, mode = self.node_type.slot_specs[slot], self.node_type.slots[slot]
            target = self.memory.matrix(torch.empty(n, numel(spec.shape), dtype=spec.dtype, device=spec.device))
            fetch_operand(self.memory, self.site.columns[k] + slot, mode, spec, self.site.counts[k], target, 0, 0)
            found.append(target.tensor.view(n, *spec.shape))
        return found

    def close_forward(self) -> None:
        self._forward, self.fetches, self.early_fetches = None, [], []

    # Backward.

    def open_backward(self) -> None:
        self.gradient_fetches = []
        self.gradients: list[Any] = []
        self.indexed_gradients: list[Any] = []
        for number, access in enumerate(self.emitted.gradients):
            full, indexed = self._open_gradient(number, access)
            self.gradients.append(full)
            self.indexed_gradients.append(indexed)
        self._open_blocks()

    def _open_gradient(self, number: int, access: Any) -> tuple[Any, Any]:
        if access is None:
            return None, None
        memory, spec = self.memory, self.node_type.outputs[number]
        arena, lows, width = self.output_arenas[number], self.output_rows[number], numel(spec.shape)
        rows, starts = self.rows, self.starts
        if access == "index":
            indexed = self._index_gradient(arena, lows, width)
            if indexed is not None:
                self._sum_first(arena, indexed[2])
                return None, indexed
        if is_whole(access, self.emitted):
            whole = self._whole_gradient(arena, lows, width)
            if whole is not None:
                return self._lay(whole, access, spec), None
        if access == "index":  # what may be added to these rows is one of zeros behind them
            summed = torch.zeros(self.total + 1, width, dtype=spec.dtype, device=spec.device)
            target, at = memory.matrix(summed), 0
        else:
            target, at = self._target(access, spec)

        def fetch(k: int) -> None:
            fetch_gradient(memory, arena, lows[k], rows[k], target, starts[k], at)

        self.gradient_fetches.append(fetch)
        if access == "index":
            nothing = memory.kernels.array(torch.full((self.total,), self.total, device=self.device))
            return None, (target.array, memory.identity.array, starts, nothing)
        return target.tensor if isinstance(access, Place) else target.tensor.view(self.total, *spec.shape), None

    def _index_gradient(self, arena: int, lows: list[int], width: int) -> Sums | None:
        """How to read gradients where they lie, if that is one class of rows."""
        adjoint, memory = self.memory.adjoint, self.memory
        assert adjoint is not None
        place = adjoint.place_of(arena)
        if place is None:
            return None
        _, dtype, device = memory.layout.arenas[arena]
        array = memory.gradient(memory.memory_of(dtype, device), width).array
        return array, memory.indices["first"].array, [place + low for low in lows], memory.indices["second"].array

    def _sum_first(self, arena: int, places: list[int]) -> None:
        """Where a row of a batch has several readers, their sum is made before it is read."""
        adjoint, memory, rows = self.memory.adjoint, self.memory, self.rows
        assert adjoint is not None
        summed = adjoint.summed
        needed = [bool(summed[low] != summed[low + n]) for low, n in zip(places, rows, strict=True)]
        if any(needed):
            self.gradient_fetches.append(
                lambda k: sum_readers(memory, arena, places[k], rows[k]) if needed[k] else None
            )

    def _whole_gradient(self, arena: int, lows: list[int], width: int) -> torch.Tensor | None:
        """Gradients where they lie, if the rows of all batches lie there in their order."""
        adjoint, memory = self.memory.adjoint, self.memory
        assert adjoint is not None
        first = whole_gradient(adjoint, arena, lows, self.rows) if width else None
        if first is None:
            return None
        _, dtype, device = memory.layout.arenas[arena]
        return memory.gradient(memory.memory_of(dtype, device), width).tensor[first : first + self.total]

    def _open_blocks(self) -> None:
        """Emitted blocks are all gradients of columns; those of constants have memory of their own."""
        self.blocks: list[Any] = []
        self.blocks_memory: list[Any] = []
        self.constant_blocks: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.means: list[tuple[int, Block, Any]] = []
        constants = dict(self.constant_columns)
        mine = 0
        for columns in self.emitted.blocks:
            if self.slot_of[columns[0]] is None:
                constant = constants[columns[0]]
                own = torch.empty(self.total, *constant.shape[1:], dtype=constant.dtype, device=constant.device)
                self.blocks.append(own.split(self.rows))
                flat = own.view(self.total, -1) if own.dim() > 1 else own.view(-1, 1)
                self.blocks_memory.append((self.memory.kernels.array(flat), self.starts))
                self.constant_blocks.append((constant, own))
                continue
            block = self.blocks_of[mine]
            views = self.block_views(mine, block)
            self.blocks.append(views)
            self.blocks_memory.append(self._block_memory(mine, block))
            if any(self.node_type.slots[slot] is Mode.MEAN for slot in block.slots):
                self.means.append((mine, block, views))
            mine += 1

    def whole_block(self, number: int) -> torch.Tensor:
        """The rows of a block of one column, those of all batches."""
        views = self.blocks[number]
        if not isinstance(views, Views):  # of a constant
            return views[0].as_strided((self.total, views[0].shape[1]), views[0].stride())
        wide = numel(views.shape)
        return views.flat[views.lows[0] : views.lows[0] + self.total * wide].view(self.total, wide)

    def _block_memory(self, number: int, block: Block) -> tuple[Any, list[int]]:
        memory = self.memory
        assert memory.adjoint is not None
        spec = self.node_type.slot_specs[block.slots[0]]
        wide = max(numel(spec.shape) * len(block.slots), 1)
        matrix = memory.gradient(memory.memory_of(spec.dtype, spec.device), wide)
        bases = memory.adjoint.block_base
        return matrix.array, [int(bases[first + number]) // wide for first in self.site.first_block]

    def backward(self, k: int, keep: bool) -> None:
        if self._backward is None:
            self.open_backward()
            self._backward, self._weights = self.emitted.open_backward(self)
        for fetch in self.gradient_fetches:
            fetch(k)
        self._backward(k)
        for number, block, views in self.means:
            self.scale_means(k, number, block, views[k])

    def destroyed(self) -> list[torch.Tensor]:
        return [self.buffers[number] for number in self.emitted.overwritten]

    def weights(self, keep: bool) -> Gradients:
        found: Gradients = []
        if self._backward is not None:
            if not keep:  # sums over the rows of all batches read some buffers; the others go
                self._backward, self.buffers, self.gradient_fetches = None, [], []
            results = self._weights()
            found += [(t, g) for t, g in zip(self.emitted.captured.trained, results, strict=True) if g is not None]
            found += self.constant_blocks
        return found


class DemotedError(Exception):
    """A captured cell's batch differed from its rows: the call begins again without that capture."""
