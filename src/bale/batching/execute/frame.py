"""Frame: all batches of one type in one call. What is common to the two ways in which they run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bale.batching.cells.call import Kind
from bale.batching.cells.celltype import CellType
from bale.batching.execute.gather import divide
from bale.batching.execute.launch import Program, Watch
from bale.batching.execute.memory import (
    CallMemory,
    numel,
)
from bale.batching.graph import Mode
from bale.batching.memory.adjoint import Block

Gradients = list[tuple[torch.Tensor, torch.Tensor]]  # what is trained, and its gradient


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


def slots_of_columns(cell: CellType) -> list[int | None]:
    """Per column its slot, None of a constant. What only orders calls is no column, and the last slot."""
    slots = iter(range(len(cell.kinds)))
    return [next(slots) if kind is Kind.VALUE else None for kind in cell.kinds]


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


class Frame(ABC):
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
        self.slot_of = slots_of_columns(cell)

    def split(self, whole: torch.Tensor) -> Sequence[torch.Tensor]:
        """The rows of each batch."""
        return whole.split(self.rows)

    @abstractmethod
    def forward(self, k: int) -> None: ...

    def close_forward(self) -> None:  # noqa: B027  (a frame may have nothing to let go of)
        """After the last batch: let go of what only the forward run reads."""

    @abstractmethod
    def backward(self, k: int, keep: bool) -> None:
        """Run batch k backward; unless `keep`, it will not be run again."""
        ...

    @abstractmethod
    def weights(self, keep: bool) -> Gradients:
        """After the first batch has run backward: the gradients of what is trained."""
        ...

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
            low, high = int(layout.length_start[column]), int(layout.length_start[column + 1])
            lengths = self.memory.indices["length"].array[low:high]
            divide(view.view(len(lengths), -1)[:, place * wide : (place + 1) * wide], lengths)
