"""Arranging changes when nodes run and where they lie, never what is computed: counted against plain Python."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.batching.gathering import GATHERS, gathering_graphs

from bale.batching.fold import fold
from bale.batching.graph import Graph
from bale.batching.memory.arrange import NEAR, arrange, as_late_as_possible, pieces
from bale.batching.schedule import POLICIES, Schedule, make_schedule

policies = st.sampled_from(sorted(POLICIES))
few = settings(max_examples=40)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Graphs of one slot per node, and folded graphs of several slots."""
    if draw(st.booleans()):
        return fold(draw(gathering_graphs()), GATHERS, np.zeros(0, np.int64)).graph
    types = draw(st.lists(st.integers(0, 3), max_size=16))
    operands = [draw(st.lists(st.integers(0, node - 1), max_size=3)) if node else [] for node in range(len(types))]
    return Graph.of(types, operands)


def in_trace_order(schedule: Schedule) -> Schedule:
    """The same batches with their nodes sorted: what Schedule.check asks for, and arranging gives up."""
    order = np.concatenate([np.zeros(0, np.int32), *(np.sort(batch) for batch in schedule)]).astype(np.int32)
    return Schedule(order, schedule.batch_start, schedule.batch_type, schedule.policy)


def batch_of(schedule: Schedule) -> dict[int, int]:
    return {int(node): number for number, batch in enumerate(schedule) for node in batch}


def readers(graph: Graph) -> dict[int, set[int]]:
    found: dict[int, set[int]] = defaultdict(set)
    for node in range(len(graph)):
        for source in graph.operands(node):
            found[int(source)].add(node)
    return found


def pieces_by_hand(graph: Graph, schedule: Schedule) -> int:
    """Walk the operands of every batch slot by slot; a row that is not just behind the one before begins a piece."""
    place = {int(node): k for k, node in enumerate(schedule.order)}
    count = 0
    for batch in schedule:
        slots = [[values for values, _ in graph.slots(int(node))] for node in batch]
        for of_one_slot in zip(*slots, strict=True):
            rows = [place[int(graph.value_node[value])] for values in of_one_slot for value in values]
            steps = [b - a for a, b in pairwise(rows)]
            count += sum(not 1 <= step <= NEAR for step in steps) + bool(rows)
    return count


@few
@given(graph=graphs(), policy=policies)
def test_an_arranged_schedule_runs_the_graph_in_no_more_batches(graph: Graph, policy: str) -> None:
    schedule = make_schedule(graph, policy)
    arranged = arrange(graph, schedule)
    in_trace_order(arranged).check(graph)
    assert len(arranged) <= len(schedule)
    assert arranged.policy == schedule.policy
    assert arranged == arrange(graph, schedule)


@few
@given(graph=graphs(), policy=policies)
def test_late_nodes_run_in_the_last_batch_of_their_type_before_their_readers(graph: Graph, policy: str) -> None:
    schedule = make_schedule(graph, policy)
    late = as_late_as_possible(graph, schedule)
    in_trace_order(late).check(graph)
    assert len(late) <= len(schedule)
    number, read_by = batch_of(late), readers(graph)
    for node in range(len(graph)):
        limit = min((number[reader] for reader in read_by[node]), default=None)
        if limit is not None:
            possible = [b for b in range(limit) if late.batch_type[b] == graph.type[node]]
            assert number[node] == possible[-1]


@few
@given(graph=graphs(), policy=policies)
def test_pieces_are_counted_as_by_hand_and_the_better_order_is_kept(graph: Graph, policy: str) -> None:
    schedule = make_schedule(graph, policy)
    late = as_late_as_possible(graph, schedule)
    for one in (schedule, late):
        assert pieces(graph, one) == pieces_by_hand(graph, one)
    arranged = arrange(graph, schedule)
    assert pieces(graph, arranged) == pieces_by_hand(graph, arranged)
    if batch_of(arranged) != batch_of(late):  # then the early variant was kept, for it is read in fewer pieces
        assert batch_of(arranged) == batch_of(schedule)


@few
@given(graph=graphs(), policy=policies)
def test_a_batchs_nodes_lie_in_the_order_of_their_first_readers(graph: Graph, policy: str) -> None:
    arranged = arrange(graph, make_schedule(graph, policy))
    first: dict[int, tuple[int, int]] = {}  # node -> (place of its first reader, slot)
    for place, reader in enumerate(arranged.order.tolist()):
        for slot, (values, _) in enumerate(graph.slots(reader)):
            for value in values:
                first.setdefault(int(graph.value_node[value]), (place, slot))
    for batch in arranged:
        # places grow with the batches, so the key of a reader in an earlier batch is the smaller one
        keys = [first.get(int(node), (len(graph), int(node))) for node in batch]
        assert keys == sorted(keys)


@st.composite
def forests(draw: st.DrawFn) -> tuple[Graph, list[int]]:
    """Binary trees side by side, leaves of one type, inner nodes of another; and the parent of every node, or -1."""
    types: list[int] = []
    operands: list[list[int]] = []
    parent: list[int] = []
    for _ in range(draw(st.integers(1, 3))):
        roots: list[int] = []
        for _ in range(draw(st.integers(1, 7))):
            roots.append(len(types))
            types.append(0)
            operands.append([])
            parent.append(-1)
        while len(roots) > 1:
            at = draw(st.integers(0, len(roots) - 2))
            parent[roots[at]] = parent[roots[at + 1]] = len(types)
            operands.append(roots[at : at + 2])
            roots[at : at + 2] = [len(types)]
            types.append(1)
            parent.append(-1)
    return Graph.of(types, operands), parent


@few
@given(forest=forests(), policy=policies)
def test_inner_nodes_of_trees_lie_in_levels_from_the_last_batch_that_reads_them(
    forest: tuple[Graph, list[int]], policy: str
) -> None:
    """With one inner type, a node runs just one batch of inner nodes before its parent: levels from the root."""
    graph, parent = forest
    late = as_late_as_possible(graph, make_schedule(graph, policy))
    number = batch_of(late)
    inner = [b for b in range(len(late)) if late.batch_type[b] == 1]
    level = {b: k for k, b in enumerate(inner)}
    for node in range(len(graph)):
        if parent[node] >= 0 and graph.type[node] == 1:
            assert level[number[parent[node]]] - level[number[node]] == 1


def test_siblings_of_a_full_tree_lie_side_by_side() -> None:
    """A level is read from first to last without a jump, and the next lies just behind it: one piece a batch."""
    graph = Graph.of([0, 0, 1, 0, 0, 1, 1], [[], [], [0, 1], [], [], [3, 4], [2, 5]])
    arranged = arrange(graph, make_schedule(graph, "depth"))
    assert [batch.tolist() for batch in arranged] == [[0, 1, 3, 4], [2, 5], [6]]
    assert pieces(graph, arranged) == 2


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_an_empty_graph_stays_empty(policy: str) -> None:
    graph = Graph.of([], [])
    assert len(arrange(graph, make_schedule(graph, policy))) == 0
