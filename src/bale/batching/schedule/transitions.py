"""Transitions: from which state to which does a policy come as it runs, and how often? The edges of its machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from bale.batching.graph import Graph
from bale.batching.schedule.encoding import SURE
from bale.batching.schedule.fsm import Policy
from bale.batching.schedule.states import NEW
from bale.errors import PolicyError

# What stands for no state of the table: before the first step, after the last, and a step at which height chose.
BEGIN, END, UNSEEN = "begin", "end", "unseen"

Place = int | str
"""The number of a state of the policy; BEGIN, END or UNSEEN; or "sure K" where type K ran without asking the table."""


Transitions = tuple[tuple[Place, Place, int], ...]
"""(from, to, how often)."""


def transitions(policy: Policy, graphs: Iterable[Graph]) -> Transitions:
    """The transitions over all steps of planning the graphs.

    BEGIN comes first, then states by their numbers, then the rest. Raises PolicyError as calling the policy does.
    """
    counts: Counter[tuple[Place, Place]] = Counter()
    for graph in graphs:
        kinds, states = (part.tolist() for part in policy.steps(graph))
        places = [_place(state, kind) for state, kind in zip(states, kinds, strict=True)]
        counts.update(pairwise([BEGIN, *places, END]))
    ordered = sorted(counts, key=lambda pair: [_order(place) for place in pair])
    return tuple((source, target, counts[source, target]) for source, target in ordered)


def learned_transitions(policy: Policy) -> Transitions:
    """Those of the last run of learning, which the policy's `learned` keeps; none where it does not.

    Raises PolicyError where they are no transitions of this policy.
    """
    kept = policy.learned.get("transitions", ())
    places = {BEGIN, END, UNSEEN, *(f"sure {kind}" for kind in range(len(policy.types))), *range(len(policy.states))}
    for k, row in enumerate(kept):
        if len(row) != 3 or not places.issuperset(row[:2]) or type(row[2]) is not int or row[2] < 1:
            raise PolicyError(f"learned.transitions[{k}] is {row}; expected two places of this policy and how often")
    return tuple((source, target, count) for source, target, count in kept)


def _place(state: int, kind: int) -> Place:
    return f"sure {kind}" if state == SURE else UNSEEN if state == NEW else state


def _order(place: Place) -> tuple[int, int, str]:
    if isinstance(place, int):
        return 1, place, ""
    return (0 if place == BEGIN else 3 if place == END else 2), 0, place
