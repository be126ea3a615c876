"""How do numbers come onto a grid of few bits, and how is the grid trained?"""

from __future__ import annotations

from math import frexp

import torch
from torch import Tensor, nn

_FRACTIONS = 32  # of the largest magnitude, tried as the end of the grid
_LEAST_SCALE = 1e-30


class UniformQuantizer(nn.Module):
    """Numbers rounded to whole multiples, -(2^(bits - 1) - 1) to 2^(bits - 1) - 1, of a scale for each channel.

    The first scale is that of least squared error. It is trained as a learned step size (LSQ; Esser et al., ICLR 2020):
    rounding passes gradients straight through, and the scale's own is that of the rounding's error. What is trained is
    the logarithm of its ratio to the first (a logarithm as in Jain et al., MLSys 2020), so that a step of Adam is a
    share of the scale, however small that is.

    Args:
        values: the numbers [channels, ...] whose grid it is to be.
        bits: of a code, at least 2.
    """

    first: Tensor

    def __init__(self, values: Tensor, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.register_buffer("first", best_scale(values.detach(), bits))
        self.log_ratio = nn.Parameter(torch.zeros_like(self.first))  # near 0, where half types are exact

    @property
    def highest(self) -> int:
        return 2 ** (self.bits - 1) - 1

    def step(self) -> Tensor:
        """The scale as it is multiplied."""
        kind = torch.finfo(self.first.dtype)
        least = max(_LEAST_SCALE, kind.tiny * kind.eps)  # float16 has no 1e-30
        return (self.first * self.log_ratio.exp()).clamp_min(least)

    def forward(self, values: Tensor) -> Tensor:
        """Take the numbers, return the grid's nearest."""
        step = self.step()
        held = self._multiples(values, step)
        return (held + (held.round() - held).detach()) * step

    def codes(self, values: Tensor) -> Tensor:
        """The whole multiples, int64."""
        return self._multiples(values, self.step()).round().long()

    def _multiples(self, values: Tensor, step: Tensor) -> Tensor:
        """Of the step, within the grid."""
        # The digits of half types may be fewer than a code's: the end is then the largest whole number that they hold.
        digits = 2 - frexp(torch.finfo(values.dtype).eps)[1]
        spare = max(0, self.bits - 1 - digits)
        end = self.highest >> spare << spare
        return (values / step).clamp(-end, end)

    def extra_repr(self) -> str:
        return f"bits={self.bits}"


@torch.no_grad()
def best_scale(values: Tensor, bits: int) -> Tensor:
    """The scale [channels, 1, ...] of least squared error, of those whose grid ends at a fraction of the largest."""
    highest, dtype = 2 ** (bits - 1) - 1, values.dtype
    values = values if dtype == torch.float64 else values.float()  # squares of half types would vanish
    axes = tuple(range(1, values.dim()))
    largest = values.abs().amax(axes, keepdim=True).clamp_min(_LEAST_SCALE * highest)
    best, least = largest / highest, torch.full_like(largest, float("inf"))
    for place in range(_FRACTIONS, 0, -1):
        scale = largest * (place / _FRACTIONS) / highest
        error = (values / scale).round_().clamp_(-highest, highest).mul_(scale).sub_(values).square_()
        error = error.sum(axes, keepdim=True)
        best, least = torch.where(error < least, scale, best), torch.minimum(error, least)
    return best.to(dtype)
