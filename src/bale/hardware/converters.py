"""How many bits have the converters of each matrix, and what do converters of unlike bits cost on one chip?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from bale.errors import ChipError, MappingError
from bale.hardware.adc import LAWS
from bale.hardware.chip import Chip, Unit
from bale.hardware.mapping import Mapped, Placement

Bound = Literal["a priori", "exact"]
# bits by matrix, of all alike, by a bound that loses nothing, or as the chip has them
AdcBits = Mapping[str, int] | int | Bound | None


def converters_of(matrices: Mapping[str, Mapped], chip: Chip, adc_bits: AdcBits) -> dict[str, int]:
    """The bits of the converters of each matrix.

    By "a priori" and "exact" they are the fewest that hold what the bound says (`Lossless`) and that the chip's law has
    figures for, so that nothing is clipped by construction. A matrix that a mapping does not name has the chip's own.
    Raises `MappingError`, which names the matrix and the law, for bits that the law has no figures for.
    """
    if isinstance(adc_bits, Mapping):
        unknown = [name for name in adc_bits if name not in matrices]
        if unknown:
            raise MappingError(f"adc_bits: no matrix {unknown[0]!r}; there are {', '.join(matrices)}")
        chosen = {name: adc_bits.get(name, chip.adc.bits) for name in matrices}
    elif isinstance(adc_bits, str):
        chosen = {name: max(_needed(mapped, adc_bits), _fewest(chip)) for name, mapped in matrices.items()}
    else:
        chosen = dict.fromkeys(matrices, chip.adc.bits if adc_bits is None else adc_bits)
    for name, bits in chosen.items():
        _check(name, bits, chip)
    return chosen


def with_bits(chip: Chip, bits: int) -> Chip:
    """The chip with converters of other bits, by the same law."""
    return chip if bits == chip.adc.bits else replace(chip, adc=replace(chip.adc, bits=bits))


def conversions_pj(placement: Placement, converters: Mapping[str, int]) -> dict[str, float]:
    """What one conversion of each matrix costs, in the mean over the columns of its crossbars.

    By the converters of the IMA that a crossbar lies in, which have more bits than the matrix needs where a neighbour
    needs more (`ima_bits`).
    """
    bits, size = ima_bits(placement, converters), placement.chip.crossbars_per_ima
    units = _units(placement.chip, bits.tolist())
    costs = np.array([units[many].energy_pj for many in bits.tolist()])
    found = {}
    for name, placed in placement.places.items():
        blocks = placement.matrices[name].blocks
        columns = np.concatenate([np.bincount(block.crossbar, minlength=block.crossbars) for block in blocks])
        # Parts of a matrix that is larger than the chip lie in the same crossbars, one after the other.
        slots = placed.first + np.arange(placed.copies * len(columns)) % placement.crossbars(name)
        found[name] = float(np.average(costs[slots // size], weights=np.tile(columns, placed.copies)))
    return found


def ima_bits(placement: Placement, converters: Mapping[str, int]) -> np.ndarray:
    """int64 [IMAs], the bits of each IMA's converters, of the tiles in use.

    An IMA's converters are alike, and serve whatever lies in it, in all turns: they have the most bits of the matrices
    that have crossbars in it. Where nothing lies they have the most of all the network, lest they be counted too cheap.
    """
    chip, size = placement.chip, placement.chip.crossbars_per_ima
    bits = np.zeros(placement.tiles * chip.imas_per_tile, np.int64)
    for name, placed in placement.places.items():
        last = placed.first + placement.crossbars(name) - 1
        mine = bits[placed.first // size : last // size + 1]
        np.maximum(mine, converters[name], out=mine)
    bits[bits == 0] = max(converters.values())
    return bits


def of_tiles(placement: Placement, converters: Mapping[str, int]) -> tuple[dict[str, float], dict[str, float]]:
    """Power (mW) and area (mm2), by unit, of the tiles in use, their routers, and what the chip has once."""
    chip, tiles = placement.chip, placement.tiles
    routers = -(-tiles // chip.tiles_per_router)
    places = {"ima": tiles * chip.imas_per_tile, "tile": tiles, "router": routers, "chip": 1}
    imas = Counter(ima_bits(placement, converters).tolist())
    adcs = _units(chip, imas)
    power = {unit.name: unit.power_mw * places[unit.per] for unit in chip.all_units}
    area = {unit.name: unit.area_mm2 * places[unit.per] for unit in chip.all_units}
    power[chip.adc_unit.name] = sum(adcs[bits].power_mw * many for bits, many in imas.items())
    area[chip.adc_unit.name] = sum(adcs[bits].area_mm2 * many for bits, many in imas.items())
    return power, area


def _needed(mapped: Mapped, bound: str) -> int:
    if bound not in get_args(Bound):
        raise MappingError(f"adc_bits: expected a number, 'a priori', 'exact', or bits by matrix, got {bound!r}")
    return mapped.bounds.exact_bits if bound == "exact" else mapped.bounds.a_priori_bits


def _fewest(chip: Chip) -> int:
    """Bits of the smallest converter that the chip's law has figures for."""
    return chip.adc.bits if chip.adc.law == "given" else LAWS[chip.adc.law].fewest


def _check(name: str, bits: int, chip: Chip) -> None:
    if not isinstance(bits, int):
        raise MappingError(f"{name}: adc_bits must be a whole number, got {bits!r}")
    if chip.adc.law == "given" and bits != chip.adc.bits:
        raise MappingError(
            f"{name}: is to have converters of {bits} bits, and with law: given {chip.name} tells only what its "
            f"{chip.adc.bits} bits cost; choose a law, one of {', '.join(LAWS)}"
        )
    try:
        with_bits(chip, bits)
    except ChipError as error:
        raise MappingError(f"{name}: is to have converters of {bits} bits: {error}") from error


def _units(chip: Chip, bits: Iterable[int]) -> dict[int, Unit]:
    return {many: with_bits(chip, many).adc_unit for many in set(bits)}
