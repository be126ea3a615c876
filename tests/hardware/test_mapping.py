"""Do matrices lie where the contract says, as often as there is room, and is it said where there is none?"""

from dataclasses import replace

import pytest
import torch
from tests.hardware.made import chip_of
from torch import Tensor, nn

from bale.errors import MappingError
from bale.hardware import cost, isaac_ce, put_on_chip, small_tiles
from bale.models import VGG8, LeNet5, ResNet20

IMAGE = torch.rand(2, 1, 28, 28)


@pytest.mark.parametrize(("model", "tiles"), [(LeNet5(), 37), (ResNet20(width=8), 47), (VGG8(width=16), 76)])
def test_tiles_of_the_small_chip(model, tiles) -> None:
    """Section 6."""
    on_chip = put_on_chip(model, small_tiles(), IMAGE, copy=False)
    assert on_chip.placement.tiles == tiles


def test_crossbars_by_hand_and_no_two_matrices_in_one() -> None:
    on_chip = put_on_chip(LeNet5(), replace(isaac_ce(), weight_bits=8), IMAGE)
    placement = on_chip.placement
    # 32 weights of 4 columns a crossbar; 25, 150, 400, 120, 84 rows
    crossbars = [mapped.crossbars for mapped in placement.matrices.values()]
    assert crossbars == [1 * 1, 2 * 1, 4 * 4, 1 * 3, 1 * 1]
    taken: set[int] = set()
    for name, placed in placement.places.items():
        mine = set(range(placed.first, placed.first + placement.crossbars(name)))
        assert not taken & mine
        taken |= mine
    assert len(taken) == placement.used <= isaac_ce().crossbars
    first = next(iter(placement.matrices.values()))
    assert first.utilisation(on_chip.chip) == 25 * 6 * 4 / 128**2


def test_a_budget_is_kept_and_more_of_it_is_never_slower() -> None:
    chip = replace(isaac_ce(), weight_bits=8)
    before = None
    for budget in (23, 30, 100, 1000, None):
        placement = put_on_chip(LeNet5(), chip, IMAGE, crossbars=budget).placement
        assert placement.used <= (budget or chip.crossbars)
        copies = [placed.copies for placed in placement.places.values()]
        slowest = max(-(-positions // many) for many, positions in zip(copies, (784, 100, 1, 1, 1), strict=True))
        assert before is None or slowest <= before
        before = slowest
    assert before == 1


def test_layers_that_share_no_tile_begin_tiles_of_their_own() -> None:
    placement = put_on_chip(LeNet5(), small_tiles(), IMAGE, copy=False).placement
    tiles = [tile for name in placement.places for tile in placement.tiles_of(name)]
    assert len(tiles) == len(set(tiles)) == 37


def test_a_chip_that_is_too_small_says_so_or_takes_turns() -> None:
    chip = chip_of(rows=128, columns=128, weight_bits=8, crossbars_per_ima=1, imas_per_tile=1, tiles=17)
    with pytest.raises(MappingError, match=r"room for 17 crossbars, and the network needs 23; .* multiplex=True"):
        put_on_chip(LeNet5(), chip, IMAGE)
    placement = put_on_chip(LeNet5(), chip, IMAGE, multiplex=True).placement
    assert placement.turns == 3 and placement.used <= 17
    assert [placed.turn for placed in placement.places.values()] == [0, 0, 1, 2, 2]
    tiny = replace(chip, tiles=5)
    placement = put_on_chip(LeNet5(), tiny, IMAGE, multiplex=True).placement
    assert [placed.parts for placed in placement.places.values()] == [1, 1, 4, 1, 1]


def test_layers_that_wait_for_each_other_cannot_take_turns() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(20, 20), nn.Linear(20, 20)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(self.b(self.a(x))))

    chip = chip_of(rows=128, columns=128, weight_bits=8, crossbars_per_ima=1, imas_per_tile=1, tiles=1)
    with pytest.raises(MappingError, match="a: waits for b, which waits for it"):
        put_on_chip(Loop(), chip, torch.rand(1, 20), multiplex=True)


@pytest.mark.parametrize("budget", [0, 16_129])
def test_a_budget_that_the_chip_does_not_have(budget) -> None:
    with pytest.raises(MappingError, match=r"crossbars: must be 1 to 16,128, which isaac_ce has; got"):
        put_on_chip(LeNet5(), "isaac_ce", IMAGE, crossbars=budget)


def test_no_samples() -> None:
    with pytest.raises(MappingError, match="data: has no samples"):
        put_on_chip(LeNet5(), "isaac_ce", IMAGE[:0])


def test_a_budget_is_kept_in_turns_too() -> None:
    report = cost(
        nn.Linear(2000, 200), replace(isaac_ce(), weight_bits=8), torch.rand(1, 2000), multiplex=True, crossbars=8
    )
    assert report.crossbars == 8 and report.tiles == 1
    with pytest.raises(
        MappingError, match="crossbars: 3 are less than a tile's 4, and on small_tiles no two layers share"
    ):
        put_on_chip(LeNet5(), small_tiles(), IMAGE, crossbars=3, multiplex=True)


def test_writes_are_part_of_the_time_between_images() -> None:
    chip = chip_of(rows=128, columns=128, weight_bits=8, crossbars_per_ima=1, imas_per_tile=1, tiles=4)
    report = cost(nn.Linear(600, 32), chip, torch.rand(1, 600), multiplex=True)
    assert report.interval_ns == pytest.approx(report.timeline.total_ns / report.timeline.images)
    assert report.timeline.written[0] > 0
