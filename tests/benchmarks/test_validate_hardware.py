"""Are the published figures met, and is a missed one reported as missed?"""

import json

import pytest

from benchmarks import validate_hardware

KEYS = {"target", "reference", "ours", "error", "tolerance", "gated", "source"}


def test_every_gated_figure_is_within_its_tolerance(capsys) -> None:
    assert validate_hardware.main(["--json", "-"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["target"] for line in lines} == {1, 2, 3, 4, 5, 6, 7, 8}
    assert all(line.keys() >= KEYS for line in lines)
    for line in lines:
        assert line["gated"] == (line["tolerance"] is not None)
        assert not line["gated"] or line["error"] <= line["tolerance"]


def test_a_figure_beyond_its_tolerance_is_reported_and_fails(monkeypatch, capsys) -> None:
    figure = validate_hardware.Figure(1, "power", "W", 65.8, 70.0, 0.005, "ISAAC")
    monkeypatch.setitem(validate_hardware.TARGETS, 1, lambda: iter([figure]))
    assert validate_hardware.main(["--targets", "1"]) == 1
    assert "BEYOND" in capsys.readouterr().out


def test_targets_that_do_not_exist() -> None:
    with pytest.raises(SystemExit):
        validate_hardware.main(["--targets", "9"])
