"""The reference executor: one batch after another under plain autograd. The oracle, and differentiable twice."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import torch

from bale.batching.cells.call import Kind
from bale.batching.cells.celltype import CellType
from bale.batching.cells.segment import segment_reduce
from bale.batching.execute.constants import Columns
from bale.batching.execute.launch import Program, Watch, blame, launch
from bale.batching.graph import Mode, Spec
from bale.batching.memory.layout import Layout
from bale.batching.schedule.schedule import Schedule
from bale.errors import BaleError


class Arena:
    """The rows of one class of values, in the chunks that batches wrote: autograd forbids writing into one tensor."""

    def __init__(self) -> None:
        self.chunks: list[torch.Tensor] = []
        self.starts: list[int] = []

    def add(self, start: int, chunk: torch.Tensor) -> None:
        """Put the rows from `start` on in their place."""
        at = bisect_left(self.starts, start)
        self.chunks.insert(at, chunk)
        self.starts.insert(at, start)

    def gather(self, rows: np.ndarray, step: int, shape: tuple[int, ...]) -> torch.Tensor:
        """[len(rows), *shape]: rows of the arena whose leading axes are flattened to `step` rows each."""
        chunk_of = np.searchsorted(self.starts, rows // step, side="right") - 1
        used = np.unique(chunk_of)
        if used.size == 1:
            return self._select(int(used[0]), rows, step, shape)
        pieces, places = [], []
        for chunk in used:
            here = np.flatnonzero(chunk_of == chunk)
            pieces.append(self._select(int(chunk), rows[here], step, shape))
            places.append(here)
        return _reorder(torch.cat(pieces), np.concatenate(places))

    def _select(self, chunk: int, rows: np.ndarray, step: int, shape: tuple[int, ...]) -> torch.Tensor:
        tensor = self.chunks[chunk]
        flat = tensor.reshape(tensor.shape[0] * step, *shape)
        local = rows - self.starts[chunk] * step
        if local.size == flat.shape[0] and np.array_equal(local, np.arange(local.size)):
            return flat
        if local.size > 1 and (local == local[0]).all():
            return flat[local[0]].expand(local.size, *shape)  # one row for all: no copies
        return flat.index_select(0, torch.from_numpy(local).to(flat.device))


def _reorder(tensor: torch.Tensor, places: np.ndarray) -> torch.Tensor:
    back = np.empty_like(places)
    back[places] = np.arange(places.size)
    if np.array_equal(back, np.arange(back.size)):
        return tensor
    return tensor.index_select(0, torch.from_numpy(back).to(tensor.device))


class Arenas:
    """All values of one call."""

    def __init__(self, layout: Layout):
        self.layout = layout
        self.arenas = [Arena() for _ in layout.arenas]

    def column(self, column: int, spec: Spec, mode: Mode, nodes: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The operand of one slot of one batch, and the segment of each of its rows where it is ragged."""
        layout = self.layout
        low, high = layout.gather_start[column], layout.gather_start[column + 1]
        rows = self.gather(
            layout.gather_arena[low:high], layout.gather_step[low:high], layout.gather_row[low:high], spec.shape
        )
        if mode is Mode.ROW:
            return rows, None
        lengths = layout.length[layout.length_start[column] : layout.length_start[column + 1]]
        segment = torch.from_numpy(np.repeat(np.arange(nodes), lengths)).to(rows.device)
        if mode is Mode.STACK:
            return rows, segment
        return segment_reduce(rows, segment, nodes, mode), None

    def gather(self, arena: np.ndarray, step: np.ndarray, row: np.ndarray, shape: tuple[int, ...]) -> torch.Tensor:
        code = arena.astype(np.int64) << 32 | step
        if (code == code[0]).all():
            return self._from(int(arena[0]), int(step[0]), row, shape)
        begins = np.ones(code.size, bool)  # a whole ragged value is several gathered rows but one row of the operand
        groups = []
        for source in np.unique(code):
            here = np.flatnonzero(code == source)
            rows = self._rows_per_unit(int(arena[here[0]]), shape)
            begins[here] = np.arange(here.size) % rows == 0
            groups.append((here, here[::rows]))
        unit = np.cumsum(begins) - 1
        pieces = [self._from(int(arena[here[0]]), int(step[here[0]]), row[here], shape) for here, _ in groups]
        return _reorder(torch.cat(pieces), np.concatenate([unit[first] for _, first in groups]))

    def _rows_per_unit(self, arena: int, shape: tuple[int, ...]) -> int:
        inner = self.layout.arenas[arena][0]
        return shape[0] if len(inner) < len(shape) else 1

    def _from(self, arena: int, step: int, rows: np.ndarray, shape: tuple[int, ...]) -> torch.Tensor:
        inner = self.layout.arenas[arena][0]
        if len(inner) < len(shape):  # the whole of a ragged value, where one row of its length is asked for
            gathered = self.arenas[arena].gather(rows, 1, inner)
            return gathered.reshape(-1, *shape)
        return self.arenas[arena].gather(rows, step, shape)

    def write(self, value: int, chunk: torch.Tensor) -> None:
        """The values of one output of a batch, `value` the first of them."""
        self.arenas[self.layout.value_arena[value]].add(int(self.layout.value_row[value]), chunk)


def run(program: Program, schedule: Schedule, layout: Layout, check: str, watch: Watch | None = None) -> Arenas:
    """Run every batch of `schedule`; the values lie where `layout` says. `watch` sees each launch of a cell."""
    arenas = Arenas(layout)
    graph = program.graph
    column = 0
    for batch, nodes in enumerate(schedule):
        cell = program.cells[schedule.batch_type[batch]]
        node_type = graph.types[schedule.batch_type[batch]]
        operands, segment = [], None
        try:
            for mode, spec in zip(node_type.slots, node_type.slot_specs, strict=True):
                if mode is not Mode.AFTER:
                    operand, ragged = arenas.column(column, spec, mode, len(nodes))
                    operands.append(operand)
                    segment = segment if ragged is None else ragged
                column += 1
            given = _merge(cell, operands, program.columns, nodes)
            numbers = program.columns.numbers(cell, nodes)
            outputs = launch(cell, given, segment, numbers, len(nodes), int(layout.batch_rows[batch]), check)
            if watch is not None and cell.pure:
                watch(cell, nodes, given, numbers, outputs)
        except BaleError:
            raise
        except Exception as error:
            error.add_note(blame(program, cell, nodes))
            raise
        for output, tensor in enumerate(outputs):
            arenas.write(int(graph.value_start[nodes[0]]) + output, tensor)
    return arenas


def _merge(cell: CellType, operands: Sequence[torch.Tensor], columns: Columns, nodes: np.ndarray) -> list[torch.Tensor]:
    """Operands and constants in the order of the cell's arguments."""
    values = iter(operands)
    constants = iter(columns.of(cell, nodes))
    return [next(values) if kind is Kind.VALUE else next(constants) for kind in cell.kinds]
