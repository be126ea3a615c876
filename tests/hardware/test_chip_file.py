"""Is a chip's file read as it was written, and does an error in it name line and field?"""

import json
from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from tests.hardware.made import chips

from bale.errors import ChipError
from bale.hardware import Adc, chip_dict, dump_chip, isaac_adc, isaac_ce, load_chip, parse_chip, small_tiles


@pytest.mark.parametrize("chip", [isaac_ce(), isaac_adc(5), small_tiles()], ids=lambda chip: chip.name)
def test_presets_round_trip(chip, tmp_path) -> None:
    path = tmp_path / "chip.yaml"
    path.write_text(dump_chip(chip))
    assert load_chip(path) == chip


@given(chips())
def test_any_chip_round_trips(chip) -> None:
    assert parse_chip(dump_chip(chip)) == chip


def test_given_converters_round_trip() -> None:
    chip = replace(isaac_ce(), adc=Adc(3, "given", 1.28, 8, energy_pj=0.5, area_um2=100.0))
    assert parse_chip(dump_chip(chip)) == chip
    assert yaml.safe_load(dump_chip(chip)) == chip_dict(chip)


def test_a_base_and_what_differs_from_it() -> None:
    text = """
    base: isaac_ce
    name: mine
    adc: {bits: 6, law: mnsim}
    units:
      eDRAM: {power_mw: 30}
      fan: {per: chip, count: 1, power_mw: 500, area_mm2: 0}
    """
    chip, isaac = parse_chip(text), isaac_ce()
    assert (chip.name, chip.adc.bits, chip.adc.law, chip.adc.rate_gsps) == ("mine", 6, "mnsim", 1.28)
    units = {unit.name: unit for unit in chip.units}
    assert units["eDRAM"] == replace(next(u for u in isaac.units if u.name == "eDRAM"), power_mw=30)
    assert list(units) == [*(unit.name for unit in isaac.units), "fan"]


BAD = {
    "base: isaac_ce\nadc:\n  bits: 0\n": "x.yaml:3: adc.bits: must be 1 to 32, got 0",
    "base: isaac_ce\nadc:\n  bit: 8\n": "x.yaml:3: adc.bit: no such field; did you mean bits?",
    "base: isaac_ce\nadcs: {}\n": "x.yaml:2: adcs: no such field; did you mean adc?",
    "base: isaac_ce\nname: a\nname: b\n": "x.yaml:3: name: stands here twice",
    "name: x\n": "x.yaml:1: node_nm: is missing",
    "base: issac\n": "x.yaml:1: base: no preset 'issac'",
    "base: isaac_ce\ncell: 3\n": "x.yaml:2: cell: expected fields, one a line",
    "base: isaac_ce\ntiles: many\n": "x.yaml:2: tiles: expected a whole number, got 'many'",
    "base: isaac_ce\ntiles: 1.5\n": "x.yaml:2: tiles: expected a whole number, got '1.5'",
    "base: isaac_ce\nflip: 1\n": "x.yaml:2: flip: expected true or false, got '1'",
    "base: isaac_ce\ntiles: true\n": "x.yaml:2: tiles: expected a whole number, got 'true'",
    "base: isaac_ce\nencoding: offse\n": "x.yaml:2: encoding: expected one of offset, differential",
    "base: isaac_ce\nunits:\n  fan:\n    per: chip\n": "x.yaml:4: units.fan.count: is missing",
    "base: isaac_ce\nunits:\n  bus: {event: eDRAM}\n": "x.yaml:2: units: the event eDRAM would be counted 2 times",
    "base: isaac_ce\nunits:\n  bus: {count: 0}\n": "x.yaml:3: units.bus.count: must be at least 1, got 0",
    "base: isaac_ce\nnode_nm: .nan\n": "x.yaml:2: node_nm: expected a number, got '.nan'",
    "base: isaac_ce\nnode_nm: 0\n": "x.yaml:2: node_nm: must be above 0",
    "base: isaac_ce\nname: 5\n": "x.yaml:2: name: expected a word, got '5'",
    "base: isaac_ce\ntiles: [1, 2]\n": "x.yaml:2: tiles: expected one value, got several",
    "base: isaac_ce\ntiles: 1:30\n": "x.yaml:2: tiles: expected a whole number, got '1:30'",
    "base: isaac_ce\ntiles: " + "9" * 400 + "\n": "x.yaml:2: tiles: expected a whole number, got '9999",
    "base: isaac_ce\nname: !!foo x\n": "x.yaml:2: name: expected a word, got 'x'",
    "base: isaac_ce\n? [a, b]\n: 1\n": "x.yaml:2: expected the name of a field",
    "base: isaac_adc(99)\n": "x.yaml:1: base: adc.bits: must be 1 to 32, got 99",
    "[" * 3000: "x.yaml: no YAML:",
    "[1]\n": "x.yaml: expected the fields of a chip",
    "a: [\n": "x.yaml: no YAML:",
    "": "x.yaml: expected the fields of a chip",
}


@pytest.mark.parametrize("text", BAD)
def test_bad_files_name_line_and_field(text) -> None:
    with pytest.raises(ChipError) as caught:
        parse_chip(text, "x.yaml")
    assert str(caught.value).startswith(BAD[text])


def test_numbers_as_json_writes_them() -> None:
    text = json.dumps(chip_dict(isaac_ce())).replace("1000000.0", "1e6")
    assert parse_chip(text) == isaac_ce()
    assert parse_chip("base: isaac_ce\ntiles: 2e2").tiles == 200
    assert parse_chip("base: isaac_ce\ntiles: 0100").tiles == 100
    with pytest.raises(ChipError, match="tiles: expected a whole number, got '2e2'"):
        parse_chip("base: isaac_ce\ntiles: '2e2'")


def test_a_file_that_is_no_text(tmp_path) -> None:
    path = tmp_path / "chip.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ChipError, match="cannot be read"):
        load_chip(path)
