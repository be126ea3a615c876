"""Q-learning finds the tables that its definition finds, from equal seeds, and on real lattices they hold elsewhere."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lattice_sets import lattice_graph
from plain_qlearning import PlainTable, learn_from_plain_episode, learn_plainly, run_plain_episode
from random_graphs import chain, drawn, graphs, side_by_side

from bale.batching.graph import Graph
from bale.batching.schedule import Encoding, lower_bound, make_schedule
from bale.batching.schedule.encoding import SURE
from bale.batching.schedule.learn import learn
from bale.batching.schedule.lessons import Lessons
from bale.batching.schedule.qlearning import QLearning, run_episode, update_values
from bale.batching.schedule.states import States
from bale.batching.schedule.sufficient import open_first_levels
from bale.errors import PolicyError

# On it the first tables are poor: types alternate, and only the right order keeps the chains together.
HARD = side_by_side(
    *[chain([0, 1, 0, 2, 0, 1])] * 2,
    *[chain([1, 0, 0, 2, 1])] * 2,
    *[chain([2, 1, 0, 1, 0, 2, 2])] * 2,
    Graph.of([1, 2, 0, 1, 0, 2, 0], [[], [], [0, 1], [2], [1], [3, 4], [5]]),
)
some_graphs = graphs(max_nodes=14, max_types=3).filter(len)
every_encoding = pytest.mark.parametrize("encoding", Encoding, ids=str)


def deaf(episode, batches):
    """Does not care how learning goes."""


@pytest.mark.parametrize("bootstrap", [True, False])
@every_encoding
@drawn
@given(some_graphs, st.integers(1, 4), st.integers(0, 99))
def test_one_episode_rewards_and_updates_as_defined(encoding, bootstrap, graph, horizon, seed):
    learning = QLearning(horizon=horizon, bootstrap=bootstrap, rate=0.3)
    lessons = Lessons.of([graph], backward=False)
    states = lessons.room(States.empty())
    value = np.zeros((states.start.size - 1, len(lessons.types)))
    tried = np.zeros(value.shape, np.bool_)
    plain = PlainTable()
    rng, plain_rng = np.random.default_rng(seed), np.random.default_rng(seed)
    for epsilon in (1.0, 0.3):  # the first run tries types at random, the second goes by the values that it left
        if epsilon < 1:
            states = lessons.room(states)
            more = states.start.size - 1 - value.shape[0]
            value, tried = np.pad(value, [(0, more), (0, 0)]), np.pad(tried, [(0, more), (0, 0)])
        first = open_first_levels(lessons.flows[0])
        path = run_episode(lessons.flows[0], lessons.height[0], first, int(encoding), states, value, rng, epsilon)
        expected = run_plain_episode(graph, str(encoding), plain, plain_rng, epsilon)
        rows = states.rows()
        assert [
            (None if number == SURE else rows[number], kind, reward)
            for number, kind, reward in zip(*(part.tolist() for part in path), strict=True)
        ] == expected
        assert all(-1 < reward <= 0 for _, _, reward in expected)
        assert not first.size.any()  # nothing is left over
        update_values(*path, value, tried, learning.horizon, learning.rate, learning.bootstrap)
        learn_from_plain_episode(expected, plain, learning)
        for number, row in enumerate(rows):
            assert set(np.flatnonzero(tried[number]).tolist()) == plain.tried[row]
            assert value[number].tolist() == [plain.value[row, kind] for kind in range(value.shape[1])]


@pytest.mark.parametrize("bootstrap", [True, False])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "reversed"])
@every_encoding
def test_learning_is_what_it_is_defined_as(encoding, backward, bootstrap):
    learning = QLearning(episodes=24, every=5, patience=12, horizon=3, bootstrap=bootstrap)
    lesson = [HARD, chain([2, 0, 1, 1]), side_by_side(chain([1, 0, 2]), chain([0, 2, 1]))]
    lesson = [replace(graph, types=HARD.types) for graph in lesson]
    heard, expected_heard = [], []
    choices, batches, episodes = learn_plainly(
        lesson, str(encoding), backward, learning, np.random.default_rng(3), lambda *now: expected_heard.append(now)
    )
    table = learning.table(
        Lessons.of(lesson, backward), encoding, np.random.default_rng(3), lambda *now: heard.append(now)
    )
    assert dict(zip(table.states.rows(), table.choices.tolist(), strict=False)) == choices
    assert (table.batches, table.episodes) == (batches, episodes)
    assert heard == expected_heard


@every_encoding
def test_equal_seeds_learn_equal_policies(encoding):
    learning = QLearning(episodes=40, every=10)
    one, again = (learn([HARD], encoding, learning, seed=5) for _ in range(2))
    assert one == again
    assert one.learned == again.learned


def test_another_seed_tries_other_things():
    learning = QLearning(episodes=4, every=4)
    policies = {learn([HARD], Encoding.SORT, learning, backward=False, seed=seed) for seed in range(6)}
    assert len(policies) > 1


@every_encoding
@drawn
@given(some_graphs, st.integers(0, 9))
def test_the_result_is_never_worse_than_the_first_greedy_run(encoding, graph, seed):
    heard = []
    learning = QLearning(episodes=12, every=3)
    policy = learn([graph], encoding, learning, backward=False, seed=seed, on_episode=lambda *now: heard.append(now[1]))
    counted = [batches for batches in heard if batches is not None]
    assert counted == sorted(counted, reverse=True)
    assert len(policy(graph)) == policy.learned["batches"] == counted[-1] <= counted[0]
    assert len(policy(graph)) >= lower_bound(graph)
    assert heard[: learning.every - 1] == [None] * (learning.every - 1)  # so long nothing has been counted


def test_more_episodes_find_a_better_table():
    first, last = (
        learn([HARD], Encoding.SORT, QLearning(episodes=episodes, every=2), backward=False) for episodes in (2, 300)
    )
    assert last.learned["batches"] < first.learned["batches"]


def test_learning_stops_at_the_bound():
    heard = []
    graph = side_by_side(*[chain([0, 1, 1])] * 3)
    policy = learn([graph], Encoding.SHARE, QLearning(every=2), on_episode=lambda *now: heard.append(now))
    assert heard == [(1, None), (2, lower_bound(graph))]  # nor is it learned the other way
    assert policy.learned["episodes"] == 2 and not policy.backward


def test_learning_stops_where_nothing_gets_better():
    heard = []
    graph = side_by_side(chain([0, 1]), chain([1, 0]))  # three batches, whatever one does, and the bound is two
    learning = QLearning(episodes=100, every=4, patience=9)
    learn([graph], Encoding.BASE, learning, backward=False, on_episode=lambda *now: heard.append(now))
    assert heard[-1] == (16, 3)


def test_both_ways_are_learned_and_the_better_is_kept():
    heard = []
    learning = QLearning(episodes=8, every=4)
    both = learn([HARD], Encoding.SORT, learning, seed=2, on_episode=lambda *now: heard.append(now[0]))
    ways = [learn([HARD], Encoding.SORT, learning, backward=way, seed=2) for way in (False, True)]
    assert heard == [*range(1, 9)] * 2
    assert both == min(ways, key=lambda policy: policy.learned["batches"])
    assert [way.backward for way in ways] == [False, True]


def test_several_mini_batches_may_have_types_in_any_order():
    one = Graph.of([0, 1, 2], [[], [0], [1]], names=("leaf", "inner", "head"))
    other = Graph.of([0, 1, 1], [[], [0], [1]], names=("other", "leaf"))
    policy = learn([one, other], Encoding.SHARE, QLearning(episodes=2, every=2))
    assert [key.name for key in policy.types] == ["leaf", "inner", "head", "other"]
    assert policy.learned["bound"] == lower_bound(one) + lower_bound(other) == policy.learned["batches"]
    assert policy(one).unseen == policy(other).unseen == 0


@pytest.mark.parametrize("graphs", [[], [Graph.of([], [])], [HARD, Graph.of([], [])]], ids=["none", "empty", "one"])
def test_there_must_be_something_to_learn_from(graphs):
    with pytest.raises(PolicyError, match="at least one mini-batch, and none of them empty"):
        learn(graphs)


@pytest.mark.parametrize("name", ["episodes", "horizon", "every", "patience"])
def test_numbers_below_one_are_refused(name):
    with pytest.raises(PolicyError, match=f"{name} must be at least 1, got 0"):
        QLearning(**{name: 0})


def test_what_is_learned_on_lattices_holds_on_others():
    policy = learn([lattice_graph("train", 0, 64)], Encoding.SHARE, seed=0)
    assert policy.learned["batches"] < 1.01 * policy.learned["bound"] == 1.01 * 149
    assert len(policy.states) < 40
    for held_out, bound in ((("test", 64, 128), 199), (("test", 0, 256), 219), (("dev", 0, 64), 211)):
        graph = lattice_graph(*held_out)
        schedule = make_schedule(graph, policy)
        schedule.check(graph)
        assert bound == lower_bound(graph) <= len(schedule) <= 1.06 * bound
        assert schedule.unseen < len(schedule) / 4


@every_encoding
def test_on_lattices_shares_are_learned_best(encoding):
    graph = lattice_graph("train", 0, 64)
    learning = QLearning(episodes=150)
    policy = learn([graph], encoding, learning)
    assert (
        lower_bound(graph)
        == 149
        <= len(policy(graph))
        == policy.learned["batches"]
        < len(make_schedule(graph, "agenda"))
    )
    assert learn([graph], Encoding.SHARE, learning).learned["batches"] <= policy.learned["batches"]
