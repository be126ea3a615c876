"""Frame: all batches of one type in one call, and how they run forward and backward.

A CapturedFrame runs a cell's emitted code; a PlainFrame runs the rung under autograd, batch by batch: the first call of
every type, and those types that cannot be captured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bale.batching.cells.call import Kind
from bale.batching.cells.celltype import CellType
from bale.batching.cells.emit import Emitted
from bale.batching.cells.places import Place
from bale.batching.cells.segment import segment_reduce
from bale.batching.execute.gather import Matrix
from bale.batching.execute.launch import Program, Watch, is_compared, launch
from bale.batching.execute.memory import (
    CallMemory,
    common_source,
    fetch_gradient,
    fetch_operand,
    mixed_rows,
    numel,
    only_places,
)
from bale.batching.graph import Mode
from bale.batching.memory.adjoint import Block

Gradients = list[tuple[torch.Tensor, torch.Tensor]]  # what is trained, and its gradient
Access = tuple[Any, np.ndarray, list[int]]  # an array, rows of it, and where each batch begins among them


PACKED_FROM = 8  # batches: a copy costs about what four products of some ten rows save


@dataclass(frozen=True, eq=False)
class Site:
    """The batches of one type: their numbers, rows, nodes, and the first column of each in the layout."""

    kind: int
    batches: list[int]
    rows: list[int]
    starts: list[int]
    counts: list[int]
    count_starts: list[int]
    nodes: np.ndarray
    columns: list[int]
    first_block: list[int]

    @property
    def total(self) -> int:
        return self.starts[-1] + self.rows[-1]


class Views:
    """Per batch its rows in a flat memory, from `lows` (in units of `unit` numbers) on. Made when first asked for:
    kernels read and write through arrays and need none."""

    def __init__(self, flat: torch.Tensor, shape: tuple[int, ...], rows: list[int], lows: list[int], unit: int):
        self.flat, self.shape, self.rows, self.lows, self.unit = flat, shape, rows, lows, unit
        self.made: list[torch.Tensor] | None = None

    def __getitem__(self, k: int) -> torch.Tensor:
        if self.made is None:
            wide, unit = numel(self.shape), self.unit
            stride = torch.empty(1, *self.shape, device="meta").stride()
            stride = (wide, *stride[1:])
            self.made = [
                self.flat.as_strided((n, *self.shape), stride, low * unit)
                for n, low in zip(self.rows, self.lows, strict=True)
            ]
        return self.made[k]


class Frame:
    """What both kinds share: where operands, outputs and gradients of this type's batches lie."""

    def __init__(self, cell: CellType, site: Site, memory: CallMemory, program: Program, check: str,
                 watch: Watch | None):  # fmt: skip
        self.cell, self.site, self.memory, self.program = cell, site, memory, program
        self.check, self.watch = check, watch
        self.rows, self.starts, self.total = site.rows, site.starts, site.total
        self.node_type = memory.graph.types[site.kind]
        self.output_arenas = [
            int(memory.layout.value_arena[memory.graph.value_start[site.nodes[0]] + k])
            for k in range(len(self.node_type.outputs))
        ]
        self.output_rows = memory.first_row[site.batches].T.tolist()  # [outputs][batches]
        self.slots = [k for k, mode in enumerate(self.node_type.slots) if mode is not Mode.AFTER]
        given = iter(self.slots)
        self.slot_of = [next(given) if kind is Kind.VALUE else None for kind in cell.kinds]

    def forward(self, k: int) -> None:
        raise NotImplementedError

    def close_forward(self) -> None:
        """After the last batch: let go of what only the forward run reads."""

    def backward(self, k: int, keep: bool) -> None:
        """Run batch k backward; unless `keep`, it will not be run again."""
        raise NotImplementedError

    def weights(self, keep: bool) -> Gradients:
        """After the first batch has run backward: the gradients of what is trained."""
        raise NotImplementedError

    def destroyed(self) -> list[torch.Tensor]:
        """What the backward run writes over though it reads it first."""
        return []

    def nodes(self, k: int) -> np.ndarray:
        low = self.site.count_starts[k]
        return self.site.nodes[low : low + self.site.counts[k]]

    def block_views(self, number: int, block: Block) -> Views:
        """Per batch the rows of a block, side by side."""
        memory = self.memory
        assert memory.adjoint is not None
        spec, mode = self.node_type.slot_specs[block.slots[0]], self.node_type.slots[block.slots[0]]
        flat = memory.gradients[memory.memory_of(spec.dtype, spec.device)]
        wide = numel(spec.shape) * len(block.slots)
        shape = spec.shape if len(block.slots) == 1 else (wide,)
        rows = self.site.counts if mode in (Mode.SUM, Mode.MEAN) else self.rows
        lows = [int(memory.adjoint.block_base[first + number]) for first in self.site.first_block]
        return Views(flat, shape, rows, lows, 1)

    def scale_means(self, k: int, number: int, block: Block, view: torch.Tensor) -> None:
        """The gradient of a mean is that of a sum, over the count."""
        layout = self.memory.layout
        for place, slot in enumerate(block.slots):
            if self.node_type.slots[slot] is not Mode.MEAN:
                continue
            column, wide = self.site.columns[k] + slot, numel(self.node_type.slot_specs[slot].shape)
            lengths = layout.length[layout.length_start[column] : layout.length_start[column + 1]]
            counts = torch.from_numpy(lengths.astype(np.float64)).to(view.device, view.dtype)
            part = view if len(block.slots) == 1 else view[:, place * wide : (place + 1) * wide]
            part /= counts.view(-1, *[1] * (part.dim() - 1))


def plain_blocks(cell: CellType, node_type: Any) -> tuple[Block, ...]:
    """A block for every slot whose gradient is wanted."""
    if not any(out.requires_grad for out in node_type.outputs):
        return ()
    return tuple(
        Block((k,))
        for k, (mode, spec) in enumerate(zip(node_type.slots, node_type.slot_specs, strict=True))
        if mode is not Mode.AFTER and spec.requires_grad
    )


def captured_blocks(cell: CellType, emitted: Emitted) -> tuple[Block, ...]:
    """Blocks of operands that are nodes; gradients of constants lie elsewhere."""
    slots = iter(range(len(cell.kinds)))
    slot_of = [next(slots) if kind is Kind.VALUE else None for kind in cell.kinds]
    found = []
    for columns in emitted.blocks:
        members = [slot_of[c] for c in columns]
        if all(slot is not None for slot in members):
            found.append(Block(tuple(slot for slot in members if slot is not None)))
    return tuple(found)


class PlainFrame(Frame):
    """Runs the rung of a cell under autograd, each batch with a graph of its own."""

    def __init__(self, *args: Any, blocks: Sequence[Block]):
        super().__init__(*args)
        self.blocks = blocks
        # under grad mode, so that a sample's own tensors get their gradients
        grad = any(out.requires_grad for out in self.node_type.outputs) and self.memory.adjoint is not None
        self.constants = self.program.columns.of(self.cell, self.site.nodes)
        self.numbers = self.program.columns.numbers(self.cell, self.site.nodes)
        self.constant_leaves: list[list[torch.Tensor]] = [[] for _ in self.constants]
        self.grad = grad
        self.done: list[Any] = [None] * len(self.rows)
        self.trained: dict[int, list[torch.Tensor]] = {}
        self.constant_gradients: list[list[torch.Tensor]] = [[] for _ in self.constants]

    def forward(self, k: int) -> None:
        operands, leaves, segment = [], [], None
        for slot in self.slots:
            operand, leaf, ragged = self._operand(k, slot)
            operands.append(operand)
            leaves.append(leaf)
            segment = segment if ragged is None else ragged
        low, n = self.starts[k], self.rows[k]
        constants = [c[low : low + n].detach() for c in self.constants]
        if self.grad:
            for full, constant in zip(self.constants, constants, strict=True):
                constant.requires_grad_(full.requires_grad)
        numbers = [c[low : low + n] for c in self.numbers]
        nodes = self.nodes(k)
        values, given = iter(operands), iter(constants)
        columns = [next(values) if kind is Kind.VALUE else next(given) for kind in self.cell.kinds]
        with torch.set_grad_enabled(self.grad):
            outputs = launch(self.cell, columns, segment, numbers, len(nodes), n, self.check)
        if self.watch is not None and self.cell.pure:
            self.watch(self.cell, nodes, columns, numbers, outputs)
        for number, out in enumerate(outputs):
            first, spec = self.output_rows[number][k], self.node_type.outputs[number]
            arena = self.memory.arenas[self.output_arenas[number]].tensor
            arena[first : first + n] = out.detach().reshape(n, numel(spec.shape))
        if self.grad:
            self.done[k] = (leaves, constants, outputs)

    def _operand(self, k: int, slot: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """An operand, the leaf that its gradient is asked of, and the segment of each row where it is ragged."""
        memory, column = self.memory, self.site.columns[k] + slot
        mode, spec = self.node_type.slots[slot], self.node_type.slot_specs[slot]
        layout, sources, nodes = memory.layout, memory.sources, self.site.counts[k]
        low, high = sources.low[column], sources.high[column]
        source, width = sources.source[column], numel(spec.shape)
        wants = self.grad and spec.requires_grad
        if source is not None and mode in (Mode.ROW, Mode.STACK) and memory.arena(*source).tensor.shape[1] == width:
            given, first = memory.arena(*source).tensor, sources.consecutive[column]
            if sources.constant[column] and high - low > 1:  # one row for all: no copies
                first = int(layout.gather_row[low])
                rows = given[first].view(spec.shape).expand(high - low, *spec.shape)
            elif first >= 0:
                rows = given[first : first + high - low].view(high - low, *spec.shape)
            else:
                rows = given.index_select(0, memory.rows.tensor[low:high]).view(high - low, *spec.shape)
        elif mode in (Mode.SUM, Mode.MEAN):
            target = Matrix(torch.empty(nodes, width, dtype=spec.dtype, device=spec.device))
            fetch_operand(memory, column, mode, spec, nodes, target, 0, 0)
            rows = target.tensor.view(nodes, *spec.shape)
        elif source is not None:
            rows = memory.arena(*source).tensor.index_select(0, memory.rows.tensor[low:high]).view(-1, *spec.shape)
        else:
            rows = mixed_rows(memory, low, high, width).view(-1, *spec.shape)
        leaf = rows.data.requires_grad_(wants)  # `data`: later batches write to other rows of the same arena
        if mode in (Mode.ROW, Mode.SUM, Mode.MEAN):
            return leaf, leaf, None
        lengths = layout.length[layout.length_start[column] : layout.length_start[column + 1]]
        segment = torch.from_numpy(np.repeat(np.arange(nodes), lengths)).to(spec.device)
        if mode is Mode.STACK:
            return leaf, leaf, segment
        with torch.set_grad_enabled(wants):
            return segment_reduce(leaf, segment, nodes, mode), leaf, None

    def backward(self, k: int, keep: bool) -> None:
        if not self.grad:
            return
        leaves, constants, outputs = self.done[k]
        if not keep:
            self.done[k] = None
        n = self.rows[k]
        roots, gradients = [], []
        for number, out in enumerate(outputs):
            spec = self.node_type.outputs[number]
            if not (spec.requires_grad and out.requires_grad):
                continue
            target = Matrix(torch.empty(n, numel(spec.shape), dtype=out.dtype, device=out.device))
            first = self.output_rows[number][k]
            fetch_gradient(self.memory, self.output_arenas[number], first, n, target, 0, 0)
            roots.append(out)
            gradients.append(target.tensor.view(n, *spec.shape))
        trained = [t for t in self.cell.trained if t.requires_grad]
        asked = [t for t in (*leaves, *constants) if t.requires_grad] + trained
        found = (
            torch.autograd.grad(roots, asked, gradients, allow_unused=True, retain_graph=True)
            if roots and asked
            else ()
        )
        given = dict(zip(map(id, asked), found, strict=True)) if found else {}
        for number, block in enumerate(self.blocks):
            leaf = leaves[self.slots.index(block.slots[0])]
            self._write_block(k, number, block, leaf, given.get(id(leaf)))
        for constant, kept in zip(constants, self.constant_gradients, strict=True):
            if constant.requires_grad:
                gradient = given.get(id(constant))
                kept.append(torch.zeros_like(constant) if gradient is None else gradient)
        for tensor in trained:
            gradient = given.get(id(tensor))
            if gradient is not None:
                self.trained.setdefault(id(tensor), []).append(gradient)

    def _write_block(self, k: int, number: int, block: Block, leaf: torch.Tensor, gradient: Any) -> None:
        memory = self.memory
        assert memory.adjoint is not None
        low = int(memory.adjoint.block_base[self.site.first_block[k] + number])
        flat = memory.gradients[memory.memory_of(leaf.dtype, leaf.device)]
        view = flat[low : low + leaf.numel()].view(leaf.shape)
        if gradient is None:
            view.zero_()
            return
        view.copy_(gradient)
        self.scale_means(k, number, block, view)

    def weights(self, keep: bool) -> Gradients:
        found: Gradients = []
        for tensor in self.cell.trained:
            parts = self.trained.get(id(tensor))
            if parts:
                # in the order of the batches, which ran backward
                found.append((tensor, _sum(parts)))
        found += constant_gradients(self.constants, [kept[::-1] for kept in self.constant_gradients])
        self.trained, self.constant_gradients = {}, [[] for _ in self.constants]
        return found


def _sum(parts: list[torch.Tensor]) -> torch.Tensor:
    total = parts[0] if len(parts) == 1 else parts[0].clone()
    for part in parts[1:]:
        total = total + part
    return total


def constant_gradients(full: Sequence[torch.Tensor], parts: Sequence[list[torch.Tensor]]) -> Gradients:
    """From gradients of the rows of constants to those of the tensors that the samples brought, stacked."""
    found: Gradients = []
    for column, gradients in zip(full, parts, strict=True):
        if column.requires_grad and gradients:
            found.append((column, torch.cat(gradients)))
    return found


class CapturedFrame(Frame):
    """Runs the code of a captured cell. Its attributes are what that code reads."""

    def __init__(self, *args: Any, emitted: Emitted):
        super().__init__(*args)
        self.emitted = emitted
        self.blocks_of = captured_blocks(self.cell, emitted)
        device = self.cell.device
        self.buffers = [torch.empty(self.total, w, dtype=torch.float32, device=device) for w in emitted.buffers]
        self.reads = emitted.captured.read_tensors
        self.numbers = self.program.columns.numbers(self.cell, self.site.nodes)
        self.constants = iter(self.program.columns.of(self.cell, self.site.nodes))
        self.constant_columns: list[tuple[int, torch.Tensor]] = []
        self.fetches: list[Callable[[int], None]] = []
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
        return weight.t().contiguous() if len(self.rows) >= PACKED_FROM else weight.t()

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
        at = access.column if isinstance(access, Place) else 0
        if isinstance(access, Place):
            target = Matrix(self.buffers[access.home[1]])
        else:
            target = Matrix(torch.empty(self.total, width, dtype=spec.dtype, device=spec.device))
        columns, counts, starts, memory = self.site.columns, self.site.counts, self.starts, self.memory

        def fetch(k: int) -> None:
            fetch_operand(memory, columns[k] + slot, mode, spec, counts[k], target, starts[k], at)

        self.fetches.append(fetch)
        full = target.tensor if isinstance(access, Place) else target.tensor.view(self.total, *spec.shape)
        return full, (target.array, memory.identity.array, starts) if access == "index" else None

    def _index(self, slot: int, width: int) -> Access | None:
        """How to read the operand where it lies, if all batches find it in one class of rows."""
        memory, numbers = self.memory, [column + slot for column in self.site.columns]
        source = common_source(memory.layout, memory.sources, numbers, width)
        if source is None:
            return None
        return memory.arena(*source).array, memory.rows.array, [memory.sources.low[c] for c in numbers]

    def forward(self, k: int) -> None:
        if self._forward is None:
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
            difference = self.cell.verify(operands, numbers, outputs)
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
            target = Matrix(torch.empty(n, numel(spec.shape), dtype=spec.dtype, device=spec.device))
            fetch_operand(self.memory, self.site.columns[k] + slot, mode, spec, self.site.counts[k], target, 0, 0)
            found.append(target.tensor.view(n, *spec.shape))
        return found

    def close_forward(self) -> None:
        self._forward, self.fetches = None, []

    # Backward.

    def open_backward(self) -> None:
        self.gradient_fetches: list[Callable[[int], None]] = []
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
        if access == "index":
            indexed = self._index_gradient(arena, lows, width)
            if indexed is not None:
                return None, indexed
        at = access.column if isinstance(access, Place) else 0
        if isinstance(access, Place):
            target = Matrix(self.buffers[access.home[1]])
        else:
            target = Matrix(torch.empty(self.total, width, dtype=spec.dtype, device=spec.device))
        rows, starts = self.rows, self.starts

        def fetch(k: int) -> None:
            fetch_gradient(memory, arena, lows[k], rows[k], target, starts[k], at)

        self.gradient_fetches.append(fetch)
        full = target.tensor if isinstance(access, Place) else target.tensor.view(self.total, *spec.shape)
        return full, (target.array, memory.identity.array, starts) if access == "index" else None

    def _index_gradient(self, arena: int, lows: list[int], width: int) -> Access | None:
        adjoint, memory = self.memory.adjoint, self.memory
        assert adjoint is not None
        places = only_places(adjoint, arena, lows, self.rows)
        if places is None:
            return None
        _, dtype, device = memory.layout.arenas[arena]
        return memory.gradient(memory.memory_of(dtype, device), width).array, adjoint.first, places

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
                flat = Matrix(own.view(self.total, -1)) if own.dim() > 1 else Matrix(own.view(-1, 1))
                self.blocks_memory.append((flat.array, self.starts))
                self.constant_blocks.append((constant, own))
                continue
            block = self.blocks_of[mine]
            views = self.block_views(mine, block)
            self.blocks.append(views)
            self.blocks_memory.append(self._block_memory(mine, block))
            if any(self.node_type.slots[slot] is Mode.MEAN for slot in block.slots):
                self.means.append((mine, block, views))
            mine += 1

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
