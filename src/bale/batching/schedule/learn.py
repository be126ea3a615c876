"""Learn: from mini-batches of a network to a policy for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bale.batching.graph import Graph
from bale.batching.schedule.encoding import Encoding
from bale.batching.schedule.fsm import Policy
from bale.batching.schedule.lessons import Lessons, Table
from bale.batching.schedule.qlearning import OnEpisode, QLearning
from bale.batching.schedule.transitions import transitions
from bale.errors import PolicyError


def learn(
    graphs: Sequence[Graph],
    encoding: Encoding = Encoding.SHARE,
    learning: QLearning | None = None,
    *,
    backward: bool | None = None,
    seed: int = 0,
    on_episode: OnEpisode = lambda episode, batches: None,
) -> Policy:
    """Learn a policy on graphs of one network, each that of a mini-batch.

    encoding  what a state of the policy is made of
    backward  plan the reversed graphs; None learns both ways and keeps the one with fewer batches

    Equal arguments give equal policies. Raises PolicyError where there is nothing to learn from.
    """
    if not graphs or not all(len(graph) for graph in graphs):
        raise PolicyError("a policy is learned on at least one mini-batch, and none of them empty")
    learning = QLearning() if learning is None else learning
    found: list[tuple[Lessons, Table]] = []
    for way in (False, True) if backward is None else (backward,):
        lessons = Lessons.of(graphs, way)
        found.append((lessons, learning.table(lessons, encoding, np.random.default_rng(seed), on_episode)))
        if found[-1][1].batches == lessons.bound:
            break
    lessons, table = min(found, key=lambda each: each[1].batches)  # the first of equals
    rows = table.states.rows()
    order = sorted(range(len(rows)), key=rows.__getitem__)  # for people who read the file
    states, choices = tuple(rows[k] for k in order), tuple(int(table.choices[k]) for k in order)
    policy = Policy(lessons.types, encoding, lessons.backward, states, choices)
    learned = {
        "mini_batches": len(graphs),
        "nodes": sum(len(graph) for graph in graphs),
        "bound": lessons.bound,
        "batches": table.batches,
        "episodes": table.episodes,
        "seed": seed,
        "transitions": transitions(policy, graphs),
    }
    return replace(policy, learned=learned)
