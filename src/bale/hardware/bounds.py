"""How many bits must a converter have, so that no conversion loses anything? (Section 5.)"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bale.hardware.chip import Chip
from bale.hardware.encode import Block


@dataclass(frozen=True)
class Lossless:
    """The largest column sums of a matrix, and the bits that hold them.

    `a_priori` knows only where weights are 0, and the cells' and the DAC's levels: M = l (2^c - 1)(2^v - 1), l the
    most cells of a column that are not 0, and with ISAAC's flip at most half of what all its rows could add up to.
    `exact` is the largest sum of the cells programmed.
    """

    a_priori: int
    exact: int

    @property
    def a_priori_bits(self) -> int:
        return converter_bits(self.a_priori)

    @property
    def exact_bits(self) -> int:
        return converter_bits(self.exact)


def lossless(blocks: Sequence[Block], chip: Chip) -> Lossless:
    """The bounds over all columns of a matrix."""
    drive = 2**chip.dac_bits - 1
    return Lossless(
        max(drive * a_priori_sum(block.nonzeros, block.rows // block.groups, chip) for block in blocks),
        max(drive * int(block.cells.sum(axis=0, dtype=np.int64).max(initial=0)) for block in blocks),
    )


def a_priori_sum(nonzeros: int, rows: int, chip: Chip) -> int:
    """The largest sum of `nonzeros` cells of `rows`, each input 1."""
    most = nonzeros * chip.highest_level
    return min(most, rows * chip.highest_level // 2) if chip.flip else most


def converter_bits(largest_sum: int) -> int:
    """The fewest bits that hold 0 .. largest_sum: lossless if and only if largest_sum <= 2^bits - 1."""
    return max(1, largest_sum.bit_length())
