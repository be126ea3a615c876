"""Does each weight's tile, and each channel's way, follow from where the crossbars lie?"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.hardware.made import chip_of
from torch import nn

from bale.errors import MappingError
from bale.hardware import Event, OnChip, matrix_traffic, put_on_chip, small_tiles, tile_flows
from bale.hardware.events import count_events, routers
from bale.hardware.noc.matrix_traffic import tiles_of
from bale.hardware.reach import kept_weights
from bale.models import VGG8, LeNet5, LSTMClassifier, ResNet20


def on(model: nn.Module, chip=None, shape: tuple[int, ...] = (1, 28, 28)) -> OnChip:
    torch.manual_seed(0)
    return put_on_chip(model, chip or small_tiles(), torch.rand(2, *shape), copy=False)


def counted(on_chip: OnChip, kept: dict[str, np.ndarray] | None = None) -> dict[str, float]:
    """Bits times routers of each matrix, as events count them."""
    network = on_chip.network
    drives = {name: np.zeros(matrix.groups * matrix.rows) for name, matrix in network.matrices.items()}
    every = {name: kept_weights(matrix, np.ones(matrix.weight.shape)) for name, matrix in network.matrices.items()}
    ledger = count_events(network, on_chip.placement, every if kept is None else kept, drives, 1)
    return {name: 256 * ledger.counts[name, Event.ROUTER] for name in network.matrices}


def routed(on_chip: OnChip, flows: np.ndarray) -> float:
    tile = np.arange(len(flows))
    return float((flows * routers(on_chip.chip, tile[:, None], tile[None, :])).sum())


@pytest.mark.parametrize(
    ("model", "tiles"),
    [(LeNet5(), 37), (ResNet20(width=8), 47), (VGG8(width=16), 76)],
    ids=["lenet5", "resnet20", "vgg8"],
)
def test_traffic_is_what_events_count(model, tiles) -> None:
    on_chip = on(model)
    traffic = matrix_traffic(on_chip)
    assert tiles_of(traffic) == on_chip.placement.tiles == tiles
    rng = np.random.default_rng(0)
    few = {name: (rng.random(matrix.tile.shape) < 0.02) & (matrix.tile >= 0) for name, matrix in traffic.items()}
    for masks in (None, few):
        events = counted(on_chip, masks)
        for name, matrix in traffic.items():
            assert routed(on_chip, tile_flows({name: matrix}, masks)) == pytest.approx(events[name])
        assert routed(on_chip, tile_flows(traffic, masks)) == pytest.approx(sum(events.values()))


def test_tiles_of_a_convolution_by_hand() -> None:
    # 2 columns a weight, 8 outputs a crossbar, 2 crossbars a tile: 18 rows are blocks of 16 and 2, 9 outputs crossbars
    # of 8 and 1; so tile 0 has the first block of all outputs, tile 1 the second.
    chip = chip_of(
        rows=16, columns=16, weight_bits=4, crossbars_per_ima=2, imas_per_tile=1, tiles_per_router=1, share_tiles=False
    )
    model = nn.Sequential(nn.Conv2d(2, 9, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3))
    traffic = matrix_traffic(on(model, chip, (2, 6, 6)))
    conv, linear = traffic["0"], traffic["3"]
    assert conv.tile.tolist() == [[0] * 16 + [1] * 2] * 9
    assert conv.accumulator.tolist() == [1] * 9 and conv.sources.tolist() == [[-1, -1]]
    assert (conv.sent.tolist(), conv.positions, conv.input_bits, conv.sum_bits) == ([36], 16, 4, 4 + 4 + 4)
    assert linear.tile.tolist() == [[2] * 32 + [3] * 4] * 3
    assert linear.sources.tolist() == [[1] * 36] and linear.sent.tolist() == [1]
    flows = np.zeros((4, 4))
    flows[0, 1], flows[1, 2], flows[1, 3], flows[2, 3] = 9 * 16 * 12, 32 * 4, 4 * 4, 3 * 12
    assert tile_flows(traffic).tolist() == flows.tolist()
    last = np.ones((3, 36), bool)
    last[:, 4:] = False  # only channel 0 of the convolution is used
    flows[1, 2], flows[1, 3], flows[2, 3] = 4 * 4, 0, 3 * 12
    assert tile_flows(traffic, {"3": last}).tolist() == flows.tolist()
    with pytest.raises(MappingError, match=r"3: a mask of \[36, 3\], expected \[3, 36\]"):
        tile_flows(traffic, {"3": last.T})


@pytest.mark.parametrize("outputs", [4, 40])  # along the diagonal of a crossbar; in crossbars of their own
def test_groups_have_no_weights_for_inputs_of_others(outputs) -> None:
    conv = nn.Conv2d(4, outputs, 3, groups=4)
    matrix = matrix_traffic(on(conv, chip_of(crossbars_per_ima=1, imas_per_tile=1), (4, 5, 5)))[type(conv).__name__]
    assert matrix.tile.shape == (outputs, 4 * 9) and (matrix.inputs, matrix.taps) == (4, 9)
    own = np.arange(outputs)[:, None] // (outputs // 4) == np.arange(36)[None, :] // 9
    assert np.array_equal(matrix.tile >= 0, own)


def test_a_matrix_called_several_times_adds_up() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.again = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x):
            return self.again(self.again(self.first(x)))

    traffic = matrix_traffic(on(Twice(), shape=(8,)))
    assert traffic["again"].positions == 2
    assert traffic["again"].sources.tolist() == [[0] * 8, [1] * 8] and traffic["again"].sent.tolist() == [1, 1]


def test_what_a_lstm_adds_at_home_sends_nothing() -> None:
    traffic = matrix_traffic(on(LSTMClassifier(hidden=20)))
    assert all(matrix.sent.min(initial=1) > 0 for matrix in traffic.values())
    assert any(not len(matrix.sent) and matrix.sources.shape == (0, 20) for matrix in traffic.values())


def test_copies_and_turns_have_no_one_tile() -> None:
    model, data = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3)), torch.rand(1, 1, 9, 9)
    with pytest.raises(MappingError, match=r"0: has \d+ copies; .* copy=False"):
        matrix_traffic(put_on_chip(model, small_tiles(), data))
    with pytest.raises(MappingError, match="matrices take turns on small_tiles"):
        matrix_traffic(put_on_chip(model, small_tiles(), data, crossbars=4, copy=False, multiplex=True))


@given(st.integers(0, 2**32), st.floats(0, 1))
def test_flows_are_those_of_every_group_by_itself(seed, density) -> None:
    model = nn.Sequential(nn.Linear(40, 30), nn.Linear(30, 20))
    traffic = matrix_traffic(on(model, chip_of(crossbars_per_ima=1, imas_per_tile=1), (40,)))
    rng = np.random.default_rng(seed)
    masks = {name: rng.random(matrix.tile.shape) < density for name, matrix in traffic.items()}
    tiles = tiles_of(traffic)
    flows = np.zeros((tiles, tiles))
    for name, matrix in traffic.items():
        for channel in range(matrix.inputs):
            for tile in set(matrix.tile[:, channel][masks[name][:, channel]].tolist()):
                for sources, sent in zip(matrix.sources, matrix.sent, strict=True):
                    if sources[channel] not in (-1, tile):
                        flows[sources[channel], tile] += sent * matrix.input_bits
        for output, accumulator in enumerate(matrix.accumulator):
            for tile in set(matrix.tile[output][masks[name][output]].tolist()) - {int(accumulator)}:
                flows[tile, accumulator] += matrix.positions * matrix.sum_bits
    assert np.allclose(tile_flows(traffic, masks), flows)
