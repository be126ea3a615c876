"""What does a converter of so many bits cost? Several published laws, of which the user picks one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from bale.errors import ChipError
from bale.hardware.constants import MNSIM, MURMANN, NEUROSIM, SABERI, value


@dataclass(frozen=True)
class ConverterCost:
    """One conversion, in pJ, and one converter, in um2."""

    energy_pj: float
    area_um2: float


@dataclass(frozen=True)
class Law:
    """What a converter costs by its bits and the resistance (ohm) of the column before it."""

    source: str
    fewest: int
    most: int
    cost: Callable[[int, float], ConverterCost]


def converter_cost(law: str, bits: int, column_ohm: float) -> ConverterCost:
    """The cost of a converter of `bits` by a law of `LAWS`.

    Laws are used within the bits that they were published for: outside, and for a law that does not exist, raises
    `ChipError`. Between published points the logarithm is interpolated (our inference).
    """
    if law not in LAWS:
        raise ChipError(f"adc.law: no law {law!r}; choose one of {', '.join(LAWS)}, or given")
    known = LAWS[law]
    if not known.fewest <= bits <= known.most:
        raise ChipError(
            f"adc.bits: the law {law} has figures for {known.fewest} to {known.most} bits, got {bits}; "
            f"choose another law ({', '.join(LAWS)}), or give energy_pj and area_um2 with law: given"
        )
    return known.cost(bits, column_ohm)


def _saberi(bits: int, column_ohm: float) -> ConverterCost:
    return ConverterCost(value("saberi_rate") * value(f"saberi_{bits}"), value(f"saberi_area_{bits}"))


def _exponential(bits: int, column_ohm: float) -> ConverterCost:
    anchor = _saberi(8, column_ohm)
    return ConverterCost(anchor.energy_pj * 2.0 ** (bits - 8), anchor.area_um2 * 2.0 ** (bits - 8))


def _murmann(bits: int, column_ohm: float) -> ConverterCost:
    return ConverterCost(_between("murmann_{}", bits), value("murmann_area"))


def _neurosim(bits: int, column_ohm: float) -> ConverterCost:
    """P = (1.1294 b + 8.90) uW + .0794 e^(-2.297 log10 R) W, over b + 1 ns. The area is that of the default law."""
    own = 1e-6 * (value("neurosim_slope") * bits + value("neurosim_intercept"))
    column = value("neurosim_column") * math.exp(value("neurosim_column_exponent") * math.log10(column_ohm))
    return ConverterCost(1e3 * (own + column) * (bits + 1), value(f"saberi_area_{bits}"))


def _mnsim(bits: int, column_ohm: float) -> ConverterCost:
    return ConverterCost(_between("mnsim_{}", bits) / 1.28, _between("mnsim_area_{}", bits))


def _between(name: str, bits: int) -> float:
    """A law published at even bits."""
    if bits % 2 == 0:
        return value(name.format(bits))
    return math.sqrt(value(name.format(bits - 1)) * value(name.format(bits + 1)))


LAWS = MappingProxyType(
    {
        "saberi": Law(SABERI, 4, 10, _saberi),
        "exponential": Law("2^(bits - 8) from ISAAC's converter of 8 bits", 1, 16, _exponential),
        "murmann": Law(f"{MURMANN}; the area is that of 8 bits", 4, 10, _murmann),
        "neurosim": Law(f"{NEUROSIM}; the area is that of saberi", 4, 10, _neurosim),
        "mnsim": Law(f"{MNSIM}, 1.28 GS/s", 4, 8, _mnsim),
    }
)
