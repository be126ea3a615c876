"""A state is what its encoding says of the frontier, at every step of any run, and shares ask only where in doubt."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_policies import height_of, ready_by_type, soft_share_of, state_of, sure_of
from random_graphs import chain, drawn, graphs, side_by_side

from bale.batching.schedule import Encoding
from bale.batching.schedule.encoding import codes, describe, encode, sure
from bale.batching.schedule.frontier import advance, dataflow, open_frontier
from bale.batching.schedule.height import enter_levels, heights, leave_levels, no_levels, open_levels

every_encoding = pytest.mark.parametrize("encoding", Encoding, ids=str)


def encoded(encoding, frontier, levels):
    """The state as `encode` writes it, into no more room than it asks for."""
    state = np.empty(frontier.low.size + 1, np.int32)
    size = encode(int(encoding), frontier, levels, state)
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
        surely = sure_of(str(encoding), ready, plain_height)
        assert sure(int(encoding), frontier, levels) == (-1 if surely is None else surely)
        if encoding != Encoding.SHARE:
            assert encoded(encoding, frontier, no_levels(flow)) == expected
            assert surely is None
        chosen = data.draw(st.sampled_from(sorted(ready)))
        leave_levels(levels, height, advance(flow, frontier, chosen), chosen)
        enter_levels(levels, height, frontier)
        done.update(ready[chosen])
    assert encoded(encoding, frontier, levels) == ()


# So many ready nodes of type 0, the highest in it, and of type 1 before one of type 0: is the share of type 0 a half?
@pytest.mark.parametrize(("own", "others", "half"), [(1, 1, 1), (1, 2, 0), (49, 51, 0), (51, 49, 1), (9, 1, 1)])
def test_a_share_is_below_a_half_or_not(own, others, half):
    graph = side_by_side(*[chain([0])] * own, *[chain([1, 0])] * others)
    # Type 1 is one node higher in itself than those of type 0, which weigh half of what it does.
    assert sorted(first_state(Encoding.SHARE, graph)) == [0 + half, 2 + (others >= own / 2)]


def test_of_many_types_the_two_of_highest_share_are_seen_the_higher_first():
    # Every type is in doubt: for each a node of it is ready, and so many of the next type with a node of it to come.
    graph = side_by_side(
        *(chain(kinds) for kind in range(4) for kinds in [[kind]] + [[(kind + 1) % 4, kind]] * (1 + kind))
    )
    flow = dataflow(graph)
    frontier = open_frontier(flow)
    assert sure(int(Encoding.SHARE), frontier, open_levels(flow, frontier, heights(flow))) < 0
    ready = ready_by_type(graph, set())
    shares = {kind: soft_share_of(kind, ready, height_of(graph)) for kind in ready}
    assert len(set(shares.values())) == 4
    assert [code // 2 for code in first_state(Encoding.SHARE, graph)] == sorted(shares, key=shares.get)[:1:-1]


def test_states_of_shares_do_not_depend_on_how_many_samples_there_are():
    sample = side_by_side(chain([0, 1, 0]), chain([1, 0]), chain([0, 0, 1]))
    assert first_state(Encoding.SHARE, sample) == first_state(Encoding.SHARE, side_by_side(*[sample] * 30))


@pytest.mark.parametrize(
    ("encoding", "state", "parts"),
    [
        (Encoding.BASE, (0, 2), ["leaf", "head"]),
        (Encoding.MAX, (0, 2, 2), ["leaf", "head", "most: head"]),
        (Encoding.SORT, (2, 0), ["head", "leaf"]),
        (Encoding.SHARE, (5, 2), ["head >= 1/2", "inner < 1/2"]),
    ],
    ids=["base", "max", "sort", "share"],
)
def test_a_state_reads_as_what_it_is(encoding, state, parts):
    assert describe(encoding, state, ["leaf", "inner", "head"]) == parts
    assert max(state) < codes(encoding, 3)
