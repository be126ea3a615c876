"""What is one use of a matrix, and what does it wait for?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bale.hardware.digital import FunctionKind
from bale.hardware.layers import Use


@dataclass(frozen=True, eq=False)
class Edge:
    """An input of a call: position p waits for the producer's positions up to `last[p]`.

    `producer` is the index of a call. `elements`: how many numbers it sends for one sample.
    """

    producer: int
    last: np.ndarray
    elements: int


@dataclass(frozen=True, eq=False)
class Call:
    """One use of a matrix for one sample, and what it waits for; calls come in the order in which they ran."""

    use: Use
    inputs: tuple[Edge, ...]

    @property
    def matrix(self) -> str:
        return self.use.matrix

    @property
    def positions(self) -> int:
        return self.use.positions


@dataclass(frozen=True)
class Digital:
    """Operations that are on no crossbar: `times` of one function in one module, with `elements` results in all.

    `kind` says what the function is to a chip: an activation, a pool, a product, or anything else.
    """

    layer: str
    function: str
    kind: FunctionKind
    times: int
    elements: int


def last_needed(use: Use, producer: Use) -> np.ndarray:
    """The last position of `producer` that each position of `use` waits for, where places are kept in between.

    Where the plane is as large, place for place; where it has become smaller (a pool), a place stands for the block
    that it came from; a producer whose positions do not come in the plane's order is waited for to its end.
    """
    if producer.in_order != use.in_order:
        return np.full(use.positions, producer.positions - 1)
    height, width = use.input_plane
    if height * width == producer.positions:
        return use.last_input
    rows, columns = producer.plane
    row, column = np.divmod(use.last_input, width)
    row = np.minimum(-(-(row + 1) * rows // height), rows) - 1
    column = np.minimum(-(-(column + 1) * columns // width), columns) - 1
    return np.maximum(row, 0) * columns + np.maximum(column, 0)
