"""Depth, agenda and sufficient condition choose as their definitions do, at every step."""

from hypothesis import given
from plain_policies import agenda_sequence, batches_of, depth_of, sufficient_sequence
from random_graphs import chain, drawn, graphs, side_by_side

from bale.batching.graph import Graph
from bale.batching.schedule.agenda import by_agenda
from bale.batching.schedule.depth import by_depth
from bale.batching.schedule.frontier import dataflow, depths
from bale.batching.schedule.sufficient import by_sufficient_condition


def batches(schedule):
    return [batch.tolist() for batch in schedule]


@drawn
@given(graphs())
def test_a_batch_holds_one_depth_and_one_type(graph):
    longest = depth_of(graph)
    assert depths(dataflow(graph)).tolist() == longest
    schedule = by_depth(graph)
    held = [{(longest[node], int(graph.type[node])) for node in batch} for batch in schedule]
    assert all(len(keys) == 1 for keys in held)
    assert len(schedule) == len(set.union(set(), *held))  # and all nodes of that depth and type


@drawn
@given(graphs())
def test_agenda_takes_the_least_average_depth(graph):
    sequence = agenda_sequence(graph)
    schedule = by_agenda(graph)
    assert schedule.batch_type.tolist() == sequence
    assert batches(schedule) == batches_of(graph, sequence)


@drawn
@given(graphs(max_nodes=24))
def test_sufficient_condition_takes_the_highest_ratio(graph):
    sequence = sufficient_sequence(graph)
    schedule = by_sufficient_condition(graph)
    assert schedule.batch_type.tolist() == sequence
    assert batches(schedule) == batches_of(graph, sequence)


def test_agenda_counts_only_the_nodes_yet_to_run():
    # After two steps the averages are 2 for type 0 and 3/2 for type 1; over all nodes both are 1, and 0 would run.
    graph = side_by_side(chain([0, 1, 0]), chain([1, 1, 1]))
    assert by_agenda(graph).batch_type.tolist() == agenda_sequence(graph) == [0, 1, 1, 0, 1]


def test_agenda_breaks_ties_to_the_lower_type():
    # Averages 2/3 and 4/6: the same, though floats of other sums might not think so.
    graph = Graph.of([1, 1, 1, 0, 0, 0, 0, 0, 0], [[], [0], [0], [], [], [3], [3], [4], [4]])
    assert by_agenda(graph).batch_type.tolist()[0] == 0


def test_sufficient_condition_waits_for_the_first_level_to_be_whole():
    # Of type 0 one node is ready now and two come after one of type 1: waiting saves a batch, which depth does not see.
    graph = Graph.of([0, 1, 0, 0], [[], [], [1], [1]])
    assert by_sufficient_condition(graph).batch_type.tolist() == [1, 0]
    assert len(by_depth(graph)) == 3
