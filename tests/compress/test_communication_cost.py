"""What connections cost: as counted by hand, and what each group's going saves."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compress.traffic_made import by_hand, line

from bale.compress import Traffic, WeightTraffic, communication_cost
from bale.compress.connections import Connections
from bale.compress.rewiring import by_distance, connect_by_distance, drop_to, total_cost
from bale.errors import CompressionError


@st.composite
def networks(draw):
    """Random traffic of one weight or two, and which of their numbers are kept."""
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def whole(low, high, *shape):
        return torch.randint(low, high, shape, generator=random)

    tiles = draw(st.integers(1, 6))
    hops = whole(0, 5, tiles, tiles)
    hops.fill_diagonal_(0)
    weights, kept = {}, {}
    for name in ("one", "two")[: draw(st.integers(1, 2))]:
        outputs, inputs, taps, edges = (draw(st.integers(1, most)) for most in (5, 5, 3, 3))
        weights[name] = WeightTraffic(
            sources=whole(-1, tiles, edges, inputs),
            sent=whole(0, 9, edges).double(),
            tile=whole(0, tiles, outputs, inputs * taps),
            accumulator=whole(0, tiles, outputs),
            positions=draw(st.integers(0, 9)),
            input_bits=8,
            sum_bits=17,
        )
        kept[name] = whole(0, 3, outputs, inputs, taps) > 0
    return Traffic(hops, weights), kept


def connections_of(traffic, kept):
    return {name: Connections(each, traffic.hops, kept[name].numpy()) for name, each in traffic.weights.items()}


@settings(max_examples=60, deadline=None)
@given(networks())
def test_cost_is_what_is_counted_by_hand(drawn):
    traffic, kept = drawn
    assert communication_cost(traffic, {name: each.double() for name, each in kept.items()}) == by_hand(traffic, kept)


@settings(max_examples=60, deadline=None)
@given(networks(), st.randoms(use_true_random=False))
def test_a_group_that_goes_saves_exactly_its_part_and_may_come_back(drawn, random):
    traffic, kept = drawn
    for name, each in connections_of(traffic, kept).items():
        only = Traffic(traffic.hops, {name: traffic.weights[name]})
        begin = each.cost
        assert each.shares()[: each.arrivals].sum() == pytest.approx(begin)
        assert each.shares()[each.arrivals :].sum() == pytest.approx(begin)
        for group in random.sample(range(len(each.own)), len(each.own)):
            before, outputs = each.cost, each.of_output.copy()
            saved = each.drop(group)
            now = torch.from_numpy(each.kept).view(kept[name].shape)
            assert each.cost == before - (saved or 0) == by_hand(only, {name: now})
            assert ((each.of_output > 0) == (outputs > 0)).all()
        counts, of_output = each.counts.copy(), each.of_output.copy()
        each.recount()
        assert (counts == each.counts).all() and (of_output == each.of_output).all()
        returning = each.returning()
        for group in range(len(each.own)):
            before = each.kept.copy()
            if each.dropped[group]:
                each.dropped[group] = False
                each.recount()
                assert returning[group] == (each.kept != before).any()
                each.dropped[group] = True
                each.recount()
        each.dropped[:] = False
        each.recount()
        assert each.cost == begin


@settings(max_examples=30, deadline=None)
@given(networks(), st.floats(0, 1))
def test_dropping_stops_at_what_may_stay_or_where_outputs_would_be_empty(drawn, share):
    traffic, kept = drawn
    network = connections_of(traffic, kept)
    begin, had = total_cost(network), {name: each.of_output > 0 for name, each in network.items()}
    saliency = {name: np.random.default_rng(0).random(each.kept.shape) for name, each in network.items()}
    drop_to(network, share * begin, saliency)
    assert all(((each.of_output > 0) == had[name]).all() for name, each in network.items())
    if total_cost(network) > share * begin:
        stuck = [
            each.drop(group)
            for each in network.values()
            for group in range(len(each.own))
            if each.counts[group] and each.own[group]
        ]
        assert not any(stuck)


def of_a_line(outputs, inputs):
    """Inputs that come from the first tile of a row, and an output in each tile."""
    return WeightTraffic(
        sources=torch.zeros(1, inputs, dtype=torch.int64),
        sent=torch.ones(1, dtype=torch.float64),
        tile=torch.arange(outputs)[:, None].repeat(1, inputs),
        accumulator=torch.arange(outputs),
        positions=1,
        input_bits=8,
        sum_bits=16,
    )


@pytest.mark.parametrize("density", [0.1, 0.3, 1.0])
def test_a_start_by_distance_has_the_density_and_more_near_connections(density):
    outputs, inputs, drawn = 6, 400, np.zeros(6)
    each = Connections(of_a_line(outputs, inputs), line(outputs), np.ones((outputs, inputs), bool))
    for seed in range(20):
        connect_by_distance(each, density, by_distance(each, 2.0, np.random.default_rng(seed)))
        assert each.kept.sum() == round(density * outputs * inputs)  # of groups of one number
        drawn += each.of_output
    assert (np.diff(drawn) < 0).all() or density == 1
    if density == 0.1:  # so few that none is drawn out of most
        assert drawn / drawn[0] == pytest.approx(np.exp(-np.arange(outputs) / 2), abs=0.05)


def test_an_output_that_a_draw_leaves_empty_keeps_one_connection():
    each = Connections(of_a_line(6, 20), line(6), np.ones((6, 20), bool))
    connect_by_distance(each, 0.05, by_distance(each, 0.1, np.random.default_rng(0)))
    assert each.of_output.tolist() == [6, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("sources", torch.zeros(3, dtype=torch.int64), "sources: expected a tensor of 2 axes"),
        ("sources", torch.zeros(1, 4, dtype=torch.int64), "sources: 4 inputs do not divide the 6 rows"),
        ("sources", torch.full((1, 3), -2), "sources: names a tile that hops has not; expected -1 to 2"),
        ("sent", torch.ones(2), "sent: expected one number for each of 1 edges"),
        ("sent", -torch.ones(1), "sent: expected no number below 0"),
        ("tile", torch.full((2, 6), 3), "tile: names a tile that hops has not; expected 0 to 2"),
        ("tile", torch.zeros(2, 6), "tile: expected whole numbers, got torch.float32"),
        ("accumulator", torch.zeros(3, dtype=torch.int64), "accumulator: expected one tile for each of 2 outputs"),
        ("positions", -1, "positions: must be at least 0, got -1"),
    ],
)
def test_traffic_that_does_not_fit_is_refused(field, value, problem):
    fields = {
        "sources": torch.zeros(1, 3, dtype=torch.int64),
        "sent": torch.ones(1),
        "tile": torch.zeros(2, 6, dtype=torch.int64),
        "accumulator": torch.zeros(2, dtype=torch.int64),
        "positions": 1,
        "input_bits": 8,
        "sum_bits": 16,
    }
    Traffic(line(3), {"fc": WeightTraffic(**fields)})
    with pytest.raises(CompressionError, match=f"traffic of fc: {problem}"):
        Traffic(line(3), {"fc": WeightTraffic(**(fields | {field: value}))})


def test_hops_and_names_that_do_not_fit_are_refused():
    for hops in (torch.ones(2, 2, dtype=torch.int64), line(3)[:2], line(3).float(), -line(3)):
        with pytest.raises(CompressionError, match="traffic: hops: expected"):
            Traffic(hops, {})
    traffic = Traffic(line(2), {"fc": of_a_line(2, 3)})
    with pytest.raises(CompressionError, match="traffic of fc: there is no such weight; known are other"):
        communication_cost(traffic, {"other": torch.ones(2, 3)})
    with pytest.raises(CompressionError, match="traffic of fc: tile: is of 2 x 3 with 3 inputs, and the weight of 2 x"):
        communication_cost(traffic, {"fc": torch.ones(2, 4)})
