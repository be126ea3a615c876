"""`bale chip` shows chips, checks files of them, and lists constants."""

import json

import pytest

from bale.hardware import CONSTANTS, load_chip, parse_chip


def test_showing(bale):
    result = bale("chip", "show", "isaac_ce")
    assert result.exit_code == 0 and result.stderr == ""
    for unit in load_chip("isaac_ce").all_units:
        assert f"\n{unit.name}" in result.stdout
    assert "41.3 TOPS" in result.stdout


@pytest.mark.parametrize("name", ["isaac_ce", "isaac_adc(6)", "small_tiles"])
def test_yaml_is_a_file_of_the_same_chip(bale, name, tmp_path):
    path = tmp_path / "chip.yaml"
    path.write_text(bale("chip", "show", name, "--yaml").stdout)
    assert load_chip(path) == load_chip(name) == parse_chip(path.read_text())


def test_json(bale, tmp_path):
    report = json.loads(bale("chip", "show", "small_tiles", "--json", "-").stdout)
    assert report["crossbars"] == 400 and report["chip"]["name"] == "small_tiles"
    assert report["peak"]["storage_mib"] == pytest.approx(400 * 64 * 64 * 2 / 8 / 2**20)
    path = tmp_path / "chip.json"
    assert "units" in bale("chip", "show", "small_tiles", "--json", path).stdout
    assert json.loads(path.read_text()) == report


def test_an_array_of_macs_shows_its_sizes_and_energies(bale):
    text = " ".join(bale("chip", "show", "smartdeal").stdout.split())
    assert "64 slices x 16 lines x 8 = 8,192" in text and "512 KiB for inputs and outputs of layers, 256" in text
    assert "DRAM 100 699" in text and "32 x 32, float 2.86" in text
    report = json.loads(bale("chip", "show", "smartdeal", "--json", "-").stdout)
    assert report["array"]["mac_pj"] == report["mac_pj_by_width"]["8 x 8"] and report["macs"] == 8192


def test_validating_goes_on_after_what_is_wrong(bale, tmp_path):
    good, bad, misspelt, last = (tmp_path / f"{name}.yaml" for name in ("good", "bad", "misspelt", "last"))
    good.write_text("base: isaac_ce\nname: good\ntiles: 4\n")
    bad.write_text("base: isaac_ce\nadc:\n  bits: 0\n")
    misspelt.write_text("base: isaac_ce\ncel:\n  bits: 2\n")
    last.write_text("base: small_tiles\nname: last\n")
    result = bale("chip", "validate", good, bad, misspelt, tmp_path / "none.yaml", last)
    assert result.exit_code == 2
    assert result.stdout.splitlines() == [
        f"{good}: a chip of 384 crossbars, 11.7 W, 24.4 mm2",
        f"{last}: a chip of 400 crossbars, 15.2 W, 38.9 mm2",
    ]
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    assert lines[0] == f"error: {bad}:3: adc.bits: must be 1 to 32, got 0"
    assert lines[1] == f"error: {misspelt}:2: cel: no such field; did you mean cell?"
    assert "none.yaml: neither a file nor a preset" in lines[2]
    assert bale("chip", "validate", good, last).exit_code == 0


def test_constants(bale):
    text = bale("chip", "constants").stdout
    assert all(f"\n{constant.name} " in text for constant in CONSTANTS)


def test_errors_are_one_line(bale):
    for arguments, problem in (
        (("show", "isaac"), "isaac: neither a file nor a preset"),
        (("show", "smartdeal", "--yaml"), "--yaml: smartdeal is an array of MACs, which no file describes"),
        (("show", "isaac_ce", "--json", "/no/such/file.json"), "/no/such/file.json: cannot be written"),
    ):
        result = bale("chip", *arguments)
        assert result.exit_code == 2 and result.stdout == ""
        (line,) = result.stderr.splitlines()
        assert problem in line
