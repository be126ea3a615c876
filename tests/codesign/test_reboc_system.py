"""Are the figures of circulant blocks those of both networks on one chip, and do the parts make the whole?"""

from dataclasses import replace

import pytest
import torch
from torch import nn

from bale.codesign.exact import exact_images
from bale.codesign.reboc import (
    Sides,
    ablations,
    against_dense,
    against_others,
    efficiency,
    placed,
    with_fewer_bits,
)
from bale.compress import ADCAwareConfig, BlockCirculantConfig, bake_, compress_
from bale.data import Images
from bale.errors import BaleError
from bale.hardware import CirculantMapping, Cost, Encoding, cost, isaac_ce, put_on_chip, small_tiles


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.Flatten(), nn.Linear(256, 128), nn.Linear(128, 10)
    ).eval()


def circulant(*more) -> nn.Module:
    model = network()
    for config in (BlockCirculantConfig(4), *more):
        compress_(model, config)
    bake_(model)
    return model.eval()


@pytest.fixture(scope="module")
def sides() -> Sides:
    return Sides(network(), circulant(), isaac_ce(), torch.rand(4, 1, 8, 8), CirculantMapping(4))


def test_both_sides_have_the_same_crossbars(sides) -> None:
    figures = {figure.figure: figure for figure in against_dense(sides, times=(1.0, 2.0))}
    least = put_on_chip(sides.dense, "isaac_ce", sides.data, copy=False).placement.used
    for many in (1, 2):
        found = figures[f"throughput, N = {many}"]
        options = {"crossbars": many * least}
        dense = cost(sides.dense, "isaac_ce", sides.data, **options)
        ours = cost(sides.circulant, "isaac_ce", sides.data, circulant=4, **options)
        assert found.ours == dense.interval_ns / ours.interval_ns and found.claim == 4.1
        assert ours.crossbars <= many * least and dense.crossbars <= many * least
        events = figures[f"energy by events, N = {many}"]
        assert events.ours == dense.energy.total_pj / ours.energy.total_pj and events.claim == 2.6
        assert figures[f"energy by power of all N crossbars' tiles x time, N = {many}"].ours == pytest.approx(
            found.ours
        )
    assert figures["throughput, N = 1"].ours > figures["throughput, N = 2"].ours > 1
    turns = [figure for figure in figures.values() if "in turns" in figure.baseline]
    assert len(turns) == 4 and all(figure.claim is None for figure in turns)
    assert turns[0].conditions["turns"] > 1 and turns[0].conditions["cell_writes_pj"] > 0


def test_the_largest_n_of_a_claim(sides) -> None:
    (speed,) = (figure for figure in against_dense(sides, times=()) if "4.1 x speed" in figure.figure)
    least = sides.least()
    reached = round(speed.ours * least)
    assert 1 <= speed.ours <= 2

    def gain(crossbars: int) -> float:
        ours, dense = (sides.cost(which, crossbars=crossbars) for which in (True, False))
        return dense.bottleneck_ns / ours.bottleneck_ns

    assert gain(reached) >= 4.1 > gain(reached + 1)


def test_mechanisms_one_by_one(sides) -> None:
    figures = {figure.figure: figure for figure in ablations(sides)}
    assert figures["reads of inputs: Input Slice Reusing"].ours > 1
    assert figures["energy by events: Input Slice Reusing"].ours > 1
    assert figures["buffer for inputs: Input Slice Reusing"].ours == 1
    assert figures["reads of inputs: Input Tile Sharing"].ours > 1
    assert figures["buffer for inputs: Input Tile Sharing"].ours > 1
    assert figures["time of their vectors: Intra-Crossbar Weight Duplication"].ours > 1
    assert figures["time of their vectors: pipeline within a layer"].ours > 1
    for what in ("time of their vectors", "latency of one image", "energy by events", "reads of inputs"):
        whole = figures[f"{what}: all four"]
        assert whole.ours >= max(figure.ours for name, figure in figures.items() if name.startswith(f"{what}: ")) - 1e-9
        assert whole.conditions["product_of_the_parts"] >= 1


def test_other_mappings(sides) -> None:
    figures = [(figure.figure, figure.baseline, figure.ours) for figure in against_others(sides)]
    assert len(figures) == 6 and len({(name, baseline) for name, baseline, _ in figures}) == 6
    assert all(ours >= 1 for name, _, ours in figures if name.startswith("throughput"))
    found = list(efficiency(sides))
    assert [figure.unit for figure in found] == ["GOPS/W", "GOPS/W", "x", "x"]
    assert [(figure.ours, figure.claim) for figure in found[2:]] == [(None, 96), (None, 8.86)]


def test_tiles_of_stored_blocks_are_fewer_and_nearer(sides) -> None:
    chip = replace(small_tiles(), crossbars_per_ima=1, name="tiny")
    figures = {figure.figure: figure for figure in placed(sides, chip)}
    snake, annealed = (figures[f"communication energy: circulant, {how}"] for how in ("snake", "annealed"))
    assert annealed.ours >= snake.ours > 1 and snake.conditions["tiles"] < snake.conditions["dense_tiles"]


def test_fewer_bits_on_top(sides) -> None:
    chip = replace(isaac_ce(), weight_bits=8, input_bits=8, flip=False, encoding=Encoding.DIFFERENTIAL)
    chip = replace(chip, adc=replace(chip.adc, bits=9))
    pruned = circulant(ADCAwareConfig(adc_bits=5))
    bits, *figures = with_fewer_bits(replace(sides, chip=chip), pruned)
    assert bits.ours <= 5 and {figure.baseline for figure in figures} == {"circulant blocks alone", "dense"}
    assert all(figure.ours > 1 for figure in figures if figure.figure.startswith(("energy", "power", "area")))
    found = {figure.figure.split(":")[0]: figure.ours for figure in figures if "alone" in figure.baseline}
    budget = round(1.2 * replace(sides, chip=chip).least())
    costs = [
        Sides(sides.dense, model, chip, sides.data, sides.how).cost(True, crossbars=budget, adc_bits="exact")
        for model in (pruned, sides.circulant)
    ]
    ours, alone = (without_links_mw(each) for each in costs)
    assert found["power of the tiles in use"] == pytest.approx(alone / ours)


def without_links_mw(found: Cost) -> float:
    """Of what is in use; links to other chips, 10.4 W, would outweigh a few tiles."""
    return sum(pj for unit, pj in found.fixed_pj.items() if unit != "HyperTransport") / found.interval_ns


def test_every_image_is_compared(sides) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (40, 1, 8, 8), dtype=torch.uint8, generator=generator)
    images = Images(pixels, torch.arange(40) % 10, tuple("0123456789"), "noise")
    figure = exact_images(sides.lay(True), sides.circulant, images, "circulant")
    assert (figure.ours, figure.baseline, figure.conditions["every conversion of"]) == (1, "40 images", 32)
    assert figure.conditions["accuracy on chip"] == figure.conditions["accuracy quantised"]
    with pytest.raises(BaleError, match=r"circulant: .*: its columns need converters of . bits, and have 4: not exact"):
        exact_images(sides.lay(True, adc_bits=4), sides.circulant, images, "circulant")
