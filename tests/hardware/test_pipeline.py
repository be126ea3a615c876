"""Are times those of a simulation that looks at every event?"""

from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hardware.made import chip_of
from torch import Tensor, nn

from bale.hardware import isaac_ce, put_on_chip
from bale.hardware.mapping import Placement
from bale.hardware.network import Network
from bale.hardware.pipeline import bottleneck_ns, timeline


class Net(nn.Module):
    """Convolutions with a pool, a residual, a layer used twice, and an LSTM over the columns."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3, padding=1)
        self.twice = nn.Conv2d(2, 2, 3, padding=1)
        self.strided = nn.Conv2d(2, 2, 2, stride=2)
        self.lstm = nn.LSTM(2, 3, batch_first=True, bidirectional=True)
        self.last = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        x = x + self.twice(self.twice(x))
        x = self.strided(nn.functional.max_pool2d(x, 2))
        return self.last(self.lstm(x.flatten(1, 2))[0][:, -1])


def by_every_event(network: Network, placement: Placement, images: int) -> np.ndarray:
    """The end of each image's last position, in cycles: the longest way through a graph of all positions."""
    chip, graph = placement.chip, nx.DiGraph()
    on_copy: dict[tuple[str, int], tuple[tuple[int, int, int], float]] = {}
    for image in range(images):
        sent = dict.fromkeys(placement.places, 0)
        for index, call in enumerate(network.calls):
            digits = chip.input_cycles(placement.matrices[call.matrix].signed)
            for position in range(call.positions):
                task = (image, index, position)
                graph.add_node(task)
                graph.add_edge(task, ("end", image), weight=digits + 6)
                copy = (call.matrix, sent[call.matrix] % placement.places[call.matrix].copies)
                sent[call.matrix] += 1
                if copy in on_copy:  # a copy takes the next vector when the digits of the last are through
                    graph.add_edge(on_copy[copy][0], task, weight=on_copy[copy][1])
                on_copy[copy] = (task, digits)
                if call.use.in_turn and position >= call.use.in_turn:
                    graph.add_edge((image, index, position - call.use.in_turn), task, weight=digits + 6)
                for edge in call.inputs:
                    producer = network.calls[edge.producer]
                    through = chip.input_cycles(placement.matrices[producer.matrix].signed) + 6
                    for before in range(edge.last[position] + 1):
                        graph.add_edge((image, edge.producer, before), task, weight=through)
    start = dict.fromkeys(graph, 0.0)
    for task in nx.topological_sort(graph):
        for after, edge in graph[task].items():
            start[after] = max(start[after], start[task] + edge["weight"])
    return np.array([start["end", image] for image in range(images)])


@settings(max_examples=15)
@given(st.integers(1, 3), st.integers(0, 60), st.integers(1, 3), st.booleans())
def test_times_are_those_of_every_event(images, more, dac_bits, copy) -> None:
    chip = chip_of(rows=16, columns=16, weight_bits=4, dac_bits=dac_bits)
    on_chip = put_on_chip(Net(), chip, torch.rand(2, 1, 8, 8) - 0.5, copy=copy, crossbars=40 + more)
    times = timeline(on_chip.network, on_chip.placement, images)
    expected = by_every_event(on_chip.network, on_chip.placement, images)
    np.testing.assert_allclose(times.end.max(axis=1), expected * chip.cycle_ns)
    assert times.latency_ns == expected[0] * chip.cycle_ns
    assert (times.start < times.end).all() and times.written == (0.0,)


def test_isaacs_pipeline_has_22_stages() -> None:
    on_chip = put_on_chip(nn.Linear(8, 8), isaac_ce(), torch.rand(1, 8))
    assert timeline(on_chip.network, on_chip.placement, 1).latency_ns == 22 * 100


def test_images_follow_at_the_pace_of_the_busiest_copy() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 3))
    for budget in (6, 9, 20):
        on_chip = put_on_chip(model, replace(isaac_ce(), weight_bits=8), torch.rand(1, 1, 8, 8), crossbars=budget)
        times = timeline(on_chip.network, on_chip.placement, 12)
        assert times.interval_ns == pytest.approx(bottleneck_ns(on_chip.network, on_chip.placement))


def test_turns_write_their_cells_first_and_follow_one_another() -> None:
    chip = chip_of(rows=16, columns=16, weight_bits=4, crossbars_per_ima=1, imas_per_tile=1, tiles=3)
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 40))
    on_chip = put_on_chip(model, chip, torch.rand(1, 16), multiplex=True)
    placement = on_chip.placement
    assert [placed.turn for placed in placement.places.values()] == [0, 1, 2]
    assert [placed.parts for placed in placement.places.values()] == [1, 1, 2]
    write = 16 * chip.cell.write_ns
    images, vector = 4, chip.input_cycles(False) * 100
    times = timeline(on_chip.network, placement, images)
    assert times.start[0, 0] == pytest.approx(write)
    assert times.start[0, 1] == pytest.approx(times.end[-1, 0] + write)
    assert times.start[0, 2] == pytest.approx(times.end[-1, 1] + 2 * write)
    assert times.total_ns == pytest.approx(times.start[0, 2] + images * 2 * vector + 600)
    assert times.interval_ns == pytest.approx(times.total_ns / images)


@pytest.mark.parametrize("series", [1, 3])
def test_the_bottleneck_of_states_is_how_long_they_wait(series) -> None:
    """An LSTM's states: a step waits until the one before it is written; the next image follows the last digits."""
    model = nn.LSTM(4, 5)
    on_chip = put_on_chip(Wrapped(model), "isaac_ce", [(torch.rand(6, series, 4),)] * 2)
    times = timeline(on_chip.network, on_chip.placement, 8)
    digits = 16  # 15 of a signed input, and its sign
    assert bottleneck_ns(on_chip.network, on_chip.placement) == 100 * max(
        6 * series * digits, 5 * (digits + 6) + digits
    )
    assert times.interval_ns >= bottleneck_ns(on_chip.network, on_chip.placement) - 1e-6
    if series == 1:
        assert times.interval_ns == pytest.approx(bottleneck_ns(on_chip.network, on_chip.placement))


class Wrapped(nn.Module):
    """The outputs alone."""

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.lstm = lstm

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0]
