"""Agenda batching: run the ready type whose remaining nodes lie least deep (DyNet; Neubig et al., NeurIPS 2017)."""

from __future__ import annotations

import numpy as np
from numba import njit

from bale.batching.graph import Graph
from bale.batching.schedule.frontier import Dataflow, advance, dataflow, depths, open_frontier
from bale.batching.schedule.schedule import Schedule


def by_agenda(graph: Graph) -> Schedule:
    """Schedule `graph` by agenda: of the ready types, the one with the least average depth of its nodes yet to run.

    Ties go to the lower type. O(nodes + operands + batches x types).
    """
    return Schedule.from_sequence(graph, agenda_sequence(dataflow(graph)), policy="agenda")


@njit(cache=True)
def agenda_sequence(flow: Dataflow) -> np.ndarray:
    """The types that agenda runs, one after another."""
    depth = depths(flow)
    remaining = np.zeros(flow.types, np.int64)
    depth_sum = np.zeros(flow.types, np.int64)
    for node in range(depth.size):
        remaining[flow.type[node]] += 1
        depth_sum[flow.type[node]] += depth[node]

    frontier = open_frontier(flow)
    sequence = np.empty(depth.size, np.int32)
    steps = 0
    chosen = _choose(frontier.high - frontier.low, remaining, depth_sum)
    while chosen >= 0:
        sequence[steps] = chosen
        steps += 1
        for node in advance(flow, frontier, chosen):
            remaining[chosen] -= 1
            depth_sum[chosen] -= depth[node]
        chosen = _choose(frontier.high - frontier.low, remaining, depth_sum)
    return sequence[:steps]


@njit(cache=True)
def _choose(ready: np.ndarray, remaining: np.ndarray, depth_sum: np.ndarray) -> int:
    chosen = -1
    for kind in range(ready.size):
        if ready[kind] == 0:
            continue
        # Averages are compared crosswise, in integers, so that a tie is a tie.
        if chosen < 0 or depth_sum[kind] * remaining[chosen] < depth_sum[chosen] * remaining[kind]:
            chosen = kind
    return chosen
