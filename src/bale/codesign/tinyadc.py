"""What do few non-zeros in a crossbar's columns buy: cheaper converters, beside structured pruning and a dense chip?

TinyADC (DATE 2021). Published: "column proportional pruning", that it loses nothing, and four numbers of
the abstract. All else is our reconstruction (docs/tinyadc.md): which encodings, which bits, what is counted.

All sides have ISAAC's structure: crossbars of 128 x 128 cells of 2 bits, inputs driven bit by bit. They differ in the
network, in how its weights become cells, and in the converters' bits. An operation is a multiplication or an addition
of the *dense* network, whichever side: throughput is that of images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import prod
from typing import Any, Literal

from torch import Tensor, nn

from bale.codesign.exact import exact_images
from bale.codesign.figure import Figure
from bale.data import Images
from bale.errors import MappingError
from bale.hardware import (
    LAWS,
    Chip,
    Encoding,
    OnChip,
    cost_on_chip,
    isaac_ce,
    peak,
    put_on_chip,
    with_converters,
)
from bale.hardware.converters import AdcBits, conversions_pj, ima_bits, with_bits
from bale.hardware.events import Ledger, energy_of
from bale.hardware.mapping import place
from bale.hardware.pipeline import timeline
from bale.hardware.roll_up import tile_area_mm2, tile_power_mw

Level = Literal["tile", "chip"]
LEVELS: tuple[Level, ...] = ("tile", "chip")
LAW = "saberi"  # ISAAC's own converter, scaled
_IMAGES = 16  # in the pipeline, until the time between them is steady


@dataclass(frozen=True)
class Way:
    """How signed weights become cells."""

    encoding: Encoding
    flip: bool = False

    def __str__(self) -> str:
        return f"{self.encoding} and flip" if self.flip else str(self.encoding)


ISAACS = Way(Encoding.OFFSET, flip=True)
DIFFERENTIAL, SIGN_MAGNITUDE = Way(Encoding.DIFFERENTIAL), Way(Encoding.SIGN_MAGNITUDE)


@dataclass(frozen=True)
class Side:
    """A network, by its name, in cells and with converters: of all matrices the same bits, or the fewest of a bound."""

    network: str
    way: Way
    adc_bits: int | Literal["exact", "a priori"] = "exact"

    def __str__(self) -> str:
        bits = {"exact": "lossless bits", "a priori": "bits lossless a priori"}.get(str(self.adc_bits))
        return f"{self.network}; {self.way}, {bits or f'{self.adc_bits} bits'}"


@dataclass(frozen=True)
class Footprint:
    """Power and area."""

    power_mw: float
    area_mm2: float


@dataclass(frozen=True, eq=False)
class Laid:
    """A network on a chip, one copy of each matrix (`least`); what an image does there, and the ns between images.

    None of it depends on the converters.
    """

    least: OnChip
    ledger: Ledger
    interval_ns: float

    @classmethod
    def of(cls, model: nn.Module, data: Tensor, way: Way, chip: Chip) -> Laid:
        """Lay a network on a chip, in this way instead of the chip's; `data` calibrates its inputs."""
        chip = replace(chip, encoding=way.encoding, flip=way.flip)
        least = put_on_chip(model, chip, data, copy=False)
        cost = cost_on_chip(least, model, data, images=_IMAGES)
        return cls(least, cost.ledger, cost.interval_ns)

    def filled(self, tiles: int) -> tuple[OnChip, float]:
        """The network with as many copies as some tiles hold, and the ns between images.

        Raises `MappingError` where these do not hold one copy.
        """
        placed, chip = self.least.placement, self.least.chip
        placement = place(self.least.network, placed.ways, chip, crossbars=tiles * chip.tile_crossbars)
        return replace(self.least, placement=placement), timeline(self.least.network, placement, _IMAGES).interval_ns


@dataclass(frozen=True, eq=False)
class Measured:
    """What a network costs with certain converters.

    converters  their bits, by matrix
    crossbars   of one copy of each matrix
    energy_pj   of an image in one copy, by unit of the chip; `links`: the units that a chip has once
    least       one copy's crossbars, each with its share of its tile and, at the chip's level, of the links
    filled      all tiles that the copies lie in, which are as many as some tiles hold
    least_ns    between images that follow one another, in one copy of each; `filled_ns`: in all copies
    """

    converters: Mapping[str, int]
    crossbars: int
    energy_pj: Mapping[str, float]
    links: frozenset[str]
    least: Mapping[Level, Footprint]
    filled: Mapping[Level, Footprint]
    least_ns: float
    filled_ns: float

    def energy(self, level: Level) -> float:
        """pJ of an image by counted events; within tiles, or with the links of the chip."""
        return sum(pj for unit, pj in self.energy_pj.items() if level == "chip" or unit not in self.links)


def measure(laid: Laid, filled: tuple[OnChip, float], adc_bits: AdcBits, law: str = LAW) -> Measured:
    """Count what a network costs with such converters, by a law; `filled` is that of `laid` for some tiles.

    Raises `MappingError` for bits that the law has no figures for.
    """
    least, copies = (with_converters(on_chip, adc_bits, law) for on_chip in (laid.least, filled[0]))
    matrices = least.placement.matrices
    crossbars = [(least.converters[name], mapped.crossbars) for name, mapped in matrices.items()]
    imas = [(bits, copies.chip.crossbars_per_ima) for bits in ima_bits(copies.placement, copies.converters).tolist()]
    return Measured(
        converters=least.converters,
        crossbars=sum(many for _, many in crossbars),
        energy_pj=energy_of(laid.ledger, least.chip, conversions_pj(least.placement, least.converters)).by_unit(),
        links=frozenset(unit.name for unit in least.chip.units if unit.per == "chip"),
        least={level: _footprint(least.chip, crossbars, level) for level in LEVELS},
        filled={level: _footprint(copies.chip, imas, level) for level in LEVELS},
        least_ns=laid.interval_ns,
        filled_ns=filled[1],
    )


def share(chip: Chip, level: Level) -> Footprint:
    """A crossbar with its share of its IMA, its tile and the tile's router ("tile"), and of the links too ("chip")."""
    if level == "tile":
        return Footprint(tile_power_mw(chip) / chip.tile_crossbars, tile_area_mm2(chip) / chip.tile_crossbars)
    whole = peak(chip)
    return Footprint(1e3 * whole.power_w / chip.crossbars, whole.area_mm2 / chip.crossbars)


def _footprint(chip: Chip, crossbars: Sequence[tuple[int, int]], level: Level) -> Footprint:
    """Of (bits of their converters, crossbars), each with its share of all else."""
    shares = {bits: share(with_bits(chip, bits), level) for bits, _ in crossbars}
    return Footprint(
        sum(many * shares[bits].power_mw for bits, many in crossbars),
        sum(many * shares[bits].area_mm2 for bits, many in crossbars),
    )


# What is compared, as a cost: a system is so many times better as a baseline's is higher. Images a second are those of
# the network whichever side it is, so that its ratios are those of GOPS of the dense network's operations.
_COSTS = {
    "energy an image": lambda side, level: side.energy(level),
    "power of one copy": lambda side, level: side.least[level].power_mw,
    "area of one copy": lambda side, level: side.least[level].area_mm2,
    "GOPS/W": lambda side, level: side.filled[level].power_mw * side.filled_ns,
    "GOPS/mm2": lambda side, level: side.filled[level].area_mm2 * side.filled_ns,
}
Cost = Literal["energy an image", "power of one copy", "area of one copy", "GOPS/W", "GOPS/mm2"]


class Comparison:
    """Networks on ISAAC's structure, side against side.

    models      by name; one is called "dense", and its operations are those that are counted
    data        images [samples, ...], which calibrate the ranges of inputs
    input_bits  of an input; weights have 8, as those of FORMS do, a relative of TinyADC by the same group, whose inputs
                have 16
    tiles       of both sides where throughput is compared; by default four times the fewest that hold a copy of the
                dense network in differential columns, and so one of every side: on fewer tiles it is what little room
                there is beside one copy that decides, and not what a copy costs
    """

    def __init__(
        self, models: Mapping[str, nn.Module], data: Tensor, *, input_bits: int = 8, tiles: int | None = None
    ) -> None:
        self.models, self.data = models, data
        self.chip = replace(isaac_ce(), weight_bits=8, input_bits=input_bits)
        self.laid = lru_cache(maxsize=None)(self._laid)
        self.filled = lru_cache(maxsize=None)(self._filled)
        self._measured = lru_cache(maxsize=None)(self._measure)
        self.fewest = self.laid("dense", DIFFERENTIAL).least.placement.tiles
        self.tiles = 4 * self.fewest if tiles is None else tiles

    def _laid(self, network: str, way: Way) -> Laid:
        return Laid.of(self.models[network], self.data, way, self.chip)

    def _filled(self, network: str, way: Way, tiles: int) -> tuple[OnChip, float]:
        return self.laid(network, way).filled(tiles)

    @cached_property
    def operations(self) -> int:
        """Of an image, in the dense network: multiplications and additions."""
        return 2 * self.laid("dense", DIFFERENTIAL).least.network.macs

    def measured(self, side: Side, law: str = LAW, tiles: int | None = None) -> Measured:
        """What a side costs by a law; raises `MappingError` for bits that the law has no figures for."""
        return self._measured(side, law, self.tiles if tiles is None else tiles)

    def _measure(self, side: Side, law: str, tiles: int) -> Measured:
        filled = self.filled(side.network, side.way, tiles)
        return measure(self.laid(side.network, side.way), filled, side.adc_bits, law)

    def better(
        self,
        cost: Cost,
        system: Side,
        baseline: Side,
        *,
        level: Level = "tile",
        law: str = LAW,
        tiles: int | None = None,
    ) -> float:
        """How many times the system is better; above 1 it is."""
        ours, theirs = (_COSTS[cost](self.measured(side, law, tiles), level) for side in (system, baseline))
        return theirs / ours

    def figure(self, cost: Cost, system: Side, baseline: Side, claim: float | None = None) -> Figure:
        """A ratio at the level of tiles by the default law; the chip's level, other laws and tiles are conditions."""
        by_law = {level: {law: self._by_law(cost, system, baseline, level, law) for law in LAWS} for level in LEVELS}
        conditions: dict[str, Any] = {
            "law": LAW,
            "input bits": self.chip.input_bits,
            "level": "tile",
            **{f"at the {level}, by law": known for level, known in by_law.items()},
            "system": self.told(system),
            "baseline": self.told(baseline),
        }
        if cost in ("GOPS/W", "GOPS/mm2"):
            conditions["tiles"] = self.tiles
            conditions["at the tile, by tiles"] = {
                str(times * self.fewest): self.better(cost, system, baseline, tiles=times * self.fewest)
                for times in (1, 2, 4)
            }
        ours = self.better(cost, system, baseline)
        return Figure(f"{cost}: {system}", str(baseline), ours, claim=claim, conditions=conditions)

    def _by_law(self, cost: Cost, system: Side, baseline: Side, level: Level, law: str) -> float | None:
        """None where the law has no figures for the bits of one of them."""
        try:
            return self.better(cost, system, baseline, level=level, law=law)
        except MappingError:
            return None

    def told(self, side: Side) -> dict[str, Any]:
        """A side's own numbers, by the default law."""
        it = self.measured(side)
        gops = self.operations / it.filled_ns
        return {
            "adc bits": sorted(set(it.converters.values())),
            "crossbars": it.crossbars,
            "energy_nj": 1e-3 * it.energy("chip"),
            "energy_nj by unit": {unit: 1e-3 * pj for unit, pj in it.energy_pj.items()},
            "one copy, power_mw": it.least["tile"].power_mw,
            "one copy, area_mm2": it.least["tile"].area_mm2,
            "one copy, interval_ns": it.least_ns,
            "tiles, power_mw": it.filled["tile"].power_mw,
            "tiles, area_mm2": it.filled["tile"].area_mm2,
            "tiles, interval_ns": it.filled_ns,
            "GOPS": gops,
            "GOPS/W": 1e3 * gops / it.filled["tile"].power_mw,
            "GOPS/mm2": gops / it.filled["tile"].area_mm2,
        }

    def whole(self, cost: Cost, system: Side, parts: Sequence[Side], baseline: Side) -> Figure:
        """How many times better is a system than the product of what its parts gain: 1 where they do not interfere."""
        gained = {str(part): self.better(cost, part, baseline) for part in parts}
        ours, product = self.better(cost, system, baseline), prod(gained.values())
        conditions = {"law": LAW, "level": "tile", "system": ours, "product": product, "parts": gained}
        name = f"{cost}, the whole over the product of its parts: {system}"
        return Figure(name, f"parts beside {baseline}", ours / product, conditions=conditions)

    def crossbars(self, system: Side, baseline: Side) -> Figure:
        """How many times fewer crossbars a copy of each matrix takes."""
        ours, theirs = (self.laid(side.network, side.way).least.placement.used for side in (system, baseline))
        conditions = {"system, crossbars": ours, "baseline, crossbars": theirs}
        return Figure(f"crossbars: {system.network}; {system.way}", str(baseline), theirs / ours, conditions=conditions)

    def exactness(self, side: Side, images: Images) -> Figure:
        """Run images through crossbars with a side's converters, and see that nothing is lost, of no image anything.

        Raises `BaleError` where something is (`exact_images`).
        """
        on_chip = with_converters(self.laid(side.network, side.way).least, side.adc_bits)
        return exact_images(on_chip, self.models[side.network], images, str(side))
