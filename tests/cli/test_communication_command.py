"""`bale compress --method communication-aware` knows its chip; other methods refuse one."""

import json

import pytest

from bale.compress import read_packed

FAST = ("--data", "digits", "--epochs", 0, "--retrain-epochs", 0, "--threads", 1)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Packed files go where the command is run."""
    monkeypatch.chdir(tmp_path)


def test_traffic_falls_on_the_chip_that_is_given_or_small_tiles(bale):
    costs = {}
    for chip in ((), ("--chip", "small_tiles")):
        method = ("--method", "structured:keep=0.9", "--method", "communication-aware:cost=0.5")
        result = bale("compress", "--model", "lenet5", *FAST, *method, *chip, "--json", "-", "--force")
        assert result.exit_code == 0, result.stderr
        report = json.loads(result.stdout)
        costs[chip] = {row["name"]: row.get("cost") for row in report["weights"]}
        assert report["chip"] == (chip[1] if chip else "small_tiles")
        (packed,) = read_packed("lenet5-structured-communication-aware.bale").configs[1:]
        assert packed["method"] == "communication-aware" and "traffic" not in packed
    assert costs[()] == costs["--chip", "small_tiles"] and costs[()]["fc1"] < 1


def test_on_large_tiles_there_is_no_traffic_to_lower(bale):
    result = bale("compress", "--model", "lenet5", *FAST, "--method", "communication-aware", "--chip", "isaac_ce")
    assert result.exit_code == 2
    assert "the network sends nothing from tile to tile; take a chip of smaller tiles" in result.stderr


def test_a_chip_is_for_this_method_only(bale):
    result = bale("compress", "--model", "lenet5", *FAST, "--method", "uniform", "--chip", "small_tiles")
    assert result.exit_code == 2
    assert "--chip small_tiles is for --method communication-aware; the others look at no chip" in result.stderr
