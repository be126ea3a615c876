"""How is a matrix cut for the lines of an array? One output's weights as rows of a few, which MACs use in turn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from bale.hardware.layers import Matrix
from bale.hardware.network import Network

TRIPLE = 3  # inputs of a row where a matrix has no kernel wider than 1, as SmartDeal cuts them


@dataclass(frozen=True)
class RowShape:
    """One output's weights: `count` rows of `size`, of which `of_channel` are of one input channel.

    A convolution's row is a row of its kernel, used along a row of its input at `stride` and `dilation`. Any other
    matrix's is three inputs; the last may have fewer: `inputs` in all. `overlaps`: neighbouring positions
    share numbers, which are read once. `channels`: numbers at one place of the input's plane, of one group.
    """

    inputs: int
    count: int
    size: int
    channels: int
    of_channel: int = 1
    stride: int = 1
    dilation: int = 1
    overlaps: bool = False

    @property
    def taps(self) -> np.ndarray:
        """How many weights each row really has, [count]."""
        return np.minimum(self.size, self.inputs - self.size * np.arange(self.count))

    def line(self, lines: int, alone: bool) -> np.ndarray:
        """The line that works on each row, [count]: channel by channel, or row by row where each has a MAC `alone`."""
        return np.arange(self.count) // (1 if alone else self.of_channel) % lines

    def cut(self, vectors: np.ndarray, groups: int) -> np.ndarray:
        """Vectors [vectors, groups * inputs] as [vectors, groups, count, size], the last row filled with zeros."""
        apart = vectors.reshape(len(vectors), groups, self.inputs)
        missing = self.count * self.size - self.inputs
        return np.pad(apart, ((0, 0), (0, 0), (0, missing))).reshape(len(vectors), groups, self.count, self.size)

    def numbers(self, positions: np.ndarray) -> np.ndarray:
        """Numbers of the input that so many neighbouring positions [passes] need of each row: [passes, count]."""
        each = positions[:, None] * self.taps
        if not self.overlaps:
            return each
        reach = (positions - 1) * self.stride + (self.size - 1) * self.dilation + 1
        return np.minimum(each, reach[:, None])


def row_shape(module: nn.Module, matrix: Matrix) -> RowShape:
    """How the rows of a module's matrix are cut."""
    kernel = module.kernel_size if isinstance(module, nn.Conv1d | nn.Conv2d) else (1,)
    channels, width = matrix.rows // int(np.prod(kernel)), int(kernel[-1])
    if not isinstance(module, nn.Conv1d | nn.Conv2d) or width == 1:
        return RowShape(matrix.rows, -(-matrix.rows // TRIPLE), TRIPLE, channels)
    height, stride, dilation = int(np.prod(kernel[:-1], dtype=np.int64)), module.stride[-1], module.dilation[-1]
    return RowShape(matrix.rows, matrix.rows // width, width, channels, height, stride, dilation, overlaps=True)


def row_shapes(model: nn.Module, network: Network) -> dict[str, RowShape]:
    """Of all matrices of a model."""
    modules = {name or type(model).__name__: module for name, module in model.named_modules()}
    return {name: row_shape(modules[matrix.layer], matrix) for name, matrix in network.matrices.items()}
