"""Is ISAAC ISAAC, and does a chip that cannot be name the field?"""

from dataclasses import replace

import pytest

from bale.errors import ChipError
from bale.hardware import CONSTANTS, Adc, Event, Unit, isaac_adc, isaac_ce, load_chip, peak, small_tiles
from bale.hardware.roll_up import tile_area_mm2, tile_power_mw


def test_isaacs_table_adds_up_by_hand() -> None:
    """Section 1: IMA 24.08 mW, .01312 mm2; tile 329.8 mW, .3723 mm2; chip 65.81 W, 85.42 mm2."""
    chip, whole = isaac_ce(), peak(isaac_ce())
    ima = [unit for unit in chip.all_units if unit.per == "ima"]
    assert sum(unit.power_mw for unit in ima) == pytest.approx(24.08)
    assert sum(unit.area_mm2 for unit in ima) == pytest.approx(0.01312)
    assert tile_power_mw(chip) == pytest.approx(329.81) and tile_area_mm2(chip) == pytest.approx(0.37229)
    assert whole.power_w == pytest.approx(65.808, abs=1e-3) and whole.area_mm2 == pytest.approx(85.42, abs=0.01)
    assert whole.tops == pytest.approx(41.29, abs=0.01)
    assert chip.cycle_ns == 100 and chip.slices == 8 and chip.crossbars == 16_128


def test_power_by_events_is_power_by_units() -> None:
    for chip in (isaac_ce(), isaac_adc(5), small_tiles()):
        whole = peak(chip)
        assert whole.event_power_w == pytest.approx(whole.power_w, rel=1e-3)
        assert sum(whole.power_by_unit_w.values()) == pytest.approx(whole.power_w)
        assert sum(whole.event_power_by_unit_w.values()) == pytest.approx(whole.event_power_w)
        assert sum(whole.area_by_unit_mm2.values()) == pytest.approx(whole.area_mm2)


def test_other_converters_change_nothing_but_the_converters() -> None:
    eight, four = isaac_ce(), isaac_adc(4)
    assert replace(four, name=eight.name, adc=eight.adc) == eight
    assert isaac_adc(8) == replace(eight, name="isaac_adc(8)")
    changed = [a.name for a, b in zip(eight.all_units, four.all_units, strict=True) if a != b]
    assert changed == ["ADC"]


def test_presets_by_name() -> None:
    assert load_chip("isaac_ce") == isaac_ce() and load_chip("small_tiles") == small_tiles()
    assert load_chip("isaac_adc(6)") == load_chip("isaac_adc:6") == isaac_adc(6)
    with pytest.raises(ChipError, match=r"isaac_adc6: expected isaac_adc\(BITS\)"):
        load_chip("isaac_adc6")
    with pytest.raises(ChipError, match="neither a file nor a preset; presets are isaac_ce, small_tiles"):
        load_chip("issac")


def test_inputs_are_driven_digit_by_digit_and_a_sign_by_itself() -> None:
    chip = isaac_ce()
    assert chip.input_cycles(False) == chip.input_cycles(True) == 16
    chip = replace(chip, dac_bits=4, input_bits=8)
    assert chip.input_cycles(False) == 2 and chip.input_cycles(True) == 3


def test_a_cycle_is_as_long_as_its_conversions() -> None:
    chip = isaac_ce()
    assert replace(chip, adc=replace(chip.adc, per_ima=4)).cycle_ns == 200
    assert replace(chip, crossbar=replace(chip.crossbar, read_ns=150)).cycle_ns == 150


BAD = {
    "adc.bits": lambda chip: replace(chip, adc=replace(chip.adc, bits=0)),
    "adc.law": lambda chip: replace(chip, adc=replace(chip.adc, law="x")),
    "adc.energy_pj": lambda chip: replace(chip, adc=replace(chip.adc, energy_pj=1.0)),
    "adc.area_um2": lambda chip: replace(chip, adc=Adc(8, "given", 1.28, 8, energy_pj=1.0)),
    "cell.bits": lambda chip: replace(chip, cell=replace(chip.cell, bits=0)),
    "cell.off_ohm": lambda chip: replace(chip, cell=replace(chip.cell, off_ohm=1.0)),
    "crossbar.rows": lambda chip: replace(chip, crossbar=replace(chip.crossbar, rows=0)),
    "crossbar.columns": lambda chip: replace(chip, crossbar=replace(chip.crossbar, columns=7)),
    "crossbar.rows: columns would sum up to": lambda chip: replace(
        chip, crossbar=replace(chip.crossbar, rows=512), cell=replace(chip.cell, bits=8), dac_bits=8
    ),
    "encoding": lambda chip: replace(chip, encoding="Offset"),
    "units.mine.event": lambda chip: replace(chip, units=(Unit("mine", "ima", 1, 1, 1, Event.CELL_WRITE, 1.0),)),
    "weight_bits": lambda chip: replace(chip, weight_bits=1),
    "input_bits": lambda chip: replace(chip, input_bits=17),
    "dac_bits": lambda chip: replace(chip, dac_bits=0),
    "tiles": lambda chip: replace(chip, tiles=0),
    "units.fan.per": lambda chip: replace(chip, units=(Unit("fan", "case", 1, 1, 1),)),  # type: ignore[arg-type]
    "units.fan.power_mw": lambda chip: replace(chip, units=(Unit("fan", "chip", 1, float("nan"), 1),)),
    "units.fan.energy_pj": lambda chip: replace(chip, units=(Unit("fan", "chip", 1, 1, 1, None, 2.0),)),
    "units.fan: stands there 2": lambda chip: replace(chip, units=(Unit("fan", "chip", 1, 1, 1),) * 2),
    "units: the event eDRAM would be counted 2 times, by a, b": lambda chip: replace(
        chip, units=tuple(Unit(name, "tile", 1, 1, 1, Event.EDRAM, 1.0) for name in "ab")
    ),
    "units: the event conversion would be counted 2 times, by ADC, mine": lambda chip: replace(
        chip, units=(Unit("mine", "ima", 1, 1, 1, Event.CONVERSION, 1.0),)
    ),
}


@pytest.mark.parametrize("field", BAD)
def test_what_cannot_be_names_the_field(field) -> None:
    with pytest.raises(ChipError) as caught:
        BAD[field](isaac_ce())
    assert str(caught.value).startswith(field)


def test_given_converters_cost_what_was_given() -> None:
    chip = replace(isaac_ce(), adc=Adc(3, "given", 1.28, 8, energy_pj=0.5, area_um2=100.0))
    assert chip.converter.energy_pj == 0.5 and chip.converter.area_um2 == 100.0


def test_every_constant_has_a_unit_a_source_and_a_mark() -> None:
    assert all(constant.unit and constant.source and constant.mark for constant in CONSTANTS)
