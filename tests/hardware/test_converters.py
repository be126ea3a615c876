"""Do matrices with converters of their own lose what these must, and cost what these cost?"""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hardware.made import chip_of
from torch import nn

from bale.errors import ChipError, MappingError
from bale.hardware import LAWS, cost_on_chip, isaac_adc, isaac_ce, put_on_chip, run_on_chip, simulate, with_converters
from bale.hardware.adc import converter_cost
from bale.hardware.converters import ima_bits
from bale.models import LeNet5

IMAGES = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
COLUMN_OHM = 1e3  # which the laws below do not ask for


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LeNet5()


def on_chip(network, adc_bits, chip=None, **options):
    return put_on_chip(
        network, isaac_ce() if chip is None else chip, IMAGES, weight_bits=8, adc_bits=adc_bits, **options
    )


@pytest.mark.parametrize("bound", ["exact", "a priori"])
@pytest.mark.parametrize("encoding", ["offset", "differential", "sign-magnitude"])
def test_converters_of_a_bounds_bits_clip_nothing(network, bound, encoding) -> None:
    chip = chip_of(rows=40, columns=48, weight_bits=8, encoding=encoding)
    run = simulate(network, replace(chip, tiles=1000), IMAGES, adc_bits=bound, every_conversion=True, images=1).run
    assert run.exact and run.clipped == 0 and run.output_error == 0
    laid = put_on_chip(network, replace(chip, tiles=1000), IMAGES, adc_bits=bound)
    bounds = {name: mapped.bounds for name, mapped in laid.placement.matrices.items()}
    assert laid.converters == {
        name: each.exact_bits if bound == "exact" else each.a_priori_bits for name, each in bounds.items()
    }
    assert laid.chip.adc.bits == max(laid.converters.values())


def test_a_matrix_whose_converters_are_too_small_clips_and_no_other(network) -> None:
    exact = on_chip(network, "exact").converters
    laid = on_chip(network, {**exact, "fc1": 4})
    run = run_on_chip(laid, network, IMAGES)
    assert {layer.name for layer in run.layers if layer.wrong} == {"fc1"}
    assert {layer.name for layer in run.layers if layer.converted.clipped} == {"fc1"}
    assert all(layer.stood_in == (layer.name != "fc1") for layer in run.layers)


@pytest.mark.parametrize("bits", [None, 8, 6])
def test_alike_bits_are_the_chip_with_such_converters(network, bits) -> None:
    chip = isaac_ce() if bits is None else isaac_adc(bits)
    ours, known = (
        cost_on_chip(laid, network, IMAGES, images=2) for laid in (on_chip(network, bits), on_chip(network, None, chip))
    )
    assert ours.energy.parts == known.energy.parts
    assert (ours.power_w, ours.area_mm2, ours.fixed_pj) == (known.power_w, known.area_mm2, known.fixed_pj)
    assert ours.peak == known.peak
    assert {layer.adc_bits for layer in ours.layers} == {chip.adc.bits}


def test_a_matrix_pays_for_the_converters_that_it_lies_beside(network) -> None:
    """Column by column: those of its IMA, which have the most bits of what lies in it."""
    bits = {"conv1": 6, "conv2": 7, "fc1": 8, "fc2": 5, "fc3": 4}
    laid = on_chip(network, bits)
    whole, unlike = (cost_on_chip(each, network, IMAGES, images=1) for each in (on_chip(network, None), laid))
    assert {layer.name: layer.adc_bits for layer in unlike.layers} == bits
    by_ima = ima_bits(laid.placement, laid.converters)
    paid = dict.fromkeys(bits, 0.0)
    for name, placed in laid.placement.places.items():
        slot, columns = placed.first, 0
        for _ in range(placed.copies):
            for block in laid.placement.matrices[name].blocks:
                for crossbar in block.crossbar:
                    paid[name] += converter_cost("saberi", int(by_ima[(slot + crossbar) // 8]), COLUMN_OHM).energy_pj
                    columns += 1
                slot += block.crossbars
        paid[name] /= columns
    own = {name: converter_cost("saberi", many, COLUMN_OHM).energy_pj for name, many in bits.items()}
    assert len(set(paid.values())) > 2 and any(paid[name] > own[name] for name in bits)
    for (name, unit), energy in unlike.energy.parts.items():
        before = whole.energy.parts[name, unit]
        if unit == "ADC":
            eight = converter_cost("saberi", 8, COLUMN_OHM).energy_pj
            assert energy / before == pytest.approx(paid[name] / eight)
        else:
            assert energy == before


@settings(max_examples=30)
@given(st.lists(st.integers(4, 9), min_size=5, max_size=5), st.integers(40, 400), st.booleans())
def test_power_and_area_are_those_of_every_crossbars_ima(bits, crossbars, share) -> None:
    model = LeNet5()
    names = ["conv1", "conv2", "fc1", "fc2", "fc3"]
    chip = replace(isaac_ce(), share_tiles=share)
    laid = on_chip(model, dict(zip(names, bits, strict=True)), chip, crossbars=max(crossbars, 96 * 5 * (not share)))
    cost = cost_on_chip(laid, model, IMAGES, images=1)
    most = max(bits)
    per_ima = [[] for _ in range(cost.tiles * 12)]
    for name, placed in laid.placement.places.items():
        for slot in range(placed.first, placed.first + laid.placement.crossbars(name)):
            per_ima[slot // 8].append(laid.converters[name])
    expected = [max(inside, default=most) for inside in per_ima]
    assert ima_bits(laid.placement, laid.converters).tolist() == expected
    adcs = [converter_cost("saberi", many, COLUMN_OHM) for many in expected]
    assert cost.fixed_pj["ADC"] / cost.interval_ns == pytest.approx(sum(8 * 1.28 * adc.energy_pj for adc in adcs))
    alike = cost_on_chip(with_converters(laid, most), model, IMAGES, images=1)
    saved = sum(8e-6 * (converter_cost("saberi", most, COLUMN_OHM).area_um2 - adc.area_um2) for adc in adcs)
    assert alike.area_mm2 - cost.area_mm2 == pytest.approx(saved, abs=1e-9)


def test_matrices_that_take_turns_share_converters_that_hold_the_most(network) -> None:
    bits = {"conv1": 4, "conv2": 4, "fc1": 8, "fc2": 4, "fc3": 4}
    laid = on_chip(network, bits, crossbars=16, multiplex=True, copy=False)
    assert laid.placement.turns > 1
    found = ima_bits(laid.placement, laid.converters)
    first, last = laid.placement.places["fc1"].first, laid.placement.crossbars("fc1")
    assert (found[first // 8 : (first + last - 1) // 8 + 1] == 8).all()


@pytest.mark.parametrize("law", LAWS)
def test_a_bound_takes_the_fewest_bits_that_a_law_has_figures_for(network, law) -> None:
    laid = with_converters(on_chip(network, None), "exact", law)
    needed = {name: mapped.bounds.exact_bits for name, mapped in laid.placement.matrices.items()}
    assert laid.converters == {name: max(bits, LAWS[law].fewest) for name, bits in needed.items()}
    assert laid.chip.adc.law == law and laid.placement.chip == laid.chip


@pytest.mark.parametrize(
    ("adc_bits", "problem"),
    [
        (3, "conv1: is to have converters of 3 bits: adc.bits: the law saberi has figures for 4 to 10"),
        ({"fc2": 11}, "fc2: is to have converters of 11 bits: adc.bits: the law saberi"),
        ({"fc9": 8}, "no matrix 'fc9'; there are conv1"),
        ({"fc2": 6.0}, "fc2: adc_bits must be a whole number"),
        ("precise", "expected a number, 'a priori', 'exact', or bits by matrix"),
    ],
)
def test_bits_that_cannot_be_name_the_matrix_and_the_law(network, adc_bits, problem) -> None:
    with pytest.raises(MappingError, match=problem):
        on_chip(network, adc_bits)


def test_a_converter_whose_cost_is_given_has_the_bits_that_it_is_given_for(network) -> None:
    isaac = isaac_ce()
    given = replace(isaac, adc=replace(isaac.adc, law="given", energy_pj=1.0, area_um2=1.0))
    assert set(on_chip(network, "exact", given).converters.values()) == {8}
    with pytest.raises(MappingError, match=r"fc1: .* law: given .* choose a law"):
        on_chip(network, {"fc1": 5}, given)


def test_a_law_that_is_none(network) -> None:
    with pytest.raises(ChipError, match="no law 'ours'"):
        with_converters(on_chip(network, None), "exact", "ours")


def test_a_small_layer_needs_no_more_than_its_rows_ask_for() -> None:
    laid = put_on_chip(nn.Linear(2, 3), replace(isaac_ce(), flip=False), torch.rand(4, 2), adc_bits="a priori")
    assert laid.converters == {"Linear": 4}  # 2 x 3 needs three bits, and the law has figures from four on
