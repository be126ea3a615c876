"""What does a chip draw and cover with every unit busy, and how much could it compute?"""

from __future__ import annotations

from dataclasses import dataclass

from bale.hardware.chip import Chip, Event, Place, Unit


@dataclass(frozen=True)
class Peak:
    """A chip at full activity. An operation is a multiplication or an addition of weights and inputs of full width."""

    power_w: float  # by the units' power
    event_power_w: float  # by events and what each costs
    area_mm2: float
    tops: float
    storage_mib: float
    power_by_unit_w: dict[str, float]
    event_power_by_unit_w: dict[str, float]
    area_by_unit_mm2: dict[str, float]


def peak(chip: Chip) -> Peak:
    """Add up a chip's units, all busy (ISAAC's way to state power, area and TOPS)."""
    places = {unit.name: chip.places(unit.per) for unit in chip.all_units}
    power = {unit.name: 1e-3 * unit.power_mw * places[unit.name] for unit in chip.all_units}
    events = {unit.name: _event_power_mw(chip, unit) * 1e-3 * places[unit.name] for unit in chip.all_units}
    area = {unit.name: unit.area_mm2 * places[unit.name] for unit in chip.all_units}
    return Peak(
        power_w=sum(power.values()),
        event_power_w=sum(events.values()),
        area_mm2=sum(area.values()),
        tops=_operations_per_ns(chip) * chip.crossbars * 1e-3,
        storage_mib=chip.crossbars * chip.crossbar.cells * chip.cell.bits / 8 / 2**20,
        power_by_unit_w=power,
        event_power_by_unit_w=events,
        area_by_unit_mm2=area,
    )


def tile_power_mw(chip: Chip) -> float:
    """Of one tile and its share of a router."""
    return _of_tile(chip, {unit.name: unit.power_mw for unit in chip.all_units})


def tile_area_mm2(chip: Chip) -> float:
    """Of one tile and its share of a router."""
    return _of_tile(chip, {unit.name: unit.area_mm2 for unit in chip.all_units})


def tile_gops(chip: Chip) -> float:
    """10^9 operations a second of one tile."""
    return _operations_per_ns(chip) * chip.tile_crossbars


def _of_tile(chip: Chip, amount: dict[str, float]) -> float:
    share: dict[Place, float] = {"ima": chip.imas_per_tile, "tile": 1, "router": 1 / chip.tiles_per_router, "chip": 0}
    return sum(amount[unit.name] * share[unit.per] for unit in chip.all_units)


def _operations_per_ns(chip: Chip) -> float:
    """Of one crossbar, full of weights, its inputs signed or not of full width."""
    weights = chip.crossbar.rows * (chip.crossbar.columns // chip.weight_columns)
    return 2 * weights / (chip.input_cycles(signed=False) * chip.cycle_ns)


def _event_power_mw(chip: Chip, unit: Unit) -> float:
    """What a busy unit's events cost, of one place.

    Crossbars, and what serves their rows and columns, have so many events in a cycle; of other units no source states
    the rate, and it is the one that their power implies.
    """
    crossbars, crossbar = chip.crossbars_per_ima, chip.crossbar
    in_a_cycle = {
        Event.CELL_READ: crossbars * crossbar.cells,
        Event.ROW_DRIVE: crossbars * crossbar.rows,
        Event.INPUT_REGISTER: crossbars * crossbar.rows * chip.dac_bits,
        Event.HOLD: crossbars * crossbar.columns,
        Event.CONVERSION: crossbars * crossbar.columns,
        Event.SHIFT_ADD: crossbars * crossbar.columns,
        Event.OUTPUT_REGISTER: crossbars * crossbar.columns,
    }
    if unit.event is None or unit.event not in in_a_cycle:
        return unit.power_mw
    return in_a_cycle[unit.event] * unit.energy_pj / chip.cycle_ns  # pJ / ns = mW
