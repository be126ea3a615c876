"""How do coefficients become powers of two, and bases numbers of 8 bits? The two grids of W ~= Ce B."""

from __future__ import annotations

import torch
from torch import Tensor, nn

BASIS_HIGHEST = 127  # of a basis' whole multiples
_TRIED = 1 << 14  # numbers, about, from which a set is chosen
_LEAST_BASIS = 2.0**-100  # as large as a basis at least counts, so that its exponent is a byte


class PowerOfTwoQuantizer(nn.Module):
    """Numbers rounded to 0 or +-2^p, p one of 2^(bits - 1) consecutive exponents, the nearest by distance.

    Rounding passes gradients straight through. A code is a sign and the exponent's place; 0 has none, a bitmap tells.

    Args:
        highest: the largest exponent; a buffer, since a weight that is trained elsewhere may have another.
        bits: of a code.
    """

    highest: Tensor

    def __init__(self, highest: int, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.register_buffer("highest", torch.tensor(highest))

    def forward(self, values: Tensor) -> Tensor:
        """Take the numbers, return the nearest powers, of the same type."""
        powers = nearest_powers(values.detach(), self.highest, self.bits)
        return powers + (values - values.detach())  # in this order the sum is the power exactly

    def codes(self, values: Tensor) -> Tensor:
        """Of each number the sign times the place of its power, which counts from 1 at the smallest, or 0: int64."""
        return _places(values, powers_up_to(self.highest, self.bits)) * values.sign().long()

    def extra_repr(self) -> str:
        return f"bits={self.bits}, highest={int(self.highest)}"


def powers_up_to(highest: int | Tensor, bits: int) -> Tensor:
    """The powers of a set, the smallest first: float32 [2^(bits - 1)], exact."""
    top = highest if isinstance(highest, Tensor) else torch.tensor(highest)
    below = torch.arange(1 - 2 ** (bits - 1), 1, device=top.device)
    return torch.exp2((top + below).double()).float()  # torch's exp2 may be off by a digit of float64, not of float32


def nearest_powers(values: Tensor, highest: int | Tensor, bits: int) -> Tensor:
    """0 or +-2^p for each number, the nearest by distance."""
    powers = powers_up_to(highest, bits)
    magnitudes = torch.cat((powers.new_zeros(1), powers))[_places(values, powers)]
    return (magnitudes * values.sign()).to(values.dtype)


def best_highest(values: Tensor, bits: int) -> int:
    """The largest exponent of the set with the least squared error; of many numbers, for a part of them."""
    largest = float(values.abs().max())
    if not largest:
        return 0
    top = int(torch.frexp(torch.tensor(largest, dtype=torch.float64)).exponent)  # 2^(top - 1) <= largest < 2^top
    values = values.flatten()[:: max(1, values.numel() // _TRIED)].contiguous()
    errors = {
        highest: float((nearest_powers(values, highest, bits) - values).square().sum())
        for highest in range(top, top - 4, -1)
    }
    return min(errors, key=errors.__getitem__)


def _places(values: Tensor, powers: Tensor) -> Tensor:
    """Which of 0 and the powers is nearest to each magnitude: int64."""
    between = torch.cat((powers[:1] / 2, (powers[1:] + powers[:-1]) / 2))
    magnitudes = values.detach().abs()
    return torch.bucketize(magnitudes.to(torch.promote_types(magnitudes.dtype, powers.dtype)), between, right=True)


def eight_bits(basis: Tensor) -> Tensor:
    """Bases [pieces, S, S] on their grids, gradients straight through: whole multiples of a power of two a piece.

    float32 for half types, too: the product with powers of two is then exact in it, in whatever order it is summed.
    """
    wide = basis.to(torch.promote_types(basis.dtype, torch.float32))
    multiples, step = basis_multiples(wide.detach())
    return multiples * step + (wide - wide.detach())


@torch.no_grad()
def basis_multiples(basis: Tensor) -> tuple[Tensor, Tensor]:
    """The whole multiples, -127 to 127, of bases, and the powers of two [pieces, 1, 1] of which they are some."""
    largest = basis.abs().amax((-2, -1), keepdim=True).clamp_min(_LEAST_BASIS) / BASIS_HIGHEST
    mantissa = torch.frexp(largest).mantissa  # from .5 on, below 1
    step = torch.where(mantissa == 0.5, largest, largest / mantissa)  # the power of two that is at least as large
    return (basis / step).round(), step


def rebuilt(powers: Tensor, basis: Tensor) -> Tensor:
    """The rows [pieces, rows, S] that powers of two and bases [pieces, S, S], rounded to 8 bits, are a product of.

    All sums are exact in float32: of at most 32 products that have 7 + 8 bits together. Half types are rounded once.
    """
    wide = eight_bits(basis)
    return (powers.to(wide.dtype) @ wide).to(basis.dtype)
