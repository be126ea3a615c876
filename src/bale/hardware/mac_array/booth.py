"""How many digits has a number to a bit-serial multiplier? Radix-4 Booth: from -2 to 2, zeros cost nothing."""

from __future__ import annotations

import numpy as np

from bale.errors import MappingError


def booth_digits(numbers: np.ndarray, bits: int, signed: bool) -> np.ndarray:
    """Integers [...] of `bits` as radix-4 Booth digits int8 [..., digits], the lowest first: sum of digit x 4^place.

    Digit i is b[2i-1] + b[2i] - 2 b[2i+1] of the two's complement (Booth, 1951, recoded by MacSorley, 1961). A signed
    number of 8 bits has four digits, an unsigned one five. Raises `MappingError` for numbers beyond the bits.

    >>> booth_digits(np.array([7, 100]), 8, signed=True).tolist()
    [[-1, 2, 0, 0], [0, 1, -2, 2]]
    """
    lowest = _lowest(bits, signed)
    if numbers.size and not lowest <= numbers.min() <= numbers.max() < lowest + 2**bits:
        raise MappingError(
            f"numbers from {numbers.min()} to {numbers.max()}: {bits} bits, {'signed' if signed else 'unsigned'}, "
            f"hold {lowest} to {lowest + 2**bits - 1}"
        )
    places = digit_places(bits, signed)
    doubled = numbers.astype(np.int64) << 1  # below the lowest bit stands a zero
    digits = [
        ((doubled >> 2 * i) & 1) + ((doubled >> 2 * i + 1) & 1) - 2 * ((doubled >> 2 * i + 2) & 1)
        for i in range(places)
    ]
    return np.stack(digits, axis=-1).astype(np.int8)


def digit_counts(numbers: np.ndarray, bits: int, signed: bool) -> np.ndarray:
    """How many Booth digits of integers [...] of `bits` are not zero, uint8 [...]; of no others (unchecked)."""
    lowest = _lowest(bits, signed)
    table = np.count_nonzero(booth_digits(np.arange(lowest, lowest + 2**bits), bits, signed), axis=-1)
    return table.astype(np.uint8)[numbers - lowest]


def digit_places(bits: int, signed: bool) -> int:
    """Digits of a number, zeros and all."""
    return (bits + (not signed) + 1) // 2


def _lowest(bits: int, signed: bool) -> int:
    return -(2 ** (bits - 1)) if signed else 0
