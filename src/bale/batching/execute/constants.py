"""Constants: what the samples themselves bring, stacked once per type and column for the whole mini-batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit

from bale.batching.cells.call import Kind
from bale.batching.cells.celltype import CellType
from bale.batching.uses import TypeUse, version_of
from bale.errors import TraceError


@dataclass(frozen=True, eq=False)
class Column:
    """One constant of a type: the distinct ones, one after another, and which of them each node of the type has.

    start    int64 [distinct + 1], of ragged constants: the rows of each
    """

    distinct: torch.Tensor
    which: np.ndarray
    start: np.ndarray | None = None

    def select(self, which: np.ndarray) -> torch.Tensor:
        """[rows, *shape]: the constants `which`, with all their rows where they are ragged."""
        if self.start is not None:
            which = _ranges(self.start[which], self.start[which + 1])
        rows = self.distinct
        if which.size == rows.shape[0] and np.array_equal(which, np.arange(which.size)):
            return rows
        if rows.shape[0] == 1:
            return rows.expand(which.size, *rows.shape[1:])
        return rows.index_select(0, torch.from_numpy(which).to(rows.device))


class Columns:
    """Constants and random numbers of every type, and which of their rows belong to which node."""

    def __init__(self, uses: Sequence[TypeUse], node_of: np.ndarray, sample: np.ndarray):
        """`node_of` [nodes]: the node's number in the trace, by its number in the graph that runs."""
        self._node_of, self._sample = node_of, sample
        self._ordinal = np.zeros(sample.size, np.int64)  # [traced nodes]: the how-manieth of its type
        self._length: dict[CellType, np.ndarray] = {}
        self._columns: dict[CellType, list[Column]] = {}
        self._drawn: dict[CellType, list[torch.Tensor]] = {}
        for use in uses:
            self._ordinal[use.nodes] = np.arange(len(use.nodes))

    def stack(self, uses: Sequence[TypeUse], rows: np.ndarray) -> None:
        """Stack the constants and draw the random numbers of every type, in trace order. `rows` [traced nodes]."""
        for use in uses:
            counts = rows[use.nodes]
            self._length[use.cell] = counts
            self._columns[use.cell] = [
                self._column(use, entries, kind, ragged, dtype)
                for entries, (kind, ragged, dtype) in zip(use.constants, _constants(use.cell), strict=True)
            ]
            if use.cell.seeded:
                self._drawn[use.cell] = [torch.randint(2**62, (len(use.nodes),))]
            else:
                self._drawn[use.cell] = [draw(int(counts.sum())) for draw in use.cell.draws]

    def _column(self, use: TypeUse, entries: np.ndarray, kind: Kind, ragged: bool, dtype: torch.dtype | None) -> Column:
        which, found, first = _by_first_use(entries, len(use.table.entries))
        listed = found.tolist()
        distinct = list(map(use.table.entries.__getitem__, listed))
        if kind is Kind.NUMBER:
            return Column(torch.tensor(distinct, dtype=dtype, device=use.cell.device), which)
        values = list(map(use.table.values.__getitem__, listed))
        if not ragged and None not in values:  # read when they were recorded
            return Column(torch.tensor(values, dtype=distinct[0].dtype), which)
        for constant, entry, node in zip(distinct, listed, use.nodes[first], strict=True):
            if version_of(constant) != use.table.versions[entry]:
                raise TraceError(
                    f"sample {self._sample[node]}: a tensor given to {use.cell.name} was modified in place after that; "
                    "bale runs the call later and would see the new numbers. Give it a clone()"
                )
        if not ragged:
            return Column(torch.stack(distinct), which)
        lengths = [constant.shape[0] for constant in distinct]
        return Column(torch.cat(distinct), which, np.concatenate([[0], np.cumsum(lengths)]))

    def trained(self) -> list[torch.Tensor]:
        """The stacked tensors of the samples that carry gradients."""
        return [c.distinct for columns in self._columns.values() for c in columns if c.distinct.requires_grad]

    def of(self, cell: CellType, nodes: np.ndarray) -> list[torch.Tensor]:
        """The constants of `nodes`, [rows, *shape] each."""
        ordinal = self._ordinal[self._node_of[nodes]]
        found = []
        for column in self._columns[cell]:
            which = column.which[ordinal]
            if cell.ragged and column.start is None:
                which = np.repeat(which, self._length[cell][ordinal])  # one constant for all rows of its node
            found.append(column.select(which))
        return found

    def numbers(self, cell: CellType, nodes: np.ndarray) -> list[torch.Tensor]:
        """The random numbers of `nodes`, [rows, *shape] each; for a seeded cell one seed per node."""
        ordinal = self._ordinal[self._node_of[nodes]]
        if cell.ragged and not cell.seeded:
            start = np.concatenate([[0], np.cumsum(self._length[cell])])
            ordinal = _ranges(start[ordinal], start[ordinal + 1])
        return [Column(drawn, ordinal).select(ordinal) for drawn in self._drawn[cell]]


def _constants(cell: CellType) -> list[tuple[Kind, bool, torch.dtype | None]]:
    listed = zip(cell.kinds, cell.ragged_columns, cell.number_dtypes, strict=True)
    return [(kind, ragged, dtype) for kind, ragged, dtype in listed if kind is not Kind.VALUE]


@njit(cache=True)
def _by_first_use(entries: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number distinct entries as they come up, which is often just the order of the nodes.

    int64 [entries] the number of each, [distinct] the entries by number, [distinct] where each comes up first.
    """
    number = np.full(most, -1)
    which = np.empty(entries.size, np.int64)
    found, first = np.empty(entries.size, np.int64), np.empty(entries.size, np.int64)
    distinct = 0
    for at in range(entries.size):
        entry = entries[at]
        if number[entry] < 0:
            number[entry] = distinct
            found[distinct] = entry
            first[distinct] = at
            distinct += 1
        which[at] = number[entry]
    return which, found[:distinct], first[:distinct]


def _ranges(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """low[0], .., high[0] - 1, low[1], .., high[1] - 1, and so on."""
    counts = high - low
    ends = np.cumsum(counts)
    return np.arange(int(counts.sum())) + np.repeat(low - ends + counts, counts)
