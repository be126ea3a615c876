"""A comparison counts what each policy makes of each graph."""

import math

import pytest
from random_graphs import chain, side_by_side

from bale.batching.graph import Graph
from bale.batching.schedule import POLICIES, Encoding, Policy, lower_bound, make_schedule
from bale.batching.schedule.compare import compare_policies
from bale.batching.schedule.fingerprint import type_keys
from bale.errors import PolicyError

GRAPHS = [side_by_side(chain([0, 1, 0]), chain([1, 0])), chain([0, 1, 1]), Graph.of([], [])]


def test_it_counts_batches_and_choices_left_to_height():
    empty = Policy(type_keys(GRAPHS[0].types), Encoding.SORT, False, (), ())
    heard = []
    comparison = compare_policies(GRAPHS, {**POLICIES, "empty": empty}, on_policy=heard.append)
    assert heard == list(comparison.made) == [*POLICIES, "empty"]
    assert comparison.nodes == (5, 3, 0)
    assert comparison.bound == tuple(map(lower_bound, GRAPHS))
    for name in POLICIES:
        made = comparison.made[name]
        assert made.batches == tuple(len(make_schedule(graph, name)) for graph in GRAPHS)
        assert made.unseen == 0
        assert 0 <= made.seconds < math.inf
    assert comparison.made["empty"].unseen == sum(comparison.made["empty"].batches)


def test_nothing_is_compared_on_nothing():
    comparison = compare_policies([], POLICIES)
    assert comparison.nodes == comparison.bound == ()
    assert all(made.batches == () for made in comparison.made.values())


def test_a_policy_of_another_network_is_an_error():
    with pytest.raises(PolicyError, match="another network"):
        compare_policies(GRAPHS, {"other": Policy((), Encoding.BASE, False, (), ())})
