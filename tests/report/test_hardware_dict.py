"""A simulation as data: it goes through JSON, its parts add up, and nothing that went wrong is silent."""

import json
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import yaml
from torch import nn

from bale.hardware import Event, Simulation, isaac_ce, load_chip, parse_chip, simulate
from bale.report import chip_report, simulation_dict
from bale.report.hardware import lossless_bits, warnings_of


def test_it_goes_through_json(lossless, clipped, noisy, in_turns):
    for simulation in (lossless, clipped, noisy, in_turns):
        report = simulation_dict(simulation)
        assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_energy_adds_up(lossless, clipped, noisy, in_turns):
    for simulation in (lossless, clipped, noisy, in_turns):
        energy = simulation_dict(simulation)["energy_pj"]
        for name in ("by_unit", "by_layer"):
            assert sum(energy[name].values()) == pytest.approx(energy["total"], rel=1e-12)
        for layer, units in energy["by_layer_and_unit"].items():
            assert sum(units.values()) == pytest.approx(energy["by_layer"][layer], rel=1e-12)
        fixed = simulation_dict(simulation)["fixed_power"]
        assert sum(fixed["energy_pj"]["by_unit"].values()) == pytest.approx(fixed["energy_pj"]["total"], rel=1e-12)


def test_layers_are_those_of_the_network(lossless, network):
    report = simulation_dict(lossless)
    assert [layer["name"] for layer in report["layers"]] == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    for layer in report["layers"]:
        weight = network.get_submodule(layer["name"]).weight
        assert (layer["rows"], layer["outputs"]) == (weight[0].numel(), len(weight))
        assert layer["adc_bits"]["exact"] <= layer["adc_bits"]["a_priori"] and layer["adc_bits"]["chip"] == 8
        assert layer["energy_pj"] == report["energy_pj"]["by_layer"][layer["name"]]
        assert layer["conversions"] == report["events"][layer["name"]]["conversion"]
        assert layer["run"]["product_stood_in"] and layer["run"]["wrong"] == 0
    assert report["macs"] == sum(layer["rows"] * layer["outputs"] * layer["positions"] for layer in report["layers"])


def test_the_chip_can_be_read_back(lossless, noisy):
    for simulation in (lossless, noisy):
        assert parse_chip(yaml.safe_dump(simulation_dict(simulation)["chip"], sort_keys=False)) == simulation.cost.chip


def test_the_law_has_its_source(lossless, noisy):
    adc = simulation_dict(lossless)["adc"]
    assert (adc["bits"], adc["law"]) == (8, "saberi") and "Saberi et al." in adc["source"]
    assert adc["energy_pj"] == pytest.approx(1.5625)
    given = replace(isaac_ce().adc, law="given", energy_pj=1.0, area_um2=1.0)
    assert "own" in chip_report(replace(isaac_ce(), adc=given))["adc"]["source"]


def test_nothing_is_warned_of_where_nothing_is_lost(lossless):
    assert simulation_dict(lossless)["warnings"] == []
    assert simulation_dict(lossless)["run"]["exact"]


def test_clipping_is_warned_of_with_the_bits_that_are_lossless(clipped):
    text = "\n".join(simulation_dict(clipped)["warnings"])
    assert "beyond the ADC's 4 bits and were clipped" in text and "it ends at 15" in text
    assert f"{lossless_bits(clipped.cost)} bits would be lossless" in text
    assert "% of the sums are not the quantised network's" in text
    report = simulation_dict(clipped)["run"]
    assert 0 < report["clipped"] < report["conversions"] and not report["exact"]


def test_noise_is_warned_of(noisy):
    text = "\n".join(simulation_dict(noisy)["warnings"])
    assert "sums are not the quantised network's" in text and "lossless without noise" in text
    report = simulation_dict(noisy)["run"]
    assert report["noise"]["variation"] == 0.2
    assert len(report["accuracy"]["by_trial"]) == report["trials"] == 2
    assert report["accuracy"]["on_chip"] == pytest.approx(sum(report["accuracy"]["by_trial"]) / 2)


def test_lost_accuracy_is_warned_of(lossless):
    run = replace(lossless.run, accuracy_float=0.9, accuracy_quantised=0.85, accuracies=(0.5, 0.7))
    (line,) = warnings_of(Simulation(lossless.cost, run))
    assert line.startswith("accuracy falls from 90.0% to 60.0% on the chip: -5.0 points by quantisation, -25.0 points")
    assert warnings_of(Simulation(lossless.cost, replace(run, accuracies=(0.9,)))) == []


def test_products_off_the_crossbars_are_warned_of(lossless):
    relu = next(op for op in lossless.cost.digital if op.function == "relu")
    product = replace(relu, layer="attention", function="matmul", kind="product", elements=1234)
    cost = replace(lossless.cost, digital=(*lossless.cost.digital, product))
    (line,) = warnings_of(Simulation(cost, lossless.run))
    assert "attention (matmul)" in line and "1.23k results" in line


def test_what_no_unit_pays_for_is_named(bare_chip, network, images):
    report = simulation_dict(simulate(network, bare_chip, images.pixels()))
    assert report["unpaid_events"] == [str(Event.ACTIVATION), str(Event.POOL)]
    assert report["digital"] and not any(op["paid"] for op in report["digital"])


def test_without_labels_there_is_no_accuracy(in_turns):
    report = simulation_dict(in_turns)
    assert report["run"]["accuracy"]["on_chip"] is None and report["warnings"] == []
    assert report["turns"] == 2 and {layer["turn"] for layer in report["layers"]} == {0, 1}


def test_a_chip_adds_up():
    report = chip_report(load_chip("isaac_ce"))
    peak = report["peak"]
    assert sum(peak["power_by_unit_w"].values()) == pytest.approx(peak["power_w"])
    assert peak["adc_share"] == pytest.approx(0.49, abs=0.005)
    assert peak["tops_per_w"] == pytest.approx(peak["tops"] / peak["power_w"])
    assert json.loads(json.dumps(report, allow_nan=False)) == report


class LogOfNegatives(nn.Module):
    """A head whose results are not all numbers, though its parameters are."""

    def forward(self, x):
        return (x - x.mean()).log()


def test_results_that_are_no_numbers_are_warned_of(images, network):
    broken = nn.Sequential(deepcopy(network), LogOfNegatives())
    report = simulation_dict(simulate(broken, "isaac_ce", images.pixels()))
    assert report["run"]["output_error"] is None
    assert any("NaN or infinite" in line for line in report["warnings"])


def test_inputs_beyond_the_range_are_warned_of_where_they_are_many():
    x = torch.rand(200, 16, generator=torch.Generator().manual_seed(0))
    seldom = warnings_of(simulate(nn.Linear(16, 4), "isaac_ce", x))
    assert not any("beyond the calibrated range" in line for line in seldom)
    x[100:] *= 10
    simulation = simulate(nn.Linear(16, 4), "isaac_ce", x)
    (line,) = (line for line in warnings_of(simulation) if "beyond the calibrated range" in line)
    assert "of the inputs of Linear" in line
    (layer,) = simulation_dict(simulation)["layers"]
    assert layer["run"]["inputs_beyond_range"] == simulation.run.layers[0].beyond > 0
