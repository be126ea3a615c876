"""Constants: what the samples themselves bring, stacked once per type and column for the whole mini-batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from bale.batching.cells.call import Kind
from bale.batching.cells.celltype import CellType
from bale.batching.trace.tracer import TypeUse, version_of
from bale.errors import TraceError


class Columns:
    """Constants and random numbers of every type, and which of their rows belong to which node."""

    def __init__(self, uses: Sequence[TypeUse], node_of: np.ndarray, sample: np.ndarray):
        """`node_of` [nodes]: the node's number in the trace, by its number in the graph that runs."""
        self._node_of, self._sample = node_of, sample
        self._ordinal = np.zeros(int(max((use.nodes[-1] for use in uses), default=-1)) + 1, np.int64)
        self._rows: dict[CellType, np.ndarray] = {}
        self._stacked: dict[CellType, list[torch.Tensor]] = {}
        self._drawn: dict[CellType, list[torch.Tensor]] = {}
        for use in uses:
            self._ordinal[use.nodes] = np.arange(len(use.nodes))

    def stack(self, uses: Sequence[TypeUse], rows: np.ndarray) -> None:
        """Stack the constants and draw the random numbers of every type, in trace order. `rows` [traced nodes]."""
        for use in uses:
            counts = rows[use.nodes]
            self._rows[use.cell] = (
                np.concatenate([[0], np.cumsum(counts)]) if use.cell.ragged else np.zeros(0, np.int64)
            )
            self._stacked[use.cell] = [
                self._column(use, k, kind, ragged, dtype, counts)
                for k, (kind, ragged, dtype) in enumerate(_constants(use.cell))
            ]
            if use.cell.seeded:
                self._drawn[use.cell] = [torch.randint(2**62, (len(use.nodes),))]
            else:
                self._drawn[use.cell] = [draw(int(counts.sum())) for draw in use.cell.draws]

    def _column(self, use: TypeUse, k: int, kind: Kind, ragged: bool, dtype: torch.dtype | None,
                counts: np.ndarray) -> torch.Tensor:  # fmt: skip
        constants = use.constants[k]
        if kind is Kind.NUMBER:
            device = use.cell.device
            return torch.tensor(constants, dtype=dtype, device=device)
        for node, constant, version in zip(use.nodes, constants, use.versions[k], strict=True):
            if version_of(constant) != version:
                raise TraceError(
                    f"sample {self._sample[node]}: a tensor given to {use.cell.name} was modified in place after that; "
                    "bale runs the call later and would see the new numbers. Give it a clone()"
                )
        return torch.cat(constants) if ragged else _stack(constants)

    def trained(self) -> list[torch.Tensor]:
        """The stacked tensors of the samples that carry gradients."""
        return [column for columns in self._stacked.values() for column in columns if column.requires_grad]

    def of(self, cell: CellType, nodes: np.ndarray) -> list[torch.Tensor]:
        """The constants of `nodes`, [rows, *shape] each."""
        columns = self._stacked[cell]
        return [
            self._select(cell, column, nodes, ragged)
            for column, (_, ragged, _) in zip(columns, _constants(cell), strict=True)
        ]

    def numbers(self, cell: CellType, nodes: np.ndarray) -> list[torch.Tensor]:
        """The random numbers of `nodes`, [rows, *shape] each; for a seeded cell one seed per node."""
        return [self._select(cell, column, nodes, cell.ragged) for column in self._drawn[cell]]

    def _select(self, cell: CellType, column: torch.Tensor, nodes: np.ndarray, ragged: bool) -> torch.Tensor:
        ordinal = self._ordinal[self._node_of[nodes]]
        if ragged:
            start = self._rows[cell]
            ordinal = np.concatenate([np.arange(int(start[k]), int(start[k + 1])) for k in ordinal])
        elif cell.ragged:
            lengths = np.diff(self._rows[cell])[ordinal]
            ordinal = np.repeat(ordinal, lengths)  # one constant for all rows of its node
        if ordinal.size == column.shape[0] and np.array_equal(ordinal, np.arange(ordinal.size)):
            return column
        return column.index_select(0, torch.from_numpy(ordinal).to(column.device))


def _constants(cell: CellType) -> list[tuple[Kind, bool, torch.dtype | None]]:
    listed = zip(cell.kinds, cell.ragged_columns, cell.number_dtypes, strict=True)
    return [(kind, ragged, dtype) for kind, ragged, dtype in listed if kind is not Kind.VALUE]


def _stack(constants: Sequence[torch.Tensor]) -> torch.Tensor:
    """torch.stack that copies each tensor once, however often it occurs."""
    place: dict[int, int] = {}
    index = [place.setdefault(id(constant), len(place)) for constant in constants]
    if len(place) == len(constants):
        return torch.stack(list(constants))
    distinct = {id(constant): constant for constant in constants}
    if len(distinct) == 1:
        return constants[0].expand(len(constants), *constants[0].shape)
    stacked = torch.stack(list(distinct.values()))
    return stacked.index_select(0, torch.tensor(index, device=stacked.device))
