"""A state is what its encoding says of the frontier, at every step of any run, and reads as that."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_policies import height_of, ready_by_type, state_of
from random_graphs import chain, drawn, graphs, side_by_side

from bale.batching.graph import Graph
from bale.batching.schedule import Encoding
from bale.batching.schedule.encoding import SHARES, describe, encode
from bale.batching.schedule.frontier import advance, dataflow, open_frontier
from bale.batching.schedule.height import enter_levels, heights, leave_levels, no_levels, open_levels

every_encoding = pytest.mark.parametrize("encoding", Encoding, ids=str)


def encoded(encoding, frontier, levels):
    """The state as `encode` writes it, into no more room than it asks for."""
    state = np.full(frontier.low.size + 1, -9, np.int32)
    size = encode(int(encoding), frontier, levels, state)
    assert (state[size:] == -9).all()
    return tuple(state[:size].tolist())


def first_state(encoding, graph):
    flow = dataflow(graph)
    frontier = open_frontier(flow)
    return encoded(encoding, frontier, open_levels(flow, frontier, heights(flow)))


@every_encoding
@drawn
@given(graphs(max_nodes=24), st.data())
def test_a_state_is_what_its_encoding_says(encoding, graph, data):
    flow = dataflow(graph)
    height, plain_height = heights(flow), height_of(graph)
    frontier = open_frontier(flow)
    levels = open_levels(flow, frontier, height)
    done = set()
    while ready := ready_by_type(graph, done):
        expected = state_of(str(encoding), ready, plain_height)
        assert encoded(encoding, frontier, levels) == expected
        # levels that are opened in the middle of a run are those that were kept from its beginning
        assert encoded(encoding, frontier, open_levels(flow, frontier, height)) == expected
        if encoding != Encoding.SHARE:
            assert encoded(encoding, frontier, no_levels(flow)) == expected
        chosen = data.draw(st.sampled_from(sorted(ready)))
        leave_levels(levels, height, advance(flow, frontier, chosen), chosen)
        enter_levels(levels, height, frontier)
        done.update(ready[chosen])
    assert encoded(encoding, frontier, levels) == ()


# So many ready nodes of type 0 and of type 1 have the greatest height in type 0; the part of `SHARES` that it is in.
@pytest.mark.parametrize(
    ("own", "others", "level"),
    [(1, 4, 0), (1, 3, 1), (49, 51, 1), (1, 1, 2), (74, 26, 2), (3, 1, 3), (89, 11, 3), (9, 1, 4), (999, 1, 4)],
)
def test_a_share_begins_where_its_part_does(own, others, level):
    graph = side_by_side(*[chain([0])] * own, *[chain([1, 0])] * others)
    assert first_state(Encoding.SHARE, graph) == (level, len(SHARES) + SHARES.index(1))


def test_a_share_is_one_only_where_it_is_whole():
    assert first_state(Encoding.SHARE, Graph.of([0], [[]])) == (SHARES.index(1),)


def test_a_type_of_which_no_ready_node_is_highest_has_the_least_share():
    graph = side_by_side(chain([0]), chain([1, 0, 0]))
    assert first_state(Encoding.SHARE, graph) == (0, len(SHARES) + SHARES.index(1))


def test_states_of_the_share_do_not_depend_on_how_many_samples_there_are():
    sample = side_by_side(chain([0, 1, 0]), chain([1, 0]), chain([0, 0, 1]))
    assert first_state(Encoding.SHARE, sample) == first_state(Encoding.SHARE, side_by_side(*[sample] * 30))


@pytest.mark.parametrize(
    ("encoding", "state", "parts"),
    [
        (Encoding.BASE, (0, 2), ["leaf", "head"]),
        (Encoding.MAX, (0, 2, 2), ["leaf", "head", "most: head"]),
        (Encoding.SORT, (2, 0), ["head", "leaf"]),
        (Encoding.SHARE, (0, 9, 17), ["leaf 0 to 0.25", "inner 0.75 to 0.9", "head = 1"]),
    ],
    ids=["base", "max", "sort", "share"],
)
def test_a_state_reads_as_what_it_is(encoding, state, parts):
    assert describe(encoding, state, ["leaf", "inner", "head"]) == parts
