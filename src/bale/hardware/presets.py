"""Which chips are known by name? ISAAC, ISAAC with other converters, and a chip of small tiles."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType

from bale.errors import ChipError
from bale.hardware.chip import Adc, Cell, Chip, Crossbar, Encoding, Event, Place, Unit
from bale.hardware.constants import CONSTANTS, value

_SOURCES = {constant.name: f"{constant.source} [{constant.mark}]" for constant in CONSTANTS}


def isaac_ce() -> Chip:
    """ISAAC-CE: 168 tiles of 12 IMAs of 8 crossbars of 128 x 128 cells of 2 bits; 16 bit, 32 nm (section 1)."""
    return Chip(
        name="isaac_ce",
        node_nm=32,
        weight_bits=16,
        input_bits=16,
        encoding=Encoding.OFFSET,
        flip=True,
        dac_bits=1,
        cell=_cell(),
        crossbar=crossbar_of(128, 128),
        adc=Adc(bits=8, law="saberi", rate_gsps=1.28, per_ima=8),
        crossbars_per_ima=8,
        imas_per_tile=12,
        tiles=168,
        tiles_per_router=4,
        share_tiles=True,
        units=(
            *ima_units(arrays=8, rows=128, columns=128),
            *_tile_units(),
            _unit("router", "router", 1, "router", Event.ROUTER, value("router")),
            _unit("HyperTransport", "chip", 4, "link", Event.OFF_CHIP, value("link_bit")),
        ),
    )


def isaac_adc(bits: int) -> Chip:
    """ISAAC-CE with converters of other `bits`, and nothing else changed (section 5)."""
    chip = isaac_ce()
    return replace(chip, name=f"isaac_adc({bits})", adc=replace(chip.adc, bits=bits))


def small_tiles() -> Chip:
    """100 tiles of 4 crossbars of 64 x 64 cells of 2 bits, 8 bit differential, one layer a tile (section 6).

    Its units are ISAAC's, scaled to the crossbars (our inference), with a router for each tile. On ISAAC's own tiles
    a small network fits in one or two, and there is nothing to say about traffic.
    """
    isaac = isaac_ce()
    return replace(
        isaac,
        name="small_tiles",
        weight_bits=8,
        input_bits=8,
        encoding=Encoding.DIFFERENTIAL,
        flip=False,
        crossbar=crossbar_of(64, 64),
        adc=replace(isaac.adc, per_ima=4, rate_gsps=0.64),
        crossbars_per_ima=4,
        imas_per_tile=1,
        tiles=100,
        tiles_per_router=1,
        share_tiles=False,
        units=(
            *ima_units(arrays=4, rows=64, columns=64),
            *(_scaled(unit, 4 * 64 / (96 * 128)) for unit in _tile_units()),
            *(unit for unit in isaac.units if unit.per in ("router", "chip")),
        ),
    )


_PRESETS: MappingProxyType[str, Callable[[], Chip]] = MappingProxyType(
    {"isaac_ce": isaac_ce, "small_tiles": small_tiles}
)
PRESETS = (*_PRESETS, "isaac_adc(BITS)")


def preset(name: str) -> Chip | None:
    """The chip of that name, or None: `isaac_ce`, `small_tiles`, `isaac_adc(6)`, for shells also `isaac_adc:6`."""
    if name in _PRESETS:
        return _PRESETS[name]()
    adc = re.fullmatch(r"isaac_adc(?:\((\d+)\)|:(\d+))", name)
    if adc is not None:
        return isaac_adc(int(adc[1] or adc[2]))
    if name.startswith("isaac_adc"):
        raise ChipError(f"{name}: expected isaac_adc(BITS), such as isaac_adc(6)")
    return None


def _cell() -> Cell:
    return Cell(
        bits=2,
        read="fixed",
        read_fj=value("cell_read"),
        on_ohm=value("cell_on"),
        off_ohm=value("cell_off"),
        read_volt=value("cell_volt"),
        pulse_ns=value("cell_pulse"),
        write_pj=value("cell_write"),
        write_ns=value("cell_write_time"),
    )


def crossbar_of(rows: int, columns: int) -> Crossbar:
    """A crossbar of ISAAC's power and area a cell."""
    part = rows * columns / (8 * 128 * 128)
    return Crossbar(rows, columns, 100, part * value("ima_array_power"), part * value("ima_array_area"))


def _unit(name: str, per: Place, count: int, key: str, event: Event, energy_pj: float) -> Unit:
    power, area = f"{key}_power", f"{key}_area"
    return Unit(name, per, count, value(power), value(area), event, energy_pj, _SOURCES[power])


def ima_units(arrays: int, rows: int, columns: int) -> tuple[Unit, ...]:
    """ISAAC's, with power and area in proportion to the rows and columns that there are of 8 x 128 each."""
    rows, columns = arrays * rows, arrays * columns
    of_rows = (
        _unit("DAC", "ima", rows, "ima_dac", Event.ROW_DRIVE, value("dac_drive")),
        _unit("input register", "ima", 1, "ima_input", Event.INPUT_REGISTER, value("input_register_bit")),
    )
    of_columns = (
        _unit("S&H", "ima", columns, "ima_hold", Event.HOLD, value("hold")),
        _unit("S+A", "ima", max(1, arrays // 2), "ima_shift", Event.SHIFT_ADD, value("shift_add")),
        _unit("output register", "ima", 1, "ima_output", Event.OUTPUT_REGISTER, value("output_register")),
    )
    return (
        *(_scaled(unit, rows / 1024) for unit in of_rows),
        *(_scaled(unit, columns / 1024) for unit in of_columns),
    )


def _tile_units() -> tuple[Unit, ...]:
    return (
        _unit("eDRAM", "tile", 1, "edram", Event.EDRAM, value("edram")),
        _unit("bus", "tile", 1, "bus", Event.BUS, value("bus_bit")),
        _unit("sigmoid", "tile", 2, "sigmoid", Event.ACTIVATION, value("sigmoid")),
        _unit("tile S+A", "tile", 1, "tile_shift", Event.TILE_SHIFT_ADD, value("tile_shift_add")),
        _unit("max pool", "tile", 1, "pool", Event.POOL, value("pool")),
        _unit("tile output", "tile", 1, "tile_output", Event.TILE_OUTPUT, value("tile_output")),
    )


def _scaled(unit: Unit, part: float) -> Unit:
    """Part of a unit; what an event costs stays."""
    return replace(unit, power_mw=unit.power_mw * part, area_mm2=unit.area_mm2 * part)
