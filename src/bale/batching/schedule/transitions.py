"""Transitions: from which state to which does a policy come as it runs, and how often? The edges of its machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from bale.batching.graph import Graph
from bale.batching.schedule.encoding import SURE
from bale.batching.schedule.fsm import Policy
from bale.batching.schedule.states import NEW

# What stands for no state of the table: before the first step, after the last, and a step at which height chose.
BEGIN, END, UNSEEN = "begin", "end", "unseen"

Place = int | str
"""The number of a state of the policy; BEGIN, END or UNSEEN; or "sure K" where type K ran without asking the table."""


def transitions(policy: Policy, graphs: Iterable[Graph]) -> tuple[tuple[Place, Place, int], ...]:
    """(from, to, how often) over all steps of planning the graphs.

    BEGIN comes first, then states by their numbers, then the rest. Raises PolicyError as calling the policy does.
    """
    counts: Counter[tuple[Place, Place]] = Counter()
    for graph in graphs:
        kinds, states = (part.tolist() for part in policy.steps(graph))
        places = [_place(state, kind) for state, kind in zip(states, kinds, strict=True)]
        counts.update(pairwise([BEGIN, *places, END]))
    ordered = sorted(counts, key=lambda pair: [_order(place) for place in pair])
    return tuple((source, target, counts[source, target]) for source, target in ordered)


def _place(state: int, kind: int) -> Place:
    return f"sure {kind}" if state == SURE else UNSEEN if state == NEW else state


def _order(place: Place) -> tuple[int, int, str]:
    if isinstance(place, int):
        return 1, place, ""
    return (0 if place == BEGIN else 3 if place == END else 2), 0, place
