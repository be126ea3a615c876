"""What stands in a crossbar's columns, and how large can a column's sum be? Section 0 of the mapping contract.

A layer's matrix is weight.flatten(1).T, its rows cut into blocks as high as a crossbar; an output's positive and
negative weights have columns of their own, and each column one for each slice of a weight's bits. Plain numbers and
tensors: the model of an accelerator maps the same way, and a test holds both together.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class ColumnBounds:
    """The largest column sums of a weight, in units of (input level x cell level), and the bits that hold them.

    `nonzeros`: the most weights of a physical column that are not 0. `a_priori` knows only these and the levels of
    cells and DAC: M = l (2^c - 1)(2^v - 1). `exact` is the largest sum of the cells really programmed.
    """

    nonzeros: int
    a_priori: int
    exact: int

    @property
    def a_priori_bits(self) -> int:
        return converter_bits(self.a_priori)

    @property
    def exact_bits(self) -> int:
        return converter_bits(self.exact)


def converter_bits(largest_sum: int) -> int:
    """The fewest bits that hold 0 to largest_sum: M <= 2^bits - 1."""
    return max(1, largest_sum.bit_length())


def most_nonzeros(adc_bits: int, cell_bits: int, dac_bits: int) -> int:
    """The most non-zeros of a column whose every sum fits an ADC of so many bits."""
    return (2**adc_bits - 1) // ((2**cell_bits - 1) * (2**dac_bits - 1))


def row_blocks(matrix: Tensor, rows: int) -> Tensor:
    """[outputs, inputs] -> [outputs, blocks, rows]: what stands in one column each; zeros after the last input."""
    outputs, inputs = matrix.shape
    return functional.pad(matrix, (0, -inputs % rows)).view(outputs, -1, rows)


def largest_by_sign(matrix: Tensor, most: int, rows: int) -> Tensor:
    """The signs (int8, 0: left out) of what may stay of a matrix [outputs, inputs]: nearest in Euclidean distance.

    Of each output and row block the `most` largest positive and the `most` largest negative; of equal ones the first.
    """
    blocks = row_blocks(matrix, rows)
    signs = torch.zeros_like(blocks, dtype=torch.int8)
    for sign in (1, -1):
        magnitudes = (sign * blocks).clamp(min=0)
        kept = torch.sort(magnitudes, dim=-1, descending=True, stable=True).indices[..., :most]
        chosen = torch.zeros_like(signs).scatter_(-1, kept, sign)
        signs += chosen * (magnitudes > 0)
    return signs.flatten(1)[:, : matrix.shape[1]]


def column_bounds(matrix: Tensor, *, rows: int, weight_bits: int, cell_bits: int, dac_bits: int) -> ColumnBounds:
    """The bounds over all columns of a matrix [outputs, inputs], rounded to integers by outputs' largest weights."""
    highest = 2 ** (weight_bits - 1) - 1
    largest = matrix.abs().amax(1, keepdim=True).double()
    scale = torch.where(largest > 0, largest / highest, 1.0)
    integers = (matrix.double() / scale).round().clamp(-highest, highest).to(torch.int64)
    blocks = row_blocks(integers, rows)
    most, exact = 0, 0
    for sign in (1, -1):
        plane = (sign * blocks).clamp(min=0)
        most = max(most, int(plane.count_nonzero(dim=-1).max()))
        for shift in range(0, weight_bits - 1, cell_bits):
            cells = (plane >> shift) & (2**cell_bits - 1)
            exact = max(exact, int(cells.sum(-1).max()))
    drive = 2**dac_bits - 1
    return ColumnBounds(most, most * (2**cell_bits - 1) * drive, exact * drive)
