"""What is a weight as a matrix? Outputs by inputs, for each tap of a kernel, in parts that share no blocks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A weight [parts * outputs, inputs, *kernel] as [parts, outputs, inputs, taps].

    `parts`: groups of a convolution, each with inputs of its own; or gates of an LSTM or GRU, which read the same.
    """

    weight: tuple[int, ...]
    parts: int = 1

    @property
    def outputs(self) -> int:
        """Of one part."""
        return self.weight[0] // self.parts

    @property
    def inputs(self) -> int:
        """Of one part."""
        return self.weight[1]

    @property
    def taps(self) -> int:
        taps = 1
        for size in self.weight[2:]:
            taps *= size
        return taps
