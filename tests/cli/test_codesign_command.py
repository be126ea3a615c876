"""`bale codesign` searches, goes on where it stopped, lets workers share, and reports a front that can be run again."""

import errno
import importlib
import io
import json
import runpy
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from bale.codesign.search import Budgets, Candidate, Costs, Design, Finished, Front, Outcome, Structure
from bale.compress import ADCAwareConfig
from bale.data import digits
from bale.hardware import Encoding
from bale.report import codesign_table, draw_front

command = importlib.import_module("bale.cli.codesign")  # the command has its name

OWN = """
from torch import nn

def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 10))
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A network, and small images that other processes find, too, in the folder where the command is run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(OWN)
    for name, images in (("train", digits("train", size=8).take(200)), ("t10k", digits("test", size=8).take(60))):
        pixels = images.images.numpy().astype(np.uint8)
        header = b"".join(number.to_bytes(4, "big") for number in (2051, len(pixels), 8, 8))
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        header = b"".join(number.to_bytes(4, "big") for number in (2049, len(pixels)))
        labels = images.labels.numpy().astype(np.uint8)
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
    return tmp_path


@pytest.fixture
def codesign(bale):
    def run(*arguments, fast=("--dense-epochs", 8, "--epochs", 1, "--save", "run")):
        return bale("codesign", "nets.py:make", "--data", "idx:.", *arguments, *fast)

    return run


@pytest.fixture
def fails(codesign):
    """Assert that a command fails as it should; return the line."""

    def run(*arguments, **options):
        result = codesign(*arguments, **options)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ")
        return line

    return run


def words(text):
    return " ".join(text.split())


def test_a_front_on_stdout_and_its_files(codesign, bale, here):
    result = codesign("--trials", 6, "--accuracy-drop", "50%", "--picture", "front.svg", "--json", "report.json")
    assert result.exit_code == 0, result.output
    text = words(result.stdout)
    assert "tried 6 designs" in text and "Pareto front" in text and "budgets accuracy drop 50 %" in text
    assert "1/6: design 0, dense on 128x128 of 2 bit, offset+flip:" in result.stderr
    assert (here / "front.svg").read_text().count("<svg") == 1
    report = json.loads((here / "report.json").read_text())
    assert report["dense"]["test_images"] == 60 and report["dense"]["validation_images"] == 40
    assert len([each for each in report["tried"] if each["copy_of"] is None]) == 6
    line = result.stdout.splitlines()[-1]
    assert line.startswith("bale simulate nets.py:make --weights run/design-")
    says_the_same(bale, report["front"], line)


def says_the_same(bale, front, line):
    """A design of the front, simulated by the command that the report ends with, and so each other."""
    for design in front:
        mapping = design["mapping"]
        stored = () if mapping["circulant"] is None else ("--circulant", mapping["circulant"])
        room = ("--no-copies",) if "copy" in mapping else ("--crossbars", mapping["crossbars"])
        room = ("--adc-bits", "exact", *stored, *room)
        files = ("--weights", design["files"]["packed"], "--chip", design["files"]["chip"])
        if design is front[0]:
            assert line.split() == list(
                map(str, ("bale", "simulate", "nets.py:make", *files, *room, "--data", "idx:."))
            )
        found = json.loads(bale("simulate", "nets.py:make", *files, *room, "--data", "idx:.", "--json", "-").stdout)
        assert found["run"]["accuracy"]["on_chip"] == found["run"]["accuracy"]["quantised"] == design["test_accuracy"]
        assert found["energy_pj"]["total"] == pytest.approx(1e6 * design["energy_uj"])
        assert found["latency_ns"] == pytest.approx(1e3 * design["latency_us"])
        assert found["tiles"] == design["tiles"] and found["crossbars"] == design["crossbars"]


def test_the_same_command_goes_on_and_finds_what_one_run_finds(codesign):
    fast = ("--dense-epochs", 2, "--epochs", 1, "--json", "-")
    whole = json.loads(codesign("--trials", 4, "--save", "whole", fast=fast).stdout)
    codesign("--trials", 2, "--save", "parts", fast=fast)
    again = codesign("--trials", 4, "--save", "parts", fast=fast)
    assert "training nets.py:make: step" not in again.stderr and "3/4: design 2" in again.stderr
    parts = json.loads(again.stdout)
    assert parts["tried"] == whole["tried"] and parts["dense"] == whole["dense"]
    assert [each["number"] for each in parts["front"]] == [each["number"] for each in whole["front"]]
    assert parts["front"][0]["test_accuracy"] == whole["front"][0]["test_accuracy"]


def test_workers_share_a_search_and_come_to_its_end(codesign):
    fast = ("--dense-epochs", 8, "--epochs", 0, "--save", "run")  # who trains nothing begins two seconds earlier
    result = codesign("--trials", 4, "--workers", 2, "--json", "-", fast=fast)
    assert result.exit_code == 0, result.output
    tried = json.loads(result.stdout)["tried"]
    assert len([each for each in tried if each["copy_of"] is None]) == 4
    assert "4/4: design" in result.stderr
    # There is nothing left to do, and one worker finds the same.
    again = codesign("--trials", 4, "--json", "-", fast=fast)
    assert json.loads(again.stdout)["tried"] == tried


def test_ctrl_c_ends_with_130_and_the_search_stays(codesign, monkeypatch):
    def interrupted(search, progress):
        def tell(candidate):
            raise KeyboardInterrupt

        return tell

    with monkeypatch.context() as patched:
        patched.setattr(command, "_teller", interrupted)
        result = codesign("--trials", 5)
    assert result.exit_code == 130 and result.stdout == ""
    assert result.stderr.splitlines()[-1] == "interrupted; the same command goes on from run"
    assert len(json.loads(codesign("--trials", 2, "--json", "-").stdout)["tried"]) == 2


def test_what_is_nearest_is_told_where_nothing_is_enough(codesign):
    result = codesign("--trials", 3, "--budget", "energy=0.0000001,area=1")
    assert result.exit_code == 0
    text = words(result.stdout)
    assert "WARNING nothing keeps all budgets; design" in text and "comes nearest: it exceeds energy by" in text
    assert "0 run on their chips, 3 beyond a budget before training" in text
    assert "Pareto front" not in text


def test_methods_are_told_whole_on_a_narrow_terminal():
    config = ADCAwareConfig(6, rows=256, weight_bits=6, cell_bits=1)
    structure = Structure(256, 64, 1, Encoding.SIGN_MAGNITUDE, 6, 5)
    candidate = Candidate(3, Design((config,), structure, 4), Outcome(Costs(1.0, 2.0, 3.0, 4, 5, 6), 0.8, 0.1))
    finished = Finished(candidate, True, 0.8, Path("p"), Path("c"), {"circulant": None, "copy": False})
    found = Front((candidate,), (finished,), None, 0.9, 0.9, 40, 60)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(codesign_table("lenet5", found, Budgets()))
    assert "adc-aware:" in (text := console.export_text()) and "…" not in text


@pytest.mark.parametrize("area", [0.4, 1e-3, 1e-9])
def test_a_budget_that_is_far_off_leaves_room_for_numbers(area):
    structure = Structure(128, 128, 2, Encoding.OFFSET, 8, 8)
    tried = tuple(
        Candidate(number, Design((), structure, 1), Outcome(Costs(1.0 + number, 0.5, 3.0, 4, 5, 6), refused="beyond"))
        for number in range(2)
    )
    picture = draw_front("lenet5", Front(tried, (), None, 0.9, 0.9, 40, 60), Budgets(area=area))
    picture.draw_without_rendering()
    axes = picture.axes[0]
    for axis, end in ((axes.xaxis, lambda box: (box.x0, box.x1)), (axes.yaxis, lambda box: (box.y0, box.y1))):
        low, high = sorted(axis.get_view_interval())
        ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
        ends = sorted(end(tick.label1.get_window_extent()) for tick in ticks)
        assert ticks and all(before[1] < after[0] for before, after in pairwise(ends))


def test_random_weights_are_told(codesign):
    fast = ("--dense-epochs", 0, "--epochs", 0, "--save", "run", "--trials", 1, "--adc-law", "exponential")
    result = codesign(fast=fast)
    assert "converters by the law exponential" in words(result.stdout)
    assert "weights as nets.py:make made them" in words(result.stdout)


def test_a_folder_of_another_search(codesign, fails):
    codesign("--trials", 1)
    line = fails("--trials", 1, "--seed", 3, "--budget", "area=3", "--threads", 2)
    assert "run: is of another search: --budget is" in line
    assert "--seed is 0 there and 3 here; --threads is 1 there and 2 here; use another folder" in line


def test_a_design_that_cannot_be_written_is_named(codesign, monkeypatch):
    def full(source, to):
        raise OSError(errno.ENOSPC, "No space left on device", str(source), None, str(to))

    monkeypatch.setattr("shutil.copyfile", full)
    result = codesign("--trials", 1, fast=("--dense-epochs", 1, "--epochs", 0, "--save", "run"))
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.splitlines()[-1] == "error: run/design-0.bale: cannot be written: No space left on device"


def test_weights_of_another_network_leave_the_folder_free(codesign, fails):
    torch.save(nn.Linear(2, 2).state_dict(), "other.pt")
    fast = ("--save", "run", "--trials", 1, "--epochs", 0, "--json", "-")
    assert "error: other.pt: has no 1.weight" in fails("--weights", "other.pt", fast=fast)
    torch.save(runpy.run_path("nets.py")["make"]().state_dict(), "own.pt")
    assert codesign("--weights", "own.pt", fast=fast).exit_code == 0


def test_what_cannot_be_is_told_before_anything_is_read(fails, here):
    assert "--budget power=1: no budget 'power'" in fails("--budget", "power=1")
    assert "--accuracy-drop 1: would be all of it" in fails("--accuracy-drop", "1")
    assert "--adc-law cheap: no such law; there are saberi" in fails("--adc-law", "cheap")
    assert "--workers must be at least 1" in fails("--workers", 0)
    assert "ends in .svg, .png, .pdf" in fails("--picture", "front.txt")
    assert "neither a file nor a preset" in fails("--chip", "none")
    (here / "some.pt").touch()
    assert "--dense-epochs trains; give one of them" in fails("--weights", "some.pt")
