"""A portfolio is the first of its shortest members, in the order that it states, and makes no more than it must."""

import numpy as np
import pytest
from hypothesis import given
from plain_policies import agenda_sequence, batches_of, depth_of, sufficient_sequence
from random_graphs import chain, drawn, graphs, side_by_side
from test_frontier import reversed_graph

from bale.batching.graph import Graph
from bale.batching.schedule import POLICIES, Encoding, Policy, Portfolio, Schedule, lower_bound, make_schedule
from bale.batching.schedule.depth import by_depth
from bale.batching.schedule.fingerprint import type_keys
from bale.batching.schedule.height import Variant, height_schedules
from bale.batching.schedule.learn import learn
from bale.batching.schedule.portfolio import by_height_portfolio
from bale.batching.schedule.qlearning import QLearning
from bale.errors import PolicyError

# None of the members reaches the bound on it.
ABOVE_ITS_BOUND = side_by_side(chain([0, 1]), chain([1, 0]))

NAMES = [
    "height (share)",
    "height (soft share)",
    "height (sure first)",
    "height (share, reversed)",
    "height (soft share, reversed)",
    "height (sure first, reversed)",
    "sufficient",
    "sufficient (reversed)",
    "agenda",
    "agenda (reversed)",
    "depth",
    "depth (reversed)",
]


def height_members(graph):
    return [schedule for backward in (False, True) for schedule in height_schedules(graph, Variant, backward)]


def other_members(graph):
    """Sufficient condition, agenda and depth, each forward and reversed, as they are defined."""
    for name, sequence in (("sufficient", sufficient_sequence), ("agenda", agenda_sequence)):
        yield Schedule.from_sequence(graph, sequence(graph), name)
        yield Schedule.from_sequence(graph, sequence(reversed_graph(graph))[::-1], f"{name} (reversed)")
    yield by_depth(graph)
    from_the_end = -np.array(depth_of(reversed_graph(graph))[::-1], np.int64)
    yield Schedule.from_keys(graph, (from_the_end, graph.type), "depth (reversed)")


def tries(graph, monkeypatch, portfolio):
    """The names of the schedules that a portfolio makes, in order."""
    made = []
    for name in ("from_sequence", "from_keys"):
        make = getattr(Schedule, name).__func__

        def listening(cls, *arguments, make=make, **options):
            made.append(make(cls, *arguments, **options))
            return made[-1]

        monkeypatch.setattr(Schedule, name, classmethod(listening))
    portfolio(graph)
    monkeypatch.undo()
    return [schedule.policy for schedule in made]


@drawn
@given(graphs(max_nodes=24))
def test_the_first_of_heights_shortest_wins(graph):
    assert by_height_portfolio(graph) == min(height_members(graph), key=len)  # min keeps the first of equals


@drawn
@given(graphs(max_nodes=24))
def test_auto_is_the_first_of_all_shortest(graph):
    members = [*height_members(graph), *other_members(graph)]
    assert [schedule.policy for schedule in members] == NAMES
    for schedule in members:
        schedule.check(graph)
    assert Portfolio()(graph) == min(members, key=len)
    assert make_schedule(graph, "auto") == Portfolio()(graph)


@drawn
@given(graphs())
def test_what_a_reversed_member_runs_is_its_sequence_turned_around(graph):
    members = {schedule.policy: schedule for schedule in other_members(graph)}
    for name, sequence in (("sufficient", sufficient_sequence), ("agenda", agenda_sequence)):
        turned = sequence(reversed_graph(graph))[::-1]
        assert [batch.tolist() for batch in members[f"{name} (reversed)"]] == batches_of(graph, turned)
    assert by_depth(graph, backward=True) == members["depth (reversed)"]


def test_members_are_tried_in_the_order_stated(monkeypatch):
    policies = tuple(Policy(type_keys(ABOVE_ITS_BOUND.types), Encoding.SHARE, way, (), ()) for way in (False, True))
    assert tries(ABOVE_ITS_BOUND, monkeypatch, by_height_portfolio) == NAMES[:6]
    assert tries(ABOVE_ITS_BOUND, monkeypatch, Portfolio()) == NAMES
    assert tries(ABOVE_ITS_BOUND, monkeypatch, Portfolio(policies)) == ["fsm-share", "fsm-share (reversed)", *NAMES]


@pytest.mark.parametrize("portfolio", [by_height_portfolio, Portfolio()], ids=["height", "auto"])
def test_it_stops_at_the_bound(portfolio, monkeypatch):
    assert tries(chain([0, 1, 0, 0]), monkeypatch, portfolio) == NAMES[:1]
    assert tries(Graph.of([], []), monkeypatch, portfolio) == NAMES[:1]


def test_it_stops_at_the_first_member_that_reaches_the_bound(monkeypatch):
    def a_later_one_reaches_it(graph):
        schedule = by_height_portfolio(graph)
        return schedule.policy != NAMES[0] and len(schedule) == lower_bound(graph)

    graph = next(filter(a_later_one_reaches_it, random_graphs()))
    lengths = {schedule.policy: len(schedule) for schedule in height_members(graph)}
    for portfolio in (by_height_portfolio, Portfolio()):
        asked = tries(graph, monkeypatch, portfolio)
        assert asked == NAMES[: len(asked)]
        assert 1 < len(asked) <= 6
        assert lengths[asked[-1]] == lower_bound(graph)
        assert all(lengths[name] > lower_bound(graph) for name in asked[:-1])


def random_graphs():
    """Graphs of ten nodes in three types, one after another."""
    rng = np.random.default_rng(0)
    while True:
        yield Graph.of(
            rng.integers(0, 3, 10).tolist(),
            [rng.integers(0, node, rng.integers(0, 3)).tolist() if node else [] for node in range(10)],
        )


@drawn
@given(graphs(max_nodes=24))
def test_it_is_never_below_the_bound_and_always_runs(graph):
    for portfolio in (by_height_portfolio, Portfolio()):
        schedule = portfolio(graph)
        schedule.check(graph)
        assert len(schedule) >= lower_bound(graph)


def test_learned_tables_come_first(monkeypatch):
    graph = chain([0, 1, 0, 0])
    policy = learn([graph], Encoding.SHARE, QLearning(episodes=2, every=1))
    assert tries(graph, monkeypatch, Portfolio((policy,))) == ["fsm-share"]
    assert Portfolio((policy, policy))(graph).policy == "fsm-share"


def test_a_learned_table_may_win():
    graph = Graph.of([1, 1, 0, 2, 2, 0, 0, 1, 2, 0], [[], [0], [1, 1], [2], [], [], [3, 4], [4, 5], [], [1, 3]])
    policy = learn([graph], Encoding.SORT, QLearning(episodes=60, every=10))
    schedule = Portfolio((policy,))(graph)
    assert schedule == policy(graph)
    assert len(schedule) < len(Portfolio()(graph))


def test_a_learned_table_that_is_no_better_does_no_harm():
    # Its table is of another lesson, where type 1 had better wait.
    graph = side_by_side(*[chain([0, 1, 0])] * 3, chain([1, 0]))
    policy = Policy(type_keys(graph.types), Encoding.BASE, False, ((0,), (0, 1), (1,)), (0, 1, 1))
    portfolio = Portfolio((policy,))
    assert len(policy(graph)) > len(portfolio(graph)) == len(Portfolio()(graph))
    assert portfolio(graph) == Portfolio()(graph)


def test_a_learned_table_of_another_network_is_an_error():
    policy = Policy(type_keys(Graph.of([0], [[]], names=("cell",)).types), Encoding.BASE, False, (), ())
    with pytest.raises(PolicyError, match=r"another network: 4 of 4 nodes .*it knows cell\."):
        make_schedule(ABOVE_ITS_BOUND, Portfolio((policy,)))


def test_the_names_of_the_table_are_the_portfolios():
    assert POLICIES["height"] is by_height_portfolio
    assert POLICIES["auto"] == Portfolio()
