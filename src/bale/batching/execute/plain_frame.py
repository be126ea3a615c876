"""PlainFrame: batches of a type run by its rung under autograd: its first call, and types that are not captured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from bale.batching.cells.call import Kind
from bale.batching.cells.celltype import CellType
from bale.batching.cells.segment import segment_reduce
from bale.batching.execute.frame import Frame, Gradients
from bale.batching.execute.launch import launch
from bale.batching.execute.memory import (
    fetch_gradient,
    fetch_operand,
    mixed_rows,
    numel,
)
from bale.batching.graph import Mode, Spec
from bale.batching.memory.adjoint import Block


def plain_blocks(cell: CellType, node_type: Any) -> tuple[Block, ...]:
    """A block for every slot whose gradient is wanted."""
    if not any(out.requires_grad for out in node_type.outputs):
        return ()
    return tuple(
        Block((k,))
        for k, (mode, spec) in enumerate(zip(node_type.slots, node_type.slot_specs, strict=True))
        if mode is not Mode.AFTER and spec.requires_grad
    )


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
        operands, leaves, counts = [], [], []
        for slot in self.slots:
            operand, leaf, count = self._operand(k, slot)
            operands.append(operand)
            leaves.append(leaf)
            counts.append(count)
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
            outputs = launch(self.cell, columns, counts, numbers, len(nodes), n, self.check)
        if self.watch is not None and self.cell.pure and not self.cell.segments:
            self.watch(self.cell, nodes, columns, numbers, outputs)
        self._write_outputs(k, outputs)
        if self.grad:
            self.done[k] = (leaves, constants, outputs)

    def _write_outputs(self, k: int, outputs: Sequence[torch.Tensor]) -> None:
        for number, out in enumerate(outputs):
            first, spec = self.output_rows[number][k], self.node_type.outputs[number]
            rows = self._rows_of(spec, k)
            arena = self.memory.arenas[self.output_arenas[number]].tensor
            arena[first : first + rows] = out.detach().reshape(rows, numel(spec.shape))

    def _rows_of(self, output: Spec, k: int) -> int:
        """The rows of one output of a batch: a node of several rows may have outputs of one."""
        return self.rows[k] if output.ragged or not self.cell.ragged else self.site.counts[k]

    def _operand(self, k: int, slot: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray | None]:
        """An operand, the leaf that its gradient is asked of, and the rows of each node where it is ragged."""
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
            target = memory.matrix(torch.empty(nodes, width, dtype=spec.dtype, device=spec.device))
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
        if mode is Mode.STACK:
            return leaf, leaf, lengths
        segment = torch.from_numpy(np.repeat(np.arange(nodes), lengths)).to(spec.device)
        with torch.set_grad_enabled(wants):
            return segment_reduce(leaf, segment, nodes, mode), leaf, None

    def backward(self, k: int, keep: bool) -> None:
        if not self.grad:
            return
        leaves, constants, outputs = self.done[k]
        if not keep:
            self.done[k] = None
        roots, gradients = [], []
        for number, out in enumerate(outputs):
            spec = self.node_type.outputs[number]
            if not (spec.requires_grad and out.requires_grad):
                continue
            n, first = self._rows_of(spec, k), self.output_rows[number][k]
            target = self.memory.matrix(torch.empty(n, numel(spec.shape), dtype=out.dtype, device=out.device))
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
