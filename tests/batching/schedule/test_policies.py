"""Every policy runs every graph, says who it is, and is asked for by name or given as a function."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from plain_policies import batches_of
from random_graphs import chain, drawn, graphs, side_by_side

from bale.batching.graph import Graph
from bale.batching.schedule import POLICIES, Schedule, lower_bound, make_schedule
from bale.batching.schedule.depth import by_depth
from bale.batching.schedule.frontier import dataflow
from bale.errors import BaleError, ScheduleError

every_policy = pytest.mark.parametrize("policy", POLICIES)


@every_policy
@drawn
@given(graphs(max_nodes=30))
def test_every_policy_runs_every_graph(policy, graph):
    schedule = make_schedule(graph, policy)
    schedule.check(graph)
    assert len(schedule) >= lower_bound(graph)
    for batch, kind in zip(schedule, schedule.batch_type, strict=True):
        assert set(graph.type[batch].tolist()) == {int(kind)}
        assert batch.tolist() == sorted(batch.tolist())
    if not schedule.policy.startswith("depth"):  # it alone may leave a ready node waiting
        assert [batch.tolist() for batch in schedule] == batches_of(graph, schedule.batch_type.tolist())


@every_policy
@drawn
@given(graphs())
def test_the_same_graph_gets_the_same_schedule(policy, graph):
    again = pickle.loads(pickle.dumps(graph))
    assert make_schedule(graph, policy) == make_schedule(again, policy)
    assert graph == again  # and planning leaves the graph as it was


@every_policy
def test_an_empty_graph_has_an_empty_schedule(policy):
    schedule = make_schedule(Graph.of([], []), policy)
    schedule.check(Graph.of([], []))
    assert len(schedule) == lower_bound(Graph.of([], [])) == 0
    assert list(schedule) == []
    assert schedule.batch_start.tolist() == [0]


@every_policy
def test_a_long_chain_takes_a_batch_per_node(policy):
    graph = side_by_side(chain([0, 1] * 5000))
    schedule = make_schedule(graph, policy)
    assert schedule.order.tolist() == list(range(10_000))


@every_policy
def test_many_types_with_few_nodes(policy):
    rng = np.random.default_rng(0)
    types = rng.permutation(np.repeat(np.arange(500), 4)).tolist()
    graph = Graph.of(types, [rng.integers(0, node, 2).tolist() if node else [] for node in range(len(types))])
    schedule = make_schedule(graph, policy)
    schedule.check(graph)
    assert len(schedule) >= lower_bound(graph)


def test_arrays_may_be_read_only():
    graph, frozen = (side_by_side(chain([0, 1]), chain([1, 0])) for _ in range(2))
    for array in (frozen.type, frozen.part_start, frozen.part_value, frozen.slot_start, frozen.value_start):
        array.flags.writeable = False
    assert dataflow(frozen).type.flags.writeable  # else numba compiles every policy anew
    assert make_schedule(frozen) == make_schedule(graph)


def test_auto_is_the_default():
    graph = side_by_side(chain([0, 1, 0]), chain([1, 1, 0]))
    assert make_schedule(graph) == make_schedule(graph, "auto")
    assert list(POLICIES) == ["depth", "agenda", "sufficient", "height", "beam", "auto"]


@pytest.mark.parametrize("policy", ["dpeth", "", None, 3, ["depth"]], ids=repr)
def test_an_unknown_policy_lists_the_known(policy):
    with pytest.raises(
        ScheduleError, match="is unknown; known are depth, agenda, sufficient, height, beam, auto"
    ) as error:
        make_schedule(chain([0]), policy)
    assert repr(policy) in str(error.value)
    assert isinstance(error.value, BaleError)


def test_the_table_of_policies_cannot_be_changed():
    with pytest.raises(TypeError):
        POLICIES["mine"] = by_depth  # type: ignore[index]


def test_a_policy_may_be_a_function():
    graph = side_by_side(chain([0, 1, 0]), chain([1, 0]))
    assert make_schedule(graph, by_depth) == make_schedule(graph, "depth")
    mine = make_schedule(graph, lambda graph: Schedule.from_sequence(graph, [0, 1] * 3, "mine"))
    assert str(mine) == "Schedule: 5 nodes in 3 batches by mine"


def test_the_schedule_of_a_function_is_checked():
    def backward(graph):
        return Schedule.from_keys(graph, (-np.arange(len(graph)), graph.type), "backward")

    with pytest.raises(ScheduleError, match=r"node 1 .* runs in batch 0, but its operand, node 0 .* in batch 1"):
        make_schedule(chain([0, 0]), backward)
    with pytest.raises(ScheduleError, match="returned list; expected a Schedule"):
        make_schedule(chain([0, 0]), lambda graph: [[0], [1]])  # type: ignore[arg-type, return-value]
