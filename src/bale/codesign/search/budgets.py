"""What may a design cost, and how much accuracy may it lose?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import inf, isfinite

from bale.errors import BaleError

UNITS: Mapping[str, str] = {"area": "mm2", "energy": "uJ", "latency": "us"}
DROP = "accuracy-drop"
_UNKNOWN = 100.0  # times too much: of a design that no chip holds, of which there are no numbers
_LEAST_DROP = 0.01  # a drop beyond a budget of 0 is measured against this


@dataclass(frozen=True)
class Costs:
    """What an image costs on a design's chip.

    energy   uJ, by counted events
    area     mm2, of the tiles in use and their routers
    latency  us, of one image alone
    crossbars, tiles, adc_bits: what is used of the chip, and the bits of its converters
    """

    energy: float
    area: float
    latency: float
    crossbars: int
    tiles: int
    adc_bits: int


@dataclass(frozen=True)
class Budgets:
    """The most that a design may cost, in the units of `UNITS`, and lose of its accuracy; None: as much as it likes."""

    area: float | None = None
    energy: float | None = None
    latency: float | None = None
    drop: float | None = None

    def excess(self, costs: Costs | None, drop: float | None = None) -> dict[str, float]:
        """By how much each budget is exceeded, as a share of it; 0 or less: it is kept.

        A drop that is not known yet keeps its budget. Costs that are not known exceed theirs by far.

        >>> Budgets(area=2, drop=0.01).excess(Costs(1, 3, 1, 1, 1, 8), 0.005)
        {'area': 0.5, 'accuracy-drop': -0.5}
        """
        found = {}
        for name in UNITS:
            limit = getattr(self, name)
            if limit is not None:
                found[name] = _UNKNOWN if costs is None else getattr(costs, name) / limit - 1
        if self.drop is not None:
            found[DROP] = 0.0 if drop is None else (drop - self.drop) / max(self.drop, _LEAST_DROP)
        return found

    def meets(self, costs: Costs | None, drop: float | None = None) -> bool:
        """Are all budgets kept, but for a float's last bits?"""
        return all(excess <= 1e-9 for excess in self.excess(costs, drop).values())

    def __str__(self) -> str:
        parts = [
            f"{field.name} {getattr(self, field.name):g} {UNITS[field.name]}"
            for field in fields(self)
            if field.name in UNITS and getattr(self, field.name) is not None
        ]
        parts += [] if self.drop is None else [f"accuracy drop {100 * self.drop:g} %"]
        return ", ".join(parts) or "none"


def parse_budget(text: str) -> dict[str, float]:
    """The limits that a text means: NAME=NUMBER,NAME=NUMBER, of area (mm2), energy (uJ) and latency (us).

    Raises BaleError for other names, names that stand there twice, and for numbers that are not above 0.

    >>> parse_budget("area=5,energy=2.5")
    {'area': 5.0, 'energy': 2.5}
    """
    names = ", ".join(f"{name} ({unit})" for name, unit in UNITS.items())
    limits: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (word.strip() for word in part.partition("="))
        if not equals:
            raise BaleError(f"--budget {text}: expected NAME=NUMBER, such as area=5,energy=2; got {part!r}")
        if name not in UNITS:
            hint = "; the budget of accuracy is --accuracy-drop" if "acc" in name else ""
            raise BaleError(f"--budget {text}: no budget {name!r}; there are {names}{hint}")
        if name in limits:
            raise BaleError(f"--budget {text}: {name} stands there twice")
        limits[name] = _number(f"--budget {text}: {name}", number, f"a number of {UNITS[name]} above 0")
    return limits


def parse_drop(text: str) -> float:
    """The share that a text means: 1%, percentage points, or 0.01. Raises BaleError for what is no share below 1.

    >>> parse_drop("1%"), parse_drop("0.01"), parse_drop("0%")
    (0.01, 0.01, 0.0)
    """
    percent = text.strip().endswith("%")
    what = "a drop such as 1% (a percentage point) or 0.01, which is the same"
    number = _number(f"--accuracy-drop {text}", text.strip().removesuffix("%"), what, least=0.0)
    drop = number / 100 if percent else number
    if drop >= 1:
        raise BaleError(f"--accuracy-drop {text}: would be all of it; expected {what}")
    return drop


def _number(where: str, text: str, expected: str, least: float | None = None) -> float:
    try:
        number = float(text)
    except ValueError:
        number = inf
    if not isfinite(number) or (number <= 0 if least is None else number < least):
        raise BaleError(f"{where}: expected {expected}, got {text!r}")
    return number
