"""The beam chooses as its definition does, is never longer than height, and shorter where height misses the optimum."""

import numpy as np
import pytest
from benchmarks.small_graphs import small_graphs
from hypothesis import given
from plain_policies import beam_sequence
from random_graphs import chain, drawn, graphs, side_by_side
from test_exact import hard_graph
from test_frontier import reversed_graph

from bale.batching.graph import Graph
from bale.batching.schedule import lower_bound
from bale.batching.schedule.beam import REACH
from bale.batching.schedule.exact import optimum
from bale.batching.schedule.portfolio import by_beam, by_height_portfolio
from bale.errors import ScheduleError


def plain_beam(graph, width):
    """The batches of the portfolio, then of the beam on the reversed graph, then of the beam on the graph."""
    best = len(by_height_portfolio(graph))
    for turned in (reversed_graph(graph), graph):
        if best > lower_bound(graph):
            best = len(beam_sequence(turned, width, best)) or best
    return best


@pytest.mark.parametrize("width", [1, 3, 8])
@drawn
@given(graphs(max_nodes=24))
def test_it_is_as_short_as_its_definition(width, graph):
    schedule = by_beam(graph, width)
    schedule.check(graph)
    assert len(schedule) == plain_beam(graph, width)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_it_is_as_short_as_its_definition_on_hard_graphs(width):
    found = 0
    for graph in [hard_graph(chains=4, length=6, seed=seed) for seed in range(6)]:
        schedule = by_beam(graph, width)
        schedule.check(graph)
        assert len(schedule) == plain_beam(graph, width)
        found += schedule.policy.startswith("beam")
    assert found > 0


@pytest.mark.parametrize("width", [1, 2, 7, 30])
def test_it_lies_between_the_optimum_and_height(width):
    for graph in small_graphs("random DAG", 30, seed=3):
        assert optimum(graph).bound <= len(by_beam(graph, width)) <= len(by_height_portfolio(graph))


def test_a_wide_beam_loses_nothing():
    # Wider than there are states, it is a search through all of them.
    for seed in range(10):
        graph = hard_graph(chains=3, length=6, seed=seed)
        assert len(by_beam(graph, 2000)) == optimum(graph).bound


def test_mean_batches_by_width():
    # As counted once, rounded up; height takes 25.25 and the optimum is 23.9.
    sets = [hard_graph(chains=6, length=10, seed=seed) for seed in range(20)]
    means = {width: np.mean([len(by_beam(graph, width)) for graph in sets]) for width in (1, 8, 64)}
    assert np.mean([optimum(graph).bound for graph in sets]) <= means[64] <= means[8] <= means[1]
    assert means[8] <= 24.5


def test_the_schedule_says_who_made_it():
    graph = hard_graph(chains=6, length=10)
    assert by_beam(graph, 8).policy in ("beam (8 wide)", "beam (8 wide, reversed)")
    assert by_beam(chain([0, 1]), 8).policy == by_height_portfolio(chain([0, 1])).policy


def test_the_same_graph_gets_the_same_schedule():
    first, second = (by_beam(hard_graph(chains=6, length=12)) for _ in range(2))
    assert first == second


def test_chains_longer_than_the_soft_length_looks():
    rng = np.random.default_rng(0)
    graph = side_by_side(*(chain(rng.integers(0, 2, 3 * REACH).tolist()) for _ in range(3)))
    schedule = by_beam(graph, 4)
    schedule.check(graph)
    assert lower_bound(graph) <= len(schedule) <= len(by_height_portfolio(graph))


@pytest.mark.parametrize("width", [0, -3])
def test_a_beam_without_lanes_is_refused(width):
    with pytest.raises(ScheduleError, match=rf"width of the beam is {width}; expected .* at least 1"):
        by_beam(Graph.of([], []), width)
