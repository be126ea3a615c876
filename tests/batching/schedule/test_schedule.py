"""A schedule is what its sequence or its keys say, and `check` accepts it exactly where it runs its graph."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_policies import batches_of, depth_of, is_valid
from random_graphs import chain, drawn, graphs

from bale.batching.graph import Graph
from bale.batching.schedule import Schedule
from bale.errors import ScheduleError

# Two words and their sum, twice.
GRAPH = Graph.of([0, 0, 1, 0, 0, 1], [[], [], [0, 1], [], [], [3, 4]], names=("word", "sum"))


def schedule_of(graph, batches, types=None):
    """A schedule of any batches, right or wrong."""
    types = [graph.type[batch[0]] for batch in batches] if types is None else types
    return Schedule(
        order=np.array([node for batch in batches for node in batch], np.int32),
        batch_start=np.cumsum([0] + [len(batch) for batch in batches]).astype(np.int32),
        batch_type=np.array(types, np.int32),
        policy="by hand",
    )


def batches(schedule):
    return [batch.tolist() for batch in schedule]


@drawn
@given(graphs(), st.data())
def test_check_accepts_exactly_the_valid_schedules(graph, data):
    # Valid batches of a random run, then a few nodes moved, lost or repeated; often they stay valid.
    order = data.draw(st.permutations(range(len(graph.types)))) * (len(graph) + 1)
    hands = batches_of(graph, order)
    for _ in range(data.draw(st.integers(0, 2)) if hands else 0):
        batch = data.draw(st.sampled_from(hands))
        node = batch.pop(data.draw(st.integers(0, len(batch) - 1)))
        for other in data.draw(st.lists(st.sampled_from(hands), max_size=2, unique_by=id)):
            other.append(node)
            other.sort()
        hands = [batch for batch in hands if batch]
        if not hands:
            break
    schedule = schedule_of(graph, hands)
    if is_valid(graph, hands):
        schedule.check(graph)
    else:
        with pytest.raises(ScheduleError):
            schedule.check(graph)


@pytest.mark.parametrize(
    ("hands", "types", "message"),
    [
        ([[0, 1, 3, 4], [2]], None, r"node 5 \(type 1 'sum', sample 0\) is left over: none of the 2 batches"),
        ([[0, 1, 3, 4], [2, 5], [5]], None, r"node 5 \(type 1 'sum', sample 0\) runs 2 times, in batches 1, 2"),
        ([[0, 1, 3, 4], [2, 2, 5]], None, r"node 2 \(type 1 'sum', sample 0\) runs 2 times, in batches 1, 1"),
        ([[0, 1, 3, 4], [2, 5]], [0, 0], r"node 2 \(type 1 'sum', sample 0\) runs in batch 1, .* type 0 'word'"),
        ([[0, 1, 3, 4], [2, 5]], [0, 7], r"node 2 .* runs in batch 1, which runs type 7, which the graph lacks"),
        ([[0, 1, 3, 4, 2], [5]], None, r"node 2 \(type 1 'sum', sample 0\) runs in batch 0, .* type 0 'word'"),
        (
            [[0, 1, 3], [2, 5], [4]],
            None,
            r"node 5 \(type 1 'sum', sample 0\) runs in batch 1, but its operand, node 4 \(type 0 'word', sample 0\), "
            r"runs in batch 2",
        ),
        ([[0, 3, 1, 4], [2, 5]], None, r"node 1 \(type 0 'word', sample 0\) runs after node 3 inside batch 0"),
        ([[0, 1, 3, 4], [2, 5], []], [0, 1, 1], r"batch 2 is empty"),
        ([[0, 1, 3, 4], [2, 5, 6]], None, r"batch 1 runs node 6, but the graph has 6 nodes"),
        ([[-1, 0, 1, 3, 4], [2, 5]], [0, 1], r"batch 0 runs node -1"),
    ],
)
def test_check_names_what_is_wrong(hands, types, message):
    with pytest.raises(ScheduleError, match=message):
        schedule_of(GRAPH, hands, types).check(GRAPH)


def test_check_refuses_an_operand_in_the_same_batch():
    with pytest.raises(ScheduleError, match=r"node 1 .* runs in batch 0, but its operand, node 0 .* runs in batch 0"):
        schedule_of(chain([0, 0]), [[0, 1]]).check(chain([0, 0]))


@pytest.mark.parametrize("start", [[], [0], [0, 4], [0, 4, 5], [1, 4, 6], [0, 4, 6, 6]])
def test_check_refuses_batches_that_do_not_cover_the_order(start):
    broken = replace(schedule_of(GRAPH, [[0, 1, 3, 4], [2, 5]]), batch_start=np.array(start, np.int32))
    with pytest.raises(ScheduleError, match="batch_start must lead from 0 to the 6 nodes"):
        broken.check(GRAPH)


def test_check_refuses_the_schedule_of_another_graph():
    schedule = Schedule.from_sequence(GRAPH, [0, 1], "by hand")
    with pytest.raises(ScheduleError, match="left over"):
        schedule.check(Graph.of([0, 0, 1, 0, 0, 1, 1], [[], [], [0, 1], [], [], [3, 4], []]))
    with pytest.raises(ScheduleError, match="the graph has 2 nodes"):
        schedule.check(chain([0, 1]))


@drawn
@given(graphs(), st.data())
def test_a_sequence_runs_all_ready_nodes_of_each_type(graph, data):
    order = data.draw(st.permutations(range(len(graph.types)))) * (len(graph) + 1)
    schedule = Schedule.from_sequence(graph, order, "by hand")
    schedule.check(graph)
    assert batches(schedule) == batches_of(graph, order)


def test_a_sequence_that_leaves_nodes_over_says_which():
    with pytest.raises(ScheduleError, match=r"by hand: 4 of 6 nodes .* 2 steps .*: 3 of type 0 'b', 1 of type 1 'a'"):
        Schedule.from_sequence(
            Graph.of([0, 1, 0, 1, 0, 0], [[], [0], [1], [2], [3], [4]], ("b", "a")), [0, 1], "by hand"
        )


@pytest.mark.parametrize("kind", [-1, 2])
def test_a_sequence_of_types_that_the_graph_lacks_is_refused(kind):
    with pytest.raises(ScheduleError, match=f"step 1 of the sequence runs type {kind}, but the graph has types 0 to 1"):
        Schedule.from_sequence(GRAPH, [0, kind, 1], "by hand")


@drawn
@given(graphs())
def test_keys_run_equal_nodes_together_smallest_first(graph):
    depth = np.array(depth_of(graph), np.int64)
    schedule = Schedule.from_keys(graph, (depth, graph.type), "by keys")
    schedule.check(graph)
    keys = list(zip(depth.tolist(), graph.type.tolist(), strict=True))
    assert batches(schedule) == [[n for n in range(len(graph)) if keys[n] == key] for key in sorted(set(keys))]


def test_keys_that_mix_types_do_not_pass_the_check():
    with pytest.raises(ScheduleError, match=r"node 1 .* runs in batch 0"):
        Schedule.from_keys(Graph.of([0, 1], [[], []]), (np.zeros(2),), "by keys").check(Graph.of([0, 1], [[], []]))


@drawn
@given(graphs())
def test_a_schedule_is_plain_data(graph):
    schedule = Schedule.from_keys(graph, (np.array(depth_of(graph), np.int32), graph.type), "by keys")
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert pickle.loads(pickle.dumps(graph)) == graph
    pickle.loads(pickle.dumps(schedule)).check(pickle.loads(pickle.dumps(graph)))
    assert replace(schedule, policy="another") != schedule
    assert schedule != "a schedule"
    assert [array.dtype for array in (schedule.order, schedule.batch_start, schedule.batch_type)] == [np.int32] * 3
    assert str(schedule) == f"Schedule: {len(graph)} nodes in {len(schedule)} batches by by keys"


def test_schedules_differ_where_any_array_does():
    schedule = Schedule.from_sequence(GRAPH, [0, 1], "by hand")
    assert schedule == Schedule.from_sequence(GRAPH, [1, 0, 0, 1, 1], "by hand")
    assert schedule != schedule_of(GRAPH, [[0, 1], [3, 4], [2, 5]])
    with pytest.raises(TypeError, match="unhashable"):
        hash(schedule)
