"""The optimum is what trying every sequence finds; no policy is below it, and how far each is above it is known."""

import numpy as np
import pytest
from benchmarks.optimum import lines_of, table_of
from benchmarks.small_graphs import FAMILIES, small_graphs
from hypothesis import given
from plain_policies import fewest_batches
from random_graphs import chain, drawn, graphs, side_by_side
from test_frontier import reversed_graph

from bale.batching.graph import Graph
from bale.batching.schedule import POLICIES, exact, lower_bound, make_schedule
from bale.batching.schedule.exact import optimum
from bale.errors import ScheduleError

PER_FAMILY = 40  # of five families: 200 graphs
every_family = pytest.mark.parametrize("family", FAMILIES)


def hard_graph(chains, length, seed=0):
    """Chains of random types side by side: a shortest common supersequence, the hardest that we know."""
    rng = np.random.default_rng(seed)
    return side_by_side(*(chain(rng.integers(0, 5, length).tolist()) for _ in range(chains)))


@drawn
@given(graphs(max_nodes=12))
def test_it_is_the_fewest_of_all_sequences(graph):
    best = optimum(graph)
    best.schedule.check(graph)
    assert best.proved
    assert len(best.schedule) == best.bound == fewest_batches(graph)


@drawn
@given(graphs(max_nodes=40, max_types=6))
def test_it_lies_between_the_bound_and_every_policy(graph):
    best = optimum(graph)
    best.schedule.check(graph)
    assert best.proved
    assert lower_bound(graph) <= len(best.schedule) <= min(len(make_schedule(graph, policy)) for policy in POLICIES)


@drawn
@given(graphs(max_nodes=40, max_types=6))
def test_the_reversed_graph_takes_as_many(graph):
    assert optimum(reversed_graph(graph)).bound == optimum(graph).bound


@pytest.mark.parametrize("seed", range(4))
def test_chains_of_random_types_take_as_many_as_their_supersequence(seed):
    # Counted by another way: the fewest steps from one place in all chains to the next.
    graph = hard_graph(chains=3, length=7, seed=seed)
    chains = graph.type.reshape(3, 7)
    places, steps = {(0, 0, 0)}, 0
    while (7, 7, 7) not in places:
        heads = [[row[at] if at < 7 else -1 for row, at in zip(chains, place, strict=True)] for place in places]
        places = {
            tuple(at + (head == kind) for at, head in zip(place, ready, strict=True))
            for place, ready in zip(places, heads, strict=True)
            for kind in range(5)
        }
        steps += 1
    assert optimum(graph).bound == steps


def test_more_nodes_than_a_word_has_bits():
    # Each chain alone is at its bound; all together take the supersequence of two patterns.
    graph = side_by_side(*[chain([0, 1, 2] * 2)] * 12, *[chain([2, 1, 0] * 2)] * 12)
    few = side_by_side(chain([0, 1, 2] * 2), chain([2, 1, 0] * 2))
    assert len(graph) == 144
    best = optimum(graph)
    best.schedule.check(graph)
    assert best.proved
    assert best.bound == fewest_batches(few) > lower_bound(graph)


@pytest.mark.parametrize("size", [63, 64, 65, 127, 128, 129])
def test_every_place_in_a_word_is_looked_at(size):
    # The search begins only where the beam misses the bound: two chains that want each other's type first.
    graph = side_by_side(chain([2] * (size - 4)), chain([0, 1]), chain([1, 0]))
    best = optimum(graph)
    assert len(graph) == size
    assert (best.proved, best.bound, lower_bound(graph)) == (True, size - 1, size - 2)
    assert best.states > 0


def test_nothing_is_searched_where_the_beam_is_at_the_bound():
    for graph in (Graph.of([], []), chain([0, 1, 0]), chain([0] * 1000)):
        best = optimum(graph, limit=1)
        assert best.proved
        assert best.states == 0


def test_a_limit_leaves_a_valid_answer_with_a_bound():
    graph = hard_graph(chains=5, length=10)
    best = optimum(graph)
    assert best.proved
    assert str(best) == f"Optimum: {best.bound} batches, optimal, {best.states} states"
    bounds = []
    for limit in (1, 10, 100, 1000):
        stopped = optimum(graph, limit=limit)
        stopped.schedule.check(graph)
        assert not stopped.proved
        assert stopped.states <= limit
        assert lower_bound(graph) <= stopped.bound < best.bound <= len(stopped.schedule)
        assert str(stopped).endswith(f"at least {stopped.bound} needed, {limit} states")
        bounds.append(stopped.bound)
    assert bounds == sorted(bounds)
    assert bounds[-1] > bounds[0]
    assert optimum(graph, limit=best.states).proved


def test_a_search_that_begins_anew_with_more_room_finds_the_same(monkeypatch):
    graph = hard_graph(chains=5, length=10)
    at_once, stopped = optimum(graph), optimum(graph, limit=500)
    monkeypatch.setattr(exact, "FIRST_ROOM", 3)
    assert optimum(graph) == at_once
    assert optimum(graph, limit=500) == stopped


def test_the_same_graph_gets_the_same_answer():
    first, second = (optimum(hard_graph(chains=7, length=8)) for _ in range(2))
    assert first == second
    assert first.schedule.policy == "optimum"


@pytest.mark.parametrize("limit", [0, -1, 2**31])
def test_a_limit_that_means_nothing_is_refused(limit):
    with pytest.raises(ScheduleError, match=rf"limit is {limit}; expected"):
        optimum(chain([0]), limit=limit)


@every_family
def test_how_far_the_policies_are_from_the_optimum(family):
    # Mean gaps as counted once, rounded up: no policy may become worse.
    # fmt: off
    at_most = {
        #                 depth  agenda sufficient height beam, auto
        "lattice":       (0.79,  0.45,  0.0,       0.0,   0.0),
        "two-type tree": (0.31,  0.09,  0.02,      0.0,   0.0),
        "random DAG":    (0.55,  0.35,  0.12,      0.025, 0.005),
        "grid":          (0.27,  0.16,  0.03,      0.0,   0.0),
        "circuit":       (0.49,  0.29,  0.08,      0.01,  0.002),
    }
    # fmt: on
    sets = small_graphs(family, PER_FAMILY, seed=0)
    assert all(20 <= len(graph) <= 60 for graph in sets)
    bound, *policies = lines_of(family, sets, limit=1 << 18)
    assert bound["unproved"] == 0
    assert bound["gap_max"] <= 0
    assert [line["policy"] for line in policies] == list(POLICIES)
    most = dict(zip(POLICIES, (*at_most[family], at_most[family][-1]), strict=True))
    for line in policies:
        assert line["gap_mean"] <= most[line["policy"]], line
        assert line["batches"] >= line["optimum"] >= bound["batches"]


@every_family
def test_no_policy_is_below_the_optimum(family):
    for graph in small_graphs(family, PER_FAMILY, seed=1):
        best = optimum(graph)
        best.schedule.check(graph)
        assert best.proved
        assert all(len(make_schedule(graph, policy)) >= best.bound for policy in POLICIES)


def test_the_table_has_a_row_per_line_and_dashes_where_nothing_is_proved():
    graph = hard_graph(chains=5, length=10)
    lines = lines_of("random DAG", [graph], limit=10)
    assert all(line["unproved"] == 1 and line["gap_mean"] is None for line in lines)
    assert table_of(lines).row_count == len(lines) == len(POLICIES) + 1
