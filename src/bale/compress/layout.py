"""How do the numbers that are stored become a weight? One by one, along wrapped diagonals, or as rows of pieces."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from bale.compress.matrix import Shape


class Layout(Protocol):
    """From numbers to a weight; a frozen dataclass, so that it can be compared and written down."""

    @property
    def weight_shape(self) -> tuple[int, ...]: ...

    @property
    def values_shape(self) -> tuple[int, ...]:
        """Of the stored numbers; the first axis counts what has a scale of its own."""
        ...

    def expand(self, values: Tensor) -> Tensor:
        """The weight that the numbers mean."""
        ...

    def project(self, weight: Tensor) -> Tensor:
        """The numbers whose weight is nearest to this one (least squares)."""
        ...


@dataclass(frozen=True)
class Dense:
    """Every number of a weight is stored."""

    weight_shape: tuple[int, ...]

    @property
    def values_shape(self) -> tuple[int, ...]:
        return self.weight_shape

    def expand(self, values: Tensor) -> Tensor:
        return values

    def project(self, weight: Tensor) -> Tensor:
        return weight


@dataclass(frozen=True)
class BlockCirculant:
    """A weight of circulant blocks of k x k, each stored as its first column (CirCNN; Ding et al., MICRO 2017).

    A weight is seen as [parts, outputs, inputs, taps] (`Shape`): a convolution has a block for each tap of its kernel,
    and groups, or the gates of an LSTM, are parts with blocks of their own. Outputs and inputs that k does not divide
    are padded with zeros, which are dropped again. With w the stored numbers, W[t, s] = w[(t - s) mod k].

    `fft`: multiply by Fourier transforms where a layer can (`FFT_PAYS` says when they pay).
    """

    shape: Shape
    block: int
    fft: bool = False

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return self.shape.weight

    @property
    def block_rows(self) -> int:
        return -(-self.shape.outputs // self.block)

    @property
    def block_columns(self) -> int:
        return -(-self.shape.inputs // self.block)

    @property
    def padded(self) -> bool:
        return bool(self.shape.outputs % self.block or self.shape.inputs % self.block)

    @property
    def values_shape(self) -> tuple[int, ...]:
        """[parts * block rows, block columns, taps * k]: three axes, which no memory format rearranges."""
        return (self.shape.parts * self.block_rows, self.block_columns, self.shape.taps * self.block)

    def blocks(self, values: Tensor) -> Tensor:
        """The stored numbers as [parts, block rows, block columns, taps, k]."""
        shape = self.shape
        return values.view(shape.parts, self.block_rows, self.block_columns, shape.taps, self.block)

    @property
    def fft_macs(self) -> int:
        """Of a product by transforms: (k/2 + 1) complex products a block, and the transforms at k log2(k) each."""
        blocks = self.shape.parts * self.block_rows * self.block_columns * self.shape.taps
        transforms = self.block_columns + self.shape.parts * self.block_rows
        return blocks * 4 * (self.block // 2 + 1) + transforms * self.block * (self.block - 1).bit_length()

    def expand(self, values: Tensor) -> Tensor:
        shape, k = self.shape, self.block
        # Row t of a block is the reversed column, turned by t + 1: all rows are windows of it, written twice, the last
        # row first. Nothing is copied until they are turned round, each to its place.
        turned = self.blocks(values).flip(-1)
        windows = torch.cat((turned, turned[..., :-1]), -1).unfold(-1, k, 1)  # [..., k - 1 - t, s]
        blocks = windows.permute(0, 1, 4, 2, 5, 3).flip(2)  # [parts, block rows, t, block columns, s, taps]
        padded = blocks.reshape(shape.parts, self.block_rows * k, self.block_columns * k, shape.taps)
        weight = padded[:, : shape.outputs, : shape.inputs].reshape(shape.weight)
        return weight.contiguous()  # without its padding it may be a view, which cuDNN's recurrent layers refuse

    def project(self, weight: Tensor) -> Tensor:
        """The mean over each wrapped diagonal, of what is not padding; 0 where a diagonal is nothing else."""
        there = torch.ones_like(weight)
        means = self._diagonal_sums(weight) / self._diagonal_sums(there).clamp(min=1)
        return means.reshape(self.values_shape)

    def _diagonal_sums(self, weight: Tensor) -> Tensor:
        shape, k = self.shape, self.block
        padded = weight.new_zeros(shape.parts, self.block_rows * k, self.block_columns * k, shape.taps)
        padded[:, : shape.outputs, : shape.inputs] = weight.reshape(shape.parts, shape.outputs, shape.inputs, -1)
        blocks = padded.reshape(shape.parts, self.block_rows, k, self.block_columns, k, shape.taps)
        blocks = blocks.permute(0, 1, 3, 5, 2, 4)  # [parts, block rows, block columns, taps, t, s]
        t, s = torch.arange(k)[:, None], torch.arange(k)[None, :]
        # Of diagonal d, row t has its element in column (t - d) mod k.
        columns = ((t - s) % k).to(weight.device).expand(blocks.shape)  # [..., t, d]
        return blocks.gather(-1, columns).sum(-2)


_PLAIN_SIZE = 3  # S where no kernel says it


@dataclass(frozen=True)
class Pieces:
    """A weight as pieces of `rows` rows at most, each row S consecutive numbers of an output (SmartDeal).

    Read in the authors' code: S is the width of a kernel, its last axis, so that an output of a convolution is
    (inputs x height) rows; where the width is 1, and in all other layers, an output is filled with zeros to a multiple
    of 3, S = 3; an output of more rows is cut. Ours: outputs of fewer rows share a piece, as many as it holds; the
    pieces of a weight are equal, rows that fill them up are padding.

    `rows`: of a piece, at most.
    """

    weight_shape: tuple[int, ...]
    rows: int = 192

    @property
    def size(self) -> int:
        """S."""
        width = self.weight_shape[-1] if len(self.weight_shape) > 2 else 1
        return width if width > 1 else _PLAIN_SIZE

    @property
    def output_rows(self) -> int:
        """Of one output."""
        return -(-prod(self.weight_shape[1:]) // self.size)

    @property
    def values_shape(self) -> tuple[int, int, int]:
        """[pieces, rows, S]."""
        outputs, each = self.weight_shape[0], self.output_rows
        if each > self.rows:
            cuts = -(-each // self.rows)
            return (outputs * cuts, -(-each // cuts), self.size)
        pieces = -(-outputs // (self.rows // each))
        return (pieces, -(-outputs // pieces) * each, self.size)

    def expand(self, values: Tensor) -> Tensor:
        outputs = self.by_output(values).flatten(1)[:, : prod(self.weight_shape[1:])]
        return outputs.reshape(self.weight_shape).contiguous()

    def project(self, weight: Tensor) -> Tensor:
        numbers = weight.reshape(self.weight_shape[0], -1)
        return self.by_piece(functional.pad(numbers, (0, self.output_rows * self.size - numbers.shape[1])))

    def by_output(self, values: Tensor) -> Tensor:
        """[pieces, rows, S] as [outputs, rows of an output, S], without padding rows."""
        outputs, each = self.weight_shape[0], self.output_rows
        if each > self.rows:
            return values.reshape(outputs, -1, self.size)[:, :each]
        return values.reshape(-1, each, self.size)[:outputs]

    def by_piece(self, numbers: Tensor) -> Tensor:
        """Numbers of outputs [outputs, rows of an output x S], or in more axes, as [pieces, rows, S], 0 in padding."""
        outputs, each = self.weight_shape[0], self.output_rows
        pieces, rows, size = self.values_shape
        numbers = numbers.reshape(outputs, each * size)
        if each > self.rows:
            numbers = functional.pad(numbers, (0, pieces // outputs * rows * size - each * size))
        else:
            numbers = functional.pad(numbers, (0, 0, 0, pieces * rows // each - outputs))
        return numbers.reshape(self.values_shape)
