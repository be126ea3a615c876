"""Which weights of a matrix does a block of crossbars hold, and in which of them?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bale.hardware.circulant import Circulant
from bale.hardware.encode import Block
from bale.hardware.mapping import Mapped


@dataclass(frozen=True, eq=False)
class Extent:
    """Weights that stand in one row block: all of `outputs` x `rows` of a matrix, and none of them elsewhere.

    `outputs` and `rows` int64, of all groups, rows rising; `crossbar` int64 [outputs], in rising order: the crossbar of
    an output's columns, counted from the first of the copy.
    """

    outputs: np.ndarray
    rows: np.ndarray
    crossbar: np.ndarray


def extents(mapped: Mapped) -> Iterator[Extent]:
    """Go through a matrix's blocks, and within each through its groups."""
    first = 0
    for block in mapped.blocks:
        of_output = first + block.crossbar[first_columns(block)]
        rows, outputs = block.rows // block.groups, len(of_output) // block.groups
        for group in range(block.groups):
            row = block.first_row + group * rows + np.arange(rows)
            output = block.first_output + group * outputs + np.arange(outputs)
            crossbar = of_output[group * outputs : (group + 1) * outputs]
            if mapped.circulant is None:
                yield Extent(output, row, crossbar)
            else:
                yield _written_out(mapped.circulant, output, row, crossbar)
        first += block.crossbars


def first_columns(block: Block) -> np.ndarray:
    """The first column of each output of a block."""
    return np.flatnonzero(np.diff(block.output, prepend=-1))


def _written_out(circulant: Circulant, output: np.ndarray, row: np.ndarray, crossbar: np.ndarray) -> Extent:
    """Of stored columns and rows, in which blocks stand whole, those of the matrix: a block's weights are all there."""
    _, column = circulant.made()
    made = np.flatnonzero((column >= output[0]) & (column <= output[-1]))
    made = made[np.argsort(column[made], kind="stable")]
    rows = np.unique(circulant.driven()[:, row])
    return Extent(made, rows[rows >= 0], crossbar[column[made] - output[0]])
