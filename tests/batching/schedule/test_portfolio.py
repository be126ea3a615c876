"""A portfolio is the first of its shortest members, in the order that it states, and makes no more than is worth it."""

import numpy as np
import pytest
from hypothesis import given
from plain_policies import agenda_sequence, batches_of, depth_of, sufficient_sequence
from random_graphs import chain, drawn, graphs, side_by_side
from test_frontier import reversed_graph

from bale.batching.graph import Graph
from bale.batching.schedule import POLICIES, Encoding, Policy, Portfolio, Schedule, lower_bound, make_schedule
from bale.batching.schedule.beam import shorter_by_beam
from bale.batching.schedule.depth import by_depth
from bale.batching.schedule.fingerprint import type_keys
from bale.batching.schedule.height import Variant, height_schedules
from bale.batching.schedule.learn import learn
from bale.batching.schedule.portfolio import WIDTH, by_beam, by_height_portfolio
from bale.batching.schedule.qlearning import QLearning
from bale.errors import PolicyError

# None of the members reaches the bound on it, nor does anything: it is two batches, and the optimum three.
ABOVE_ITS_BOUND = side_by_side(chain([0, 1]), chain([1, 0]))

HEIGHT = [
    "height (share)",
    "height (soft share)",
    "height (sure first)",
    "height (share, reversed)",
    "height (soft share, reversed)",
    "height (sure first, reversed)",
]
AUTO = [
    HEIGHT[5],
    "sufficient (reversed)",
    HEIGHT[4],
    HEIGHT[3],
    HEIGHT[2],
    "sufficient",
    HEIGHT[1],
    HEIGHT[0],
    "agenda (reversed)",
    "agenda",
    "depth (reversed)",
    "depth",
]


def height_members(graph):
    return [schedule for backward in (False, True) for schedule in height_schedules(graph, Variant, backward)]


def auto_members(graph):
    """All that "auto" may try before the beam, in its order; all but height as they are defined."""
    members = height_members(graph)
    for name, sequence in (("sufficient", sufficient_sequence), ("agenda", agenda_sequence)):
        turned = sequence(reversed_graph(graph))[::-1]
        members.append(Schedule.from_sequence(graph, turned, f"{name} (reversed)"))
        members.append(Schedule.from_sequence(graph, sequence(graph), name))
    from_the_end = -np.array(depth_of(reversed_graph(graph))[::-1], np.int64)
    members.append(Schedule.from_keys(graph, (from_the_end, graph.type), "depth (reversed)"))
    members.append(by_depth(graph))
    return sorted(members, key=lambda schedule: AUTO.index(schedule.policy))


def tries(graph, monkeypatch, portfolio):
    """The names of the schedules that a portfolio makes or has a beam look for, in order."""
    made = []
    for name in ("from_sequence", "from_keys"):
        make = getattr(Schedule, name).__func__

        def listening(cls, *arguments, make=make, **options):
            schedule = make(cls, *arguments, **options)
            made.append(schedule.policy)
            return schedule

        monkeypatch.setattr(Schedule, name, classmethod(listening))
    with monkeypatch.context() as patched:
        listen = lambda graph, than, *_: made.append("beam") or than  # noqa: E731
        patched.setattr("bale.batching.schedule.portfolio.shorter_by_beam", listen)
        portfolio(graph)
    monkeypatch.undo()
    return made


@drawn
@given(graphs(max_nodes=24))
def test_the_first_of_heights_shortest_wins(graph):
    members = height_members(graph)
    assert [schedule.policy for schedule in members] == HEIGHT
    assert by_height_portfolio(graph) == min(members, key=len)  # min keeps the first of equals


@drawn
@given(graphs(max_nodes=24))
def test_auto_is_the_first_of_all_shortest_or_what_the_beam_finds_below(graph):
    members = auto_members(graph)
    assert [schedule.policy for schedule in members] == AUTO
    for schedule in members:
        schedule.check(graph)
    # on graphs this small every batch less is worth every try
    assert Portfolio()(graph) == shorter_by_beam(graph, min(members, key=len), WIDTH)
    assert make_schedule(graph, "auto") == Portfolio()(graph)


@drawn
@given(graphs(max_nodes=24))
def test_auto_is_never_longer_than_any_member(graph):
    # The beam is no member: it begins from another schedule there, and may find another one.
    assert all(len(make_schedule(graph)) <= len(make_schedule(graph, name)) for name in POLICIES if name != "beam")


@drawn
@given(graphs())
def test_what_a_reversed_member_runs_is_its_sequence_turned_around(graph):
    members = {schedule.policy: schedule for schedule in auto_members(graph)}
    for name, sequence in (("sufficient", sufficient_sequence), ("agenda", agenda_sequence)):
        turned = sequence(reversed_graph(graph))[::-1]
        assert [batch.tolist() for batch in members[f"{name} (reversed)"]] == batches_of(graph, turned)
    assert by_depth(graph, backward=True) == members["depth (reversed)"]


def test_members_are_tried_in_the_order_stated(monkeypatch):
    policies = tuple(Policy(type_keys(ABOVE_ITS_BOUND.types), Encoding.BASE, way, (), ()) for way in (False, True))
    assert tries(ABOVE_ITS_BOUND, monkeypatch, by_height_portfolio) == HEIGHT
    assert tries(ABOVE_ITS_BOUND, monkeypatch, by_beam) == [*HEIGHT, "beam"]
    assert tries(ABOVE_ITS_BOUND, monkeypatch, Portfolio()) == [*AUTO, "beam"]
    learned_first = ["fsm-base", "fsm-base (reversed)", *AUTO, "beam"]
    assert tries(ABOVE_ITS_BOUND, monkeypatch, Portfolio(policies)) == learned_first


@pytest.mark.parametrize(("portfolio", "first"), [(by_height_portfolio, HEIGHT[0]), (Portfolio(), AUTO[0])])
def test_it_stops_at_the_bound(portfolio, first, monkeypatch):
    assert tries(chain([0, 1, 0, 0]), monkeypatch, portfolio) == [first]
    assert tries(Graph.of([], []), monkeypatch, portfolio) == [first]


def test_it_stops_at_the_first_member_that_reaches_the_bound(monkeypatch):
    def reached_later(graph, members):
        lengths = [len(schedule) for schedule in members(graph)]
        return lengths[0] > min(lengths) == lower_bound(graph)

    for names, portfolio, members in (
        (HEIGHT, by_height_portfolio, height_members),
        (AUTO, Portfolio(), auto_members),
    ):
        graph = next(graph for graph in random_graphs() if reached_later(graph, members))
        asked = tries(graph, monkeypatch, portfolio)
        lengths = [len(schedule) for schedule in members(graph)]
        assert asked == names[: 1 + lengths.index(lower_bound(graph))]


@pytest.mark.parametrize(("bound", "tried"), [(99, AUTO[:10]), (100, AUTO[:1])])
def test_auto_stops_within_one_percent_of_the_bound(bound, tried, monkeypatch):
    graph = side_by_side(ABOVE_ITS_BOUND, chain([2] * (bound - 2)))
    assert lower_bound(graph) == bound == len(by_height_portfolio(graph)) - 1
    assert tries(graph, monkeypatch, Portfolio()) == tried


@pytest.mark.parametrize(
    ("copies", "tried"),
    [(13, [*AUTO, "beam"]), (14, AUTO), (22, AUTO), (23, AUTO[:11]), (249, AUTO[:2]), (250, AUTO[:1])],
)
def test_auto_stops_where_a_batch_less_would_not_pay_for_the_tries(copies, tried, monkeypatch):
    # One batch above the bound, of four nodes a copy: in its time 1,000 nodes are tried. The beam is eight tries.
    graph = side_by_side(*[ABOVE_ITS_BOUND] * copies)
    assert tries(graph, monkeypatch, Portfolio()) == tried


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
    for portfolio in (by_height_portfolio, by_beam, Portfolio()):
        schedule = portfolio(graph)
        schedule.check(graph)
        assert len(schedule) >= lower_bound(graph)


def test_learned_tables_come_first(monkeypatch):
    graph = chain([0, 1, 0, 0])
    policy = learn([graph], Encoding.SHARE, QLearning(episodes=2, every=1))
    assert tries(graph, monkeypatch, Portfolio((policy,))) == ["fsm-share"]
    assert Portfolio((policy, policy))(graph).policy == "fsm-share"


def test_a_learned_table_may_win():
    # Large enough that no beam is tried; of small ones nearly all have an optimum that the beam finds.
    graph = Graph.of([1, 1, 0, 2, 2, 0, 0, 1, 2, 0], [[], [0], [1, 1], [2], [], [], [3, 4], [4, 5], [], [1, 3]])
    graph = side_by_side(*[graph] * 30)
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
    assert POLICIES["beam"] is by_beam
    assert POLICIES["auto"] == Portfolio()
