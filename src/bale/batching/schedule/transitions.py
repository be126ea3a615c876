"""Transitions: from which state to which does a policy come as it runs, and how often? The edges of its machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from bale.batching.graph import Graph
from bale.batching.schedule.fsm import Policy
from bale.batching.schedule.states import NEW

# What stands for no state of the table: before the first step, after the last, and a step at which height chose.
BEGIN, END, UNSEEN = "begin", "end", "unseen"

Place = int | str
"""The number of a state of the policy, or BEGIN, END or UNSEEN."""


def transitions(policy: Policy, graphs: Iterable[Graph]) -> tuple[tuple[Place, Place, int], ...]:
    """(from, to, how often) over all steps of planning the graphs.

    BEGIN comes first, then states by their numbers, then UNSEEN. Raises PolicyError as calling the policy does.
    """
    counts: Counter[tuple[Place, Place]] = Counter()
    for graph in graphs:
        states: list[Place] = [UNSEEN if state == NEW else state for state in policy.steps(graph).tolist()]
        counts.update(pairwise([BEGIN, *states, END]))
    order: dict[Place, int] = {BEGIN: -1, UNSEEN: len(policy.states), END: len(policy.states) + 1}
    ordered = sorted(counts, key=lambda pair: [order.get(place, place) for place in pair])
    return tuple((source, target, counts[source, target]) for source, target in ordered)
