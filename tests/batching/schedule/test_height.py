"""Height chooses as its definition does at every step, forward and reversed, also beyond the reach of its weights."""

import numpy as np
import pytest
from hypothesis import given
from plain_policies import batches_of, height_of, height_sequence
from random_graphs import chain, drawn, graphs, side_by_side
from test_frontier import reversed_graph

from bale.batching.graph import Graph
from bale.batching.schedule.frontier import dataflow, reversed_dataflow
from bale.batching.schedule.height import REACH, Variant, by_height, height_schedules, heights

every_variant = pytest.mark.parametrize("variant", Variant, ids=str)


@drawn
@given(graphs())
def test_heights_are_the_most_nodes_of_a_type_on_the_way_to_a_sink(graph):
    expected = height_of(graph)
    height = heights(dataflow(graph))
    assert height.shape == (len(graph), len(graph.types))
    assert height.tolist() == [expected[node] for node in range(len(graph))]


@every_variant
@drawn
@given(graphs(max_nodes=24))
def test_height_chooses_by_its_share(variant, graph):
    sequence = height_sequence(graph, str(variant))
    schedule = by_height(graph, variant)
    assert schedule.batch_type.tolist() == sequence
    assert [batch.tolist() for batch in schedule] == batches_of(graph, sequence)


@every_variant
@drawn
@given(graphs(max_nodes=24))
def test_a_reversed_schedule_is_the_reversed_sequence_run_forward(variant, graph):
    sequence = height_sequence(reversed_graph(graph), str(variant))
    schedule = by_height(graph, variant, backward=True)
    schedule.check(graph)
    assert [batch.tolist() for batch in schedule] == batches_of(graph, sequence[::-1])
    assert len(schedule) <= len(sequence)  # what is ready earlier may run earlier, and leave a step without nodes


@drawn
@given(graphs())
def test_no_ready_node_is_above_the_operands_it_had(graph):
    # What lets the tops of the levels only fall.
    for flow in (dataflow(graph), reversed_dataflow(graph)):
        height = heights(flow)
        operand = np.repeat(np.arange(len(graph)), np.diff(flow.user_start))
        assert (height[flow.user_node] <= height[operand]).all()


@pytest.mark.parametrize("far", [3, REACH - 1, REACH, REACH + 1, 3 * REACH])
@pytest.mark.parametrize("nearer", [0, 1])
def test_soft_shares_compare_types_far_below_the_top(far, nearer):
    # A node of each type is ready, each before a long chain of the other type: both shares are next to nothing.
    lengths = (far, far + 5) if nearer else (far + 5, far)
    graph = side_by_side(chain([0] + [1] * lengths[0]), chain([1] + [0] * lengths[1]))
    assert by_height(graph, Variant.SOFT_SHARE).batch_type[0] == height_sequence(graph, "soft share")[0] == nearer


def test_equal_shares_go_to_the_lower_type():
    # Shares 1/3 and 2/6 on the top level of each type.
    for kinds in ([0, 1], [1, 0]):
        graph = side_by_side(*[chain(kinds)] * 2, *[chain(kinds[::-1])] * 2)
        for variant in Variant:
            assert by_height(graph, variant).batch_type.tolist() == height_sequence(graph, str(variant))
            assert by_height(graph, variant).batch_type[0] == 0


def test_sure_first_prefers_a_share_of_one_to_any_other():
    # Type 0 has 19 of the 20 nodes on its top level; type 1 has its one, and 19 others half as heavy below.
    graph = side_by_side(*[chain([0])] * 19, chain([1, 0]))
    assert by_height(graph, Variant.SOFT_SHARE).batch_type.tolist() == [0, 1, 0]
    assert by_height(graph, Variant.SURE_FIRST).batch_type.tolist() == [1, 0]


def test_schedules_say_which_variant_made_them():
    graph = Graph.of([0, 1], [[], [0]])
    names = [schedule.policy for way in (False, True) for schedule in height_schedules(graph, Variant, way)]
    assert names == [
        "height (share)",
        "height (soft share)",
        "height (sure first)",
        "height (share, reversed)",
        "height (soft share, reversed)",
        "height (sure first, reversed)",
    ]
