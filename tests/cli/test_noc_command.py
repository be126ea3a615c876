"""`bale noc` says what travels between a network's tiles, and in one line what is wrong with its input."""

import json
from xml.etree import ElementTree

import pytest

ZEROS = """
import torch
from torch import nn

def make():
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 12), nn.ReLU(), nn.Linear(12, 10))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model
"""
FAST = ("--data", "digits", "--threads", 1)


@pytest.fixture
def noc(bale):
    def run(*arguments):
        return bale("noc", *arguments, *FAST)

    return run


def test_a_table_of_layers(noc) -> None:
    result = noc("lenet5")
    assert result.exit_code == 0, result.output
    assert "small_tiles: mesh of 10 x 10 routers, XY routes" in result.stdout
    assert "37 tiles, snake" in result.stdout and "random, from seed 0" in result.stdout
    for name in ("conv2", "fc1", "fc2", "fc3"):
        assert f"\n{name} " in result.stdout
    assert "simulated" not in result.stdout


def test_everything_at_once_as_data_and_as_a_picture(noc, tmp_path) -> None:
    picture = tmp_path / "noc.svg"
    options = ("--placement", "annealed", "--torus", "--multicast", "--sparse", "--load", 0.4, "--picture", picture)
    result = noc("lenet5", *options, "--json", "-")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["model"] == "lenet5" and report["mesh"] == {"columns": 10, "rows": 10, "torus": True}
    assert report["tiles"] == 37 == len(report["routers"])
    assert sum(layer["bits"] for layer in report["layers"]) == pytest.approx(report["bits"])
    assert sum(layer["energy_pj"] for layer in report["layers"]) == pytest.approx(report["energy_pj"])
    assert report["bit_hops"] < report["bit_hops_in_snake_order"]
    assert max(link["bits"] for link in report["links"]) <= report["bits"]
    simulated = report["simulated"]
    assert simulated["flits_delivered"] >= simulated["flits"] > simulated["packets"]
    assert simulated["latency_cycles"]["p50"] <= simulated["latency_cycles"]["longest"]
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")


def test_simulated_facts_and_other_routers(noc) -> None:
    result = noc("lenet5", "--simulate", "--flit-bits", 64, "--vcs", 2, "--router-energy", "conservative")
    assert result.exit_code == 0, result.output
    assert "packets in" in result.stdout and "longest" in result.stdout


def test_energies_follow_what_is_asked_for(noc) -> None:
    def energy(*options):
        return json.loads(noc("lenet5", "--json", "-", *options).stdout)["energy_pj"]

    assert energy("--router-energy", "conservative") == pytest.approx(energy() * 0.164 / (20.74 / 256))
    assert energy("--link-pj", 1) > energy()


def test_a_network_without_weights_sends_nothing(noc, tmp_path) -> None:
    path = tmp_path / "zeros.py"
    path.write_text(ZEROS)
    result = noc(f"{path}:make", "--sparse", "--simulate", "--picture", tmp_path / "noc.png")
    assert result.exit_code == 0, result.output
    assert "0 bit a sample" in result.stdout and "simulated" not in result.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("lenet5", "--placement", "best"), "--placement: expected snake, annealed, exact, got 'best'"),
        (("lenet5", "--placement", "exact"), "annealed is for more"),
        (("lenet5", "--chip", "isaac_ce"), "isaac_ce: the network fits into one tile"),
        (("lenet5", "--chip", "smartdeal"), "--chip smartdeal is an array of MACs, which has no tiles"),
        (("lenet5", "--load", 2), "--load: must be above 0 and at most 1 flit a cycle, got 2"),
        (("lenet5", "--epochs", -1), "--epochs must be at least 0, got -1"),
        (("lenet5", "--vcs", 0), "vcs: must be at least 1, got 0"),
        (("lenet5", "--torus", "--vcs", 1, "--simulate"), "vcs: a torus needs 2"),
        (("lenet5", "--router-energy", "free"), "router energy: expected isaac or conservative, got 'free'"),
        (("lenet5", "--picture", "noc.bmp"), "noc.bmp: expected a name that ends in .svg, .png, .pdf"),
        (("lenet5", "--json", "no/such/folder.json"), "no/such/folder.json: cannot be written"),
        (("vgg9",), "vgg9: unknown; known are"),
        (("vgg8", "--width", 64), "small_tiles has room for 400 crossbars"),
    ],
)
def test_errors_teach(noc, options, message) -> None:
    result = noc(*options)
    assert result.exit_code == 2
    assert message in result.stderr and result.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in result.output
