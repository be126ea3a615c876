"""The lower bound is the longest typed chains, by walking every path, and no order of batches beats it."""

import numpy as np
from hypothesis import given
from plain_policies import fewest_batches, longest_chain
from random_graphs import chain, drawn, graphs, side_by_side

from bale.batching.graph import Graph
from bale.batching.schedule import POLICIES, lower_bound, lower_bound_by_type, make_schedule


@drawn
@given(graphs(max_nodes=10))
def test_the_bound_is_the_longest_chain_of_each_type(graph):
    by_type = lower_bound_by_type(graph)
    assert by_type.tolist() == [longest_chain(graph, kind) for kind in range(len(graph.types))]
    assert by_type.dtype == np.int32
    assert lower_bound(graph) == by_type.sum()


@drawn
@given(graphs(max_nodes=10, max_types=3))
def test_no_policy_beats_the_optimum_nor_the_optimum_the_bound(graph):
    optimum = fewest_batches(graph)
    assert lower_bound(graph) <= optimum
    assert all(len(make_schedule(graph, policy)) >= optimum for policy in POLICIES)


def test_the_bound_need_not_be_reached():
    # One node of each type on any path, yet 0 before 1 and 1 before 0 cannot both be had in two batches.
    graph = side_by_side(chain([0, 1]), chain([1, 0]))
    assert (lower_bound(graph), fewest_batches(graph), len(make_schedule(graph))) == (2, 3, 3)


def test_a_type_without_nodes_needs_no_batch():
    assert lower_bound_by_type(Graph.of([2, 2], [[], [0]])).tolist() == [0, 0, 2]
