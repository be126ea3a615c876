"""Is TinyADC's comparison of what it says: the same chip but for networks, cells and converters, and nothing lost?"""

import copy
import json
from types import SimpleNamespace

import pytest
import torch
from benchmarks.codesign import tinyadc as benchmark
from benchmarks.codesign.networks import Trained
from benchmarks.compression.study import Line

from bale.codesign.tinyadc import DIFFERENTIAL, ISAACS, SIGN_MAGNITUDE, Comparison, Side, share
from bale.compress import ADCAwareConfig, bake_, compress_, parse_config
from bale.data import digits
from bale.errors import BaleError, MappingError
from bale.hardware import LAWS, cost_on_chip, with_converters
from bale.models import LeNet5

SIZE = 12
IMAGES = digits("test", size=SIZE).take(64)


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LeNet5(size=SIZE).eval()


def ruled(bits):
    model = network()
    compress_(model, ADCAwareConfig(adc_bits=bits))
    return bake_(model)


@pytest.fixture(scope="module")
def comparison():
    models = {"dense": network(), "five": ruled(5), "four": ruled(4)}
    return Comparison(models, IMAGES.pixels())


@pytest.mark.parametrize("way", [DIFFERENTIAL, SIGN_MAGNITUDE], ids=str)
@pytest.mark.parametrize(("name", "bits"), [("five", 5), ("four", 4)])
def test_the_column_rules_bits_lose_nothing_of_any_image(comparison, name, way, bits) -> None:
    side = Side(name, way, bits)  # the rule's own, for all matrices alike
    figure = comparison.exactness(side, IMAGES)
    assert (figure.ours, figure.unit) == (1.0, "share")
    assert figure.conditions["conversions"] > 0
    assert max(comparison.measured(Side(name, way)).converters.values()) <= bits


@pytest.mark.parametrize("bound", ["exact", "a priori"])
@pytest.mark.parametrize("way", [ISAACS, SIGN_MAGNITUDE], ids=str)
def test_the_bits_of_a_bound_lose_nothing_of_a_dense_network(comparison, way, bound) -> None:
    assert comparison.exactness(Side("dense", way, bound), IMAGES[:8]).ours == 1


def test_what_is_lost_is_an_error(comparison) -> None:
    with pytest.raises(BaleError, match=r"dense; sign-magnitude, 4 bits: conv1: its columns need converters of . bits"):
        comparison.exactness(Side("dense", SIGN_MAGNITUDE, 4), IMAGES[:8])


def test_only_other_converters_are_isaacs_tile_with_them(comparison) -> None:
    """Section 5 of the accelerator's model: +44.3 % GOPS/W, +27.6 % GOPS/mm2; of the chip +34.8 % and +18.8 %."""
    sides = Side("dense", ISAACS, 4), Side("dense", ISAACS, 8)
    for level, watt, mm2 in (("tile", 1.443, 1.276), ("chip", 1.348, 1.188)):
        assert comparison.better("GOPS/W", *sides, level=level) == pytest.approx(watt, abs=0.01)
        assert comparison.better("GOPS/mm2", *sides, level=level) == pytest.approx(mm2, abs=0.01)


@pytest.mark.parametrize("law", LAWS)
def test_costs_are_those_of_the_simulated_chip(comparison, law) -> None:
    side = Side("five", SIGN_MAGNITUDE)
    laid, measured = comparison.laid(side.network, side.way), comparison.measured(side, law)
    cost = cost_on_chip(with_converters(laid.least, "exact", law), comparison.models["five"], IMAGES.pixels())
    assert measured.energy("chip") == pytest.approx(cost.energy.total_pj)
    assert measured.energy("chip") - measured.energy("tile") == pytest.approx(cost.energy.by_unit()["HyperTransport"])
    assert (measured.crossbars, measured.least_ns) == (cost.crossbars, cost.interval_ns)
    assert {layer.name: layer.adc_bits for layer in cost.layers} == measured.converters


def test_power_and_area_are_shares_of_the_tiles(comparison) -> None:
    side = Side("dense", ISAACS, 8)
    measured, chip = comparison.measured(side), comparison.laid("dense", ISAACS).least.chip
    tiles = comparison.filled("dense", ISAACS, comparison.tiles)[0].placement.tiles
    for level in ("tile", "chip"):
        one = share(chip, level)
        assert measured.least[level].power_mw == pytest.approx(measured.crossbars * one.power_mw)
        assert measured.filled[level].power_mw == pytest.approx(tiles * 96 * one.power_mw)
        assert measured.filled[level].area_mm2 == pytest.approx(tiles * 96 * one.area_mm2)


def test_a_ratio_is_of_both_sides_own_numbers(comparison) -> None:
    system, baseline = Side("four", SIGN_MAGNITUDE), Side("dense", ISAACS, 8)
    figure = comparison.figure("GOPS/W", system, baseline, 1.4)
    ours, theirs = figure.conditions["system"], figure.conditions["baseline"]
    assert figure.ours == pytest.approx(ours["GOPS/W"] / theirs["GOPS/W"])
    assert figure.ours == figure.conditions["at the tile, by law"]["saberi"]
    assert figure.ours == pytest.approx(1 / comparison.better("GOPS/W", baseline, system))
    assert figure.claim == 1.4 and (ours["adc bits"], theirs["adc bits"]) == ([4], [8])
    energy = comparison.figure("energy an image", system, baseline).conditions
    assert energy["system"]["energy_nj"] == pytest.approx(sum(energy["system"]["energy_nj by unit"].values()))


def test_a_law_without_figures_for_the_bits_says_nothing(comparison) -> None:
    figure = comparison.figure("energy an image", Side("dense", SIGN_MAGNITUDE, 9), Side("dense", ISAACS, 8))
    by_law = figure.conditions["at the tile, by law"]
    assert by_law.pop("mnsim") is None and None not in by_law.values()
    with pytest.raises(MappingError, match=r"conv1: .* the law mnsim has figures for 4 to 8 bits"):
        comparison.measured(Side("dense", SIGN_MAGNITUDE, 9), "mnsim")


def test_a_part_is_a_whole_of_itself(comparison) -> None:
    part, baseline = Side("five", SIGN_MAGNITUDE), Side("dense", SIGN_MAGNITUDE)
    whole = comparison.whole("energy an image", part, (part,), baseline)
    assert whole.ours == 1 and whole.conditions["product"] == comparison.better("energy an image", part, baseline)


def test_figures_of_the_benchmark_have_names_of_their_own_and_are_json() -> None:
    def compressed(name: str, setting: str, seed: int) -> Trained:
        model = copy.deepcopy(network())
        for part in setting.split(" + "):
            compress_(model, parse_config(part))
        return Trained(bake_(model).eval(), None, 0.5, Line())

    networks = SimpleNamespace(
        dense=lambda name, seed: Trained(network(), None, 0.75, Line()),
        compressed=compressed,
        train=IMAGES,
        checked=lambda seed: IMAGES,
    )
    told = list(benchmark.figures(networks, "lenet5", 0))
    keys = [(figure.figure, figure.baseline) for figure, _ in told]
    assert len(set(keys)) == len(keys)
    assert {figure.claim for figure, _ in told} == {None, 3.5, 2.9, 1.4, 1.29}
    for figure, accuracy in told:
        assert json.dumps(dict(figure.conditions), allow_nan=False)
        assert accuracy == (0.75 if "dense;" in figure.figure else 0.5)
    exact = [figure for figure, _ in told if figure.unit == "share"]
    assert len(exact) == 5 and all(figure.ours == 1 for figure in exact)
