"""The frontier is what a walk over the whole graph finds ready, forward and reversed."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from plain_policies import batches_of, ready_by_type
from random_graphs import drawn, graphs

from bale.batching.graph import Graph
from bale.batching.schedule.frontier import advance, dataflow, group, open_frontier, replay, reversed_dataflow


def users_of(flow):
    return [
        sorted(flow.user_node[a:b].tolist()) for a, b in zip(flow.user_start[:-1], flow.user_start[1:], strict=True)
    ]


def reversed_graph(graph):
    """The graph of `reversed_dataflow`, built edge by edge."""
    last = len(graph) - 1
    operands = [[] for _ in range(len(graph))]
    for node in range(len(graph)):
        for operand in graph.operands(node):
            operands[last - operand].append(last - node)
    turned = Graph.of(graph.type[::-1].tolist(), operands)
    return replace(turned, types=graph.types)


@drawn
@given(st.lists(st.integers(0, 5)))
def test_group_is_a_stable_sort(labels):
    start, order = group(np.array(labels, np.int32), 6)
    assert order.tolist() == sorted(range(len(labels)), key=labels.__getitem__)
    assert np.diff(start).tolist() == [labels.count(g) for g in range(6)]


@drawn
@given(graphs())
def test_users_are_operands_turned_around(graph):
    flow = dataflow(graph)
    expected = [[] for _ in range(len(graph))]
    for node in range(len(graph)):
        for operand in graph.operands(node):
            expected[operand].append(node)
    assert users_of(flow) == expected
    assert flow.operands.tolist() == [graph.operands(node).size for node in range(len(graph))]


@drawn
@given(graphs())
def test_the_reversed_dataflow_is_that_of_the_reversed_graph(graph):
    flow, expected = reversed_dataflow(graph), dataflow(reversed_graph(graph))
    assert users_of(flow) == users_of(expected)
    assert flow.types == expected.types
    np.testing.assert_array_equal(flow.type, expected.type)
    np.testing.assert_array_equal(flow.operands, expected.operands)
    # One compiled loop must serve both directions.
    assert [a.dtype for a in flow if isinstance(a, np.ndarray)] == [np.int32] * 4


@drawn
@given(graphs(), st.data())
def test_advancing_keeps_the_frontier_that_a_walk_finds(graph, data):
    flow = dataflow(graph)
    frontier = open_frontier(flow)
    done = set()
    while True:
        ready = {
            kind: sorted(frontier.queue[frontier.low[kind] : frontier.high[kind]].tolist())
            for kind in range(len(graph.types))
            if frontier.low[kind] < frontier.high[kind]
        }
        assert ready == ready_by_type(graph, done)
        if not ready:
            break
        chosen = data.draw(st.sampled_from(sorted(ready)))
        assert sorted(advance(flow, frontier, chosen).tolist()) == ready[chosen]
        done.update(ready[chosen])
    assert len(done) == len(graph)


@drawn
@given(graphs(), st.data())
def test_replay_runs_what_is_ready_and_skips_what_is_not(graph, data):
    kinds = st.integers(0, max(len(graph.types) - 1, 0))
    sequence = data.draw(st.lists(kinds, max_size=12)) if graph.types else []
    batch_of, batch_type = replay(dataflow(graph), np.array(sequence, np.int32))
    batches = batches_of(graph, sequence)
    assert [np.flatnonzero(batch_of == batch).tolist() for batch in range(batch_type.size)] == batches
    assert batch_type.tolist() == [graph.type[batch[0]] for batch in batches]


def test_edges_lead_through_values_and_slots():
    # Node 0 writes values 0 and 1, node 1 writes value 2; node 2 reads value 1 in one slot, 2 and 0 in another.
    plain = Graph.of([0, 1, 1], [[], [], [0, 1, 0]])
    graph = replace(
        plain,
        value_start=np.array([0, 2, 3, 4], np.int32),
        slot_start=np.array([0, 0, 0, 2], np.int32),
        part_start=np.array([0, 1, 3], np.int32),
        part_value=np.array([1, 2, 0], np.int32),
    )
    assert users_of(dataflow(graph)) == [[2, 2], [2], []] == users_of(dataflow(plain))
