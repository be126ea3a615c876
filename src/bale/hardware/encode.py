"""Which numbers stand in the cells? Integer weights, cut into row blocks, encoded, sliced, in columns (section 0).

`y[j] = sum over blocks of (sum over columns c of output j: factor[c] * (x . cells[:, c])) + input_factor[j] *
sum(x)`, where x are the inputs of the block's rows and of the output's group. Columns of an output stand side by
side: slice after slice, the lowest bits first, and within a slice the column of positive weights before that of
negative ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bale.errors import MappingError
from bale.hardware.chip import Chip, Encoding


@dataclass(frozen=True, eq=False)
class Block:
    """The cells of a block of rows: what is driven together, in as many crossbars as its columns need.

    `cells` uint8 [rows, columns]; `output` and `factor` [columns]: whose sum a column is part of, times what;
    `input_factor` [outputs]: times what the sum of inputs is added digitally. `groups` of equal size lie along the
    diagonal, each with rows and outputs of its own; cells elsewhere hold 0. `first_row`, `first_output`: where the
    block's inputs and outputs stand among those of the whole matrix.
    """

    first_row: int
    first_output: int
    groups: int
    cells: np.ndarray
    output: np.ndarray
    factor: np.ndarray
    input_factor: np.ndarray
    nonzeros: int  # the most cells of a column that may differ from 0, by where weights are 0
    crossbar: np.ndarray  # [columns], which of the block's crossbars a column is in

    @property
    def rows(self) -> int:
        return self.cells.shape[0]

    @property
    def columns(self) -> int:
        return self.cells.shape[1]

    @property
    def crossbars(self) -> int:
        return int(self.crossbar[-1]) + 1

    @property
    def cells_used(self) -> int:
        """Cells that hold weights, zeros of a weight's bits too, but not what lies beside the diagonal of groups."""
        return self.rows * self.columns // self.groups


def encode(weight: np.ndarray, chip: Chip, name: str = "matrix", block_rows: int | None = None) -> tuple[Block, ...]:
    """Encode integers [groups, rows, outputs] for a chip's crossbars; blocks in the order of groups, then of rows.

    `block_rows`: rows of a block, at most; by default those of a crossbar.

    Raises `MappingError` for weights that are beyond the chip's bits.
    """
    groups, rows, outputs = weight.shape
    height = chip.crossbar.rows if block_rows is None else block_rows
    least = -(2 ** (chip.weight_bits - 1)) if chip.encoding is Encoding.OFFSET else 1 - 2 ** (chip.weight_bits - 1)
    most = 2 ** (chip.weight_bits - 1) - 1
    if weight.size and (weight.min() < least or weight.max() > most):
        raise MappingError(
            f"{name}: weights from {weight.min()} to {weight.max()}; {chip.encoding} holds {least} to {most}"
        )
    together = _groups_together(chip, groups, rows, outputs)
    if together > 1:
        return tuple(
            _diagonal([_block(weight[g], 0, 0, chip) for g in range(first, min(first + together, groups))], first, chip)
            for first in range(0, groups, together)
        )
    return tuple(
        _block(weight[group, low : low + height], group * rows + low, group * outputs, chip)
        for group in range(groups)
        for low in range(0, rows, height)
    )


def _groups_together(chip: Chip, groups: int, rows: int, outputs: int) -> int:
    """How many groups share a crossbar, along its diagonal."""
    widest = outputs * chip.weight_columns
    return min(groups, chip.crossbar.rows // rows, chip.crossbar.columns // widest)


def _block(weight: np.ndarray, first_row: int, first_output: int, chip: Chip) -> Block:
    """Encode the weights [rows, outputs] of one block."""
    rows, outputs = weight.shape
    shifts = [index * chip.cell.bits for index in range(chip.slices)]
    planes, signs = _sign_planes(weight, chip)  # [rows, outputs, planes], [outputs, planes]; sign 0: no column
    cells = np.empty((rows, outputs, chip.slices, planes.shape[2]), np.uint8)
    for index, shift in enumerate(shifts):
        cells[:, :, index] = (planes >> shift) & chip.highest_level
    factor = np.array([1 << shift for shift in shifts])[None, :, None] * signs[:, None, :]  # [outputs, slices, planes]
    output = np.broadcast_to(np.arange(outputs)[:, None, None], factor.shape)
    there = (factor != 0).reshape(-1)
    cells = cells.reshape(rows, -1)
    cells = cells if there.all() else cells[:, there]
    factor, output = factor.reshape(-1)[there], output.reshape(-1)[there].astype(np.int32)
    input_factor = np.zeros(outputs, np.int64)
    nonzeros = rows
    if chip.encoding is Encoding.OFFSET:
        input_factor -= 2 ** (chip.weight_bits - 1)
    else:
        nonzeros = int((planes != 0).sum(axis=0).max(initial=0))
    if chip.flip:
        _flip(cells, factor, output, input_factor, chip.highest_level)
    columns = _crossbars(output, chip.crossbar.columns)
    return Block(first_row, first_output, 1, cells, output, factor, input_factor, nonzeros, columns)


def _sign_planes(weight: np.ndarray, chip: Chip) -> tuple[np.ndarray, np.ndarray]:
    """Numbers without sign [rows, outputs, planes], and the sign of each plane's columns [outputs, planes], 0: none."""
    outputs = weight.shape[1]
    if chip.encoding is Encoding.OFFSET:
        return (weight + 2 ** (chip.weight_bits - 1))[:, :, None], np.ones((outputs, 1), np.int64)
    planes = np.stack((np.maximum(weight, 0), np.maximum(-weight, 0)), -1)
    signs = np.tile(np.array([1, -1]), (outputs, 1))
    if chip.encoding is Encoding.SIGN_MAGNITUDE:
        used = np.greater(planes.max(axis=0), 0)  # [outputs, planes]
        used[:, 0] |= ~used[:, 1]  # an output of zeros has its columns too
        signs = signs * used
    return planes, signs


def _flip(cells: np.ndarray, factor: np.ndarray, output: np.ndarray, input_factor: np.ndarray, highest: int) -> None:
    """Store a column whose cells add up to more than half of the most as its complement (ISAAC), in place.

    x . (highest - cells) = highest * sum(x) - x . cells: the factor's sign turns, and the inputs' sum is added.
    """
    rows = len(cells)
    sums = np.sum(cells, axis=0, dtype=np.uint32)
    flips = np.greater(sums, rows * highest // 2)
    flipped = np.flatnonzero(flips)
    cells ^= (highest * flips).astype(np.uint8)  # all bits of the highest level are 1: the complement
    np.add.at(input_factor, output[flipped], factor[flipped] * highest)
    factor[flipped] *= -1


def _crossbars(output: np.ndarray, width: int) -> np.ndarray:
    """Which crossbar each column is in: an output's columns stand in one, and crossbars are filled in order."""
    counts = np.bincount(output)
    crossbar, free, of_output = 0, width, np.empty(len(counts), np.int32)
    for index, count in enumerate(counts):
        if count > free:
            crossbar, free = crossbar + 1, width
        of_output[index] = crossbar
        free -= count
    return of_output[output]


def _diagonal(blocks: list[Block], first: int, chip: Chip) -> Block:
    """Groups along the diagonal of one crossbar."""
    rows, outputs = blocks[0].rows, len(blocks[0].input_factor)
    starts = np.cumsum([0, *(block.columns for block in blocks)])
    cells = np.zeros((rows * len(blocks), starts[-1]), np.uint8)
    for index, block in enumerate(blocks):
        cells[index * rows : (index + 1) * rows, starts[index] : starts[index + 1]] = block.cells
    return Block(
        first * rows,
        first * outputs,
        len(blocks),
        cells,
        np.concatenate([block.output + index * outputs for index, block in enumerate(blocks)]),
        np.concatenate([block.factor for block in blocks]),
        np.concatenate([block.input_factor for block in blocks]),
        max(block.nonzeros for block in blocks),
        np.zeros(starts[-1], np.int32),
    )
