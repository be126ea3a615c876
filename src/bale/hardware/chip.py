"""What is a chip? Crossbars of cells with converters, in IMAs, in tiles, and what each unit draws, costs and covers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cached_property
from typing import Literal

import numpy as np

from bale.errors import ChipError
from bale.hardware.adc import ConverterCost, converter_cost


class Encoding(StrEnum):
    """How signed weights become cells, which hold no sign.

    offset: w + 2^(bits - 1), and the inputs' sum is subtracted digitally. differential: a column for the positive
    weights beside one for the negative. sign-magnitude: magnitudes, with a digital sign for each column of a row
    block; only where a block's column has weights of both signs it is two columns.
    """

    OFFSET = "offset"
    DIFFERENTIAL = "differential"
    SIGN_MAGNITUDE = "sign-magnitude"


class Event(StrEnum):
    """What is counted. Each kind is paid for by one unit of a chip at most."""

    CELL_READ = "cell read"  # a cell whose row is driven, for one cycle
    ROW_DRIVE = "row drive"  # a DAC, for one cycle
    HOLD = "hold"  # a column's sum, sampled and held
    CONVERSION = "conversion"
    SHIFT_ADD = "shift-add"
    INPUT_REGISTER = "input register"  # a bit of an IMA's inputs
    OUTPUT_REGISTER = "output register"  # a conversion's sum
    EDRAM = "eDRAM"  # 256 bits of a tile's buffer
    BUS = "bus"  # a bit between a tile's buffer and its IMAs
    TILE_SHIFT_ADD = "tile shift-add"  # sums of several IMAs
    TILE_OUTPUT = "tile output"  # 256 bits
    ACTIVATION = "activation"  # of one element
    POOL = "pool"  # an element that a maximum is taken of
    ROUTER = "router"  # 256 bits through one router
    OFF_CHIP = "off-chip"  # a bit
    CELL_WRITE = "cell write"


# A place of which a chip has many, each in the next. Routers are shared by tiles.
PLACES = ("ima", "tile", "router", "chip")
Place = Literal["ima", "tile", "router", "chip"]


def _check(holds: bool, field: str, problem: str) -> None:
    if not holds:
        raise ChipError(f"{field}: {problem}")


def _at_least(bound: float, prefix: str, given: object, *names: str) -> None:
    for name in names:
        number = getattr(given, name)
        _check(bound <= number < float("inf"), f"{prefix}.{name}", f"must be at least {bound:g}, got {number:g}")


def _positive(prefix: str, given: object, *names: str) -> None:
    for name in names:
        number = getattr(given, name)
        _check(0 < number < float("inf"), f"{prefix}.{name}", f"must be above 0, got {number:g}")


@dataclass(frozen=True)
class Cell:
    """A cell: its levels, and what reading and writing it costs.

    `read` says which: "fixed", `read_fj` a cell and cycle, whatever is stored and driven; or "conductance", V^2 G t
    with the conductances stored (from 1 / off_ohm at level 0 to 1 / on_ohm at the highest) and the voltages driven.
    """

    bits: int
    read: Literal["fixed", "conductance"]
    read_fj: float
    on_ohm: float
    off_ohm: float
    read_volt: float
    pulse_ns: float
    write_pj: float
    write_ns: float

    def __post_init__(self) -> None:
        _check(1 <= self.bits <= 8, "cell.bits", f"must be 1 to 8, got {self.bits}")
        _check(self.read in ("fixed", "conductance"), "cell.read", f"must be fixed or conductance, got {self.read!r}")
        _at_least(0, "cell", self, "read_fj", "write_pj", "write_ns")
        _positive("cell", self, "on_ohm", "read_volt", "pulse_ns")
        _check(
            self.off_ohm > self.on_ohm, "cell.off_ohm", f"must be above on_ohm {self.on_ohm:g}, got {self.off_ohm:g}"
        )

    @property
    def read_pj(self) -> float:
        """One read of a cell; by conductance, of one at the highest level whose row is driven at the full voltage."""
        if self.read == "fixed":
            return 1e-3 * self.read_fj
        return 1e3 * self.read_volt**2 / self.on_ohm * self.pulse_ns  # W ns = 1,000 pJ

    def share_of_read(self, levels: np.ndarray) -> np.ndarray:
        """What a read of cells costs, as a share of `read_pj`, by their levels: 1 if fixed, else their conductance."""
        if self.read == "fixed":
            return np.ones(levels.shape)
        least = self.on_ohm / self.off_ohm
        return least + (1 - least) * levels / (2**self.bits - 1)


@dataclass(frozen=True)
class Crossbar:
    """An array of `rows` x `columns` cells, read once in `read_ns`; it draws `power_mw` when read all the time."""

    rows: int
    columns: int
    read_ns: float
    power_mw: float
    area_mm2: float

    def __post_init__(self) -> None:
        _at_least(1, "crossbar", self, "rows", "columns")
        _positive("crossbar", self, "read_ns")
        _at_least(0, "crossbar", self, "power_mw", "area_mm2")

    @property
    def cells(self) -> int:
        """Cells of the array."""
        return self.rows * self.columns


@dataclass(frozen=True)
class Adc:
    """Converters of `bits`, `per_ima` of them, each of `rate_gsps` 10^9 samples a second; a law says what they cost.

    With the law "given", `energy_pj` a conversion and `area_um2` a converter do.
    """

    bits: int
    law: str
    rate_gsps: float
    per_ima: int
    energy_pj: float | None = None
    area_um2: float | None = None

    def __post_init__(self) -> None:
        _check(1 <= self.bits <= 32, "adc.bits", f"must be 1 to 32, got {self.bits}")
        _positive("adc", self, "rate_gsps", "per_ima")
        for name in ("energy_pj", "area_um2"):
            if self.law == "given":
                _check(getattr(self, name) is not None, f"adc.{name}", "is missing, which law: given needs")
                _at_least(0, "adc", self, name)
            else:
                _check(
                    getattr(self, name) is None,
                    f"adc.{name}",
                    f"is set by the law {self.law}; remove it, or law: given",
                )

    def cost(self, column_ohm: float) -> ConverterCost:
        """Of one conversion and one converter."""
        if self.energy_pj is not None and self.area_um2 is not None:
            return ConverterCost(self.energy_pj, self.area_um2)
        return converter_cost(self.law, self.bits, column_ohm)


@dataclass(frozen=True)
class Unit:
    """What stands `count` times in each IMA, tile, router or chip (`per`).

    `power_mw` and `area_mm2` are of all `count` together, as in ISAAC's table; `energy_pj` is of one `event`.
    """

    name: str
    per: Place
    count: int
    power_mw: float
    area_mm2: float
    event: Event | None = None
    energy_pj: float = 0.0
    source: str = ""

    def __post_init__(self) -> None:
        where = f"units.{self.name}"
        _check(self.per in PLACES, f"{where}.per", f"must be one of {', '.join(PLACES)}, got {self.per!r}")
        _at_least(1, where, self, "count")
        _at_least(0, where, self, "power_mw", "area_mm2", "energy_pj")
        _check(self.event is not None or not self.energy_pj, f"{where}.energy_pj", "needs an event that it is paid for")


@dataclass(frozen=True)
class Chip:
    """A whole chip, and the numbers of a network that runs on it.

    Raises `ChipError`, which names the field, for what cannot be.
    """

    name: str
    node_nm: float
    weight_bits: int
    input_bits: int
    encoding: Encoding
    flip: bool  # a column whose sum may exceed half of the largest is stored as its complement (ISAAC)
    dac_bits: int
    cell: Cell
    crossbar: Crossbar
    adc: Adc
    crossbars_per_ima: int
    imas_per_tile: int
    tiles: int
    tiles_per_router: int
    share_tiles: bool  # may two layers lie in one tile?
    units: tuple[Unit, ...]

    def __post_init__(self) -> None:
        _check(bool(self.name), "name", "must not be empty")
        _check(0 < self.node_nm < float("inf"), "node_nm", f"must be above 0, got {self.node_nm:g}")
        for name in ("weight_bits", "input_bits", "dac_bits", "tiles"):
            _check(isinstance(getattr(self, name), int), name, f"must be a whole number, got {getattr(self, name)!r}")
        _check(2 <= self.weight_bits <= 16, "weight_bits", f"must be 2 to 16, got {self.weight_bits}")
        _check(1 <= self.input_bits <= 16, "input_bits", f"must be 1 to 16, got {self.input_bits}")
        _check(1 <= self.dac_bits <= 8, "dac_bits", f"must be 1 to 8, got {self.dac_bits}")
        for name in ("crossbars_per_ima", "imas_per_tile", "tiles", "tiles_per_router"):
            _check(getattr(self, name) >= 1, name, f"must be at least 1, got {getattr(self, name)}")
        known = [str(encoding) for encoding in Encoding]
        _check(self.encoding in known, "encoding", f"must be one of {', '.join(known)}, got {self.encoding!r}")
        object.__setattr__(self, "encoding", Encoding(self.encoding))
        _check(
            self.weight_columns <= self.crossbar.columns,
            "crossbar.columns",
            f"a weight of {self.weight_bits} bits takes {self.weight_columns} columns of {self.cell.bits} bit cells, "
            f"and a crossbar has {self.crossbar.columns}",
        )
        largest = self.crossbar.rows * self.highest_level * (2**self.dac_bits - 1)
        _check(
            largest < 2**23, "crossbar.rows", f"columns would sum up to {largest:,}; from 2^23 on sums are not exact"
        )
        self._check_units()
        self.converter  # noqa: B018  a law without figures for these bits is an error here, not in the middle of a run

    def _check_units(self) -> None:
        for name, times in Counter(unit.name for unit in self.all_units).items():
            _check(times == 1, f"units.{name}", f"stands there {times} times; names are unlike, and `count` counts")
        for unit in self.units:
            paid = unit.event is not Event.CELL_WRITE
            _check(paid, f"units.{unit.name}.event", "is paid for by cell.write_pj; a unit cannot pay for it too")
        for event, times in Counter(unit.event for unit in self.all_units if unit.event is not None).items():
            payers = ", ".join(unit.name for unit in self.all_units if unit.event == event)
            _check(times == 1, "units", f"the event {event} would be counted {times} times, by {payers}")

    @property
    def slices(self) -> int:
        """Cells that one weight's bits take: its magnitude's alone, unless an offset does away with the sign."""
        bits = self.weight_bits if self.encoding is Encoding.OFFSET else self.weight_bits - 1
        return -(-bits // self.cell.bits)

    @property
    def weight_columns(self) -> int:
        """Columns that one weight takes: its slices, with a sign those of positive and of negative weights, at most."""
        return self.slices * (1 if self.encoding is Encoding.OFFSET else 2)

    @property
    def highest_level(self) -> int:
        """The largest number that a cell holds."""
        return 2**self.cell.bits - 1

    @property
    def cycle_ns(self) -> float:
        """A read of all crossbars of an IMA, and the conversion of all their columns, which overlap."""
        conversions = self.crossbar.columns * self.crossbars_per_ima / self.adc.per_ima
        return max(self.crossbar.read_ns, conversions / self.adc.rate_gsps)

    def input_cycles(self, signed: bool) -> int:
        """Cycles in which one input is driven: its bits, `dac_bits` at a time, a sign bit by itself."""
        return -(-(self.input_bits - signed) // self.dac_bits) + signed

    @property
    def tile_crossbars(self) -> int:
        """Crossbars of a tile."""
        return self.crossbars_per_ima * self.imas_per_tile

    @property
    def crossbars(self) -> int:
        """Crossbars of the chip."""
        return self.tile_crossbars * self.tiles

    def places(self, per: Place) -> int:
        """How many IMAs, tiles, routers the chip has."""
        routers = -(-self.tiles // self.tiles_per_router)
        return {"ima": self.imas_per_tile * self.tiles, "tile": self.tiles, "router": routers, "chip": 1}[per]

    @cached_property
    def converter(self) -> ConverterCost:
        """What one conversion and one converter cost.

        The column before it, of which NeuroSim's law asks, is one with half of its rows driven, at the mean level.
        """
        mean = (1 / self.cell.on_ohm + 1 / self.cell.off_ohm) / 2
        return self.adc.cost(column_ohm=1 / (mean * max(1, self.crossbar.rows / 2)))

    @cached_property
    def adc_unit(self) -> Unit:
        """The converters of an IMA."""
        cost, adc = self.converter, self.adc
        power = adc.per_ima * cost.energy_pj * adc.rate_gsps  # pJ x 10^9/s = mW
        area = adc.per_ima * cost.area_um2 * 1e-6
        law = f"law {adc.law}, {adc.bits} bit"
        return Unit("ADC", "ima", adc.per_ima, power, area, Event.CONVERSION, cost.energy_pj, law)

    @cached_property
    def all_units(self) -> tuple[Unit, ...]:
        """The units, and before them the crossbars and converters, which sections of their own describe."""
        many = self.crossbars_per_ima
        power, area = many * self.crossbar.power_mw, many * self.crossbar.area_mm2
        arrays = Unit(
            "crossbars", "ima", many, power, area, Event.CELL_READ, self.cell.read_pj, f"{self.cell.read} read"
        )
        return (arrays, self.adc_unit, *self.units)


def field_names(kind: type) -> tuple[str, ...]:
    """The names of a part's fields, as they stand in a file."""
    return tuple(field.name for field in fields(kind))
