"""How does a person read a quantity? Three digits and a unit that fits, the same unit down a column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import floor, log10

Units = tuple[tuple[float, str], ...]  # what one of a unit is in the smallest, the smallest first

ENERGY: Units = ((1, "pJ"), (1e3, "nJ"), (1e6, "uJ"), (1e9, "mJ"), (1e12, "J"))
TIME: Units = ((1, "ns"), (1e3, "us"), (1e6, "ms"), (1e9, "s"))
COUNT: Units = ((1, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T"))
BITS: Units = ((1, "bit"), (1e3, "kbit"), (1e6, "Mbit"), (1e9, "Gbit"))
POWER: Units = ((1e-3, "mW"), (1, "W"), (1e3, "kW"))


def unit_for(values: Iterable[float], units: Units) -> tuple[float, str]:
    """The largest unit of which the largest value is at least one; the smallest where none is.

    >>> unit_for([12.0, 2_500_000.0], ENERGY)
    (1000000.0, 'uJ')
    """
    largest = max((abs(value) for value in values), default=0.0)
    return next((unit for unit in reversed(units) if largest >= unit[0]), units[0])


def quantity(value: float, units: Units) -> str:
    """A value with its unit, in three digits.

    >>> quantity(2_912_167, ENERGY), quantity(1600, TIME), quantity(784, COUNT), quantity(0, TIME)
    ('2.91 uJ', '1.60 us', '784', '0 ns')
    """
    size, name = unit_for([value], units)
    whole = float(value).is_integer() and size == 1
    number = f"{value:,.0f}" if whole else digits(value / size)
    return f"{number}{' ' if units is not COUNT and name else ''}{name}"


def digits(value: float, many: int = 3) -> str:
    """A number in so many digits, without an exponent where none is needed.

    >>> digits(41.287), digits(0.0062752), digits(1234.5), digits(9.996), digits(0.00001234)
    ('41.3', '0.00628', '1,234', '10.00', '1.23e-05')
    """
    if value == 0:
        return "0"
    if abs(value) < 1e-4 or abs(value) >= 1e7:
        return f"{value:.{many - 1}e}"
    return f"{value:,.{max(0, many - 1 - floor(log10(abs(value))))}f}"


def column(values: Sequence[float], size: float, largest: float | None = None) -> list[str]:
    """Values below one another, in units of `size`, with equally many decimals: three of what is below 100.

    `largest`: of a whole table, of which these are a part.

    >>> column([1_695_600, 48_200, 7, 0], 1e6)
    ['1.696', '0.048', '<0.001', '0']
    """
    largest = max((abs(value) for value in values), default=0.0) if largest is None else largest
    decimals = 3 if largest / size < 100 else 1 if largest / size < 10_000 else 0
    return [_decimal(value / size, decimals) for value in values]


def _decimal(value: float, decimals: int) -> str:
    if value == 0:
        return "0"
    least = 10.0**-decimals
    return f"<{least:.{decimals}f}" if 0 < value < least / 2 else f"{value:,.{decimals}f}"


def percent(part: float, whole: float) -> str:
    """A share; nothing that is there reads as 0, and nothing short of all as 100 %.

    >>> percent(1, 8), percent(1, 1e6), percent(999_999, 1e6), percent(0, 5), percent(5, 5), percent(0, 0)
    ('12.5%', '<0.1%', '>99.9%', '0', '100%', '0')
    """
    share = part / whole if whole else 0.0
    if share in (0, 1):
        return f"{share:.0%}" if share else "0"
    if share < 0.0005:
        return "<0.1%"
    return ">99.9%" if 0.9995 <= share < 1 else f"{share:.1%}"
