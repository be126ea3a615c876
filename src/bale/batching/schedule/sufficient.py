"""Sufficient condition: run the type whose ready nodes cover most of its first level (ED-Batch, ICML 2023)."""

from __future__ import annotations

import numpy as np
from numba import njit

from bale.batching.graph import Graph
from bale.batching.schedule.frontier import Dataflow, advance, dataflow, open_frontier
from bale.batching.schedule.schedule import Schedule


def by_sufficient_condition(graph: Graph) -> Schedule:
    """Schedule `graph` greedily on |ready nodes of t| / |nodes of t that no node of t yet to run leads to|.

    A ratio of 1 means that running t now wastes nothing: its ready nodes are the whole first level of what remains of
    t. Ties go to the lower type. O((nodes + operands) x types), with int32 [nodes, types] in memory.
    """
    return Schedule.from_sequence(graph, _sequence(dataflow(graph)), policy="sufficient")


@njit(cache=True)
def _sequence(flow: Dataflow) -> np.ndarray:
    blocked = _blocked(flow)
    first_level = np.zeros(flow.types, np.int64)  # nodes yet to run with no ancestor of their type yet to run
    for node in range(flow.type.size):
        first_level[flow.type[node]] += blocked[node, flow.type[node]] == 0

    frontier = open_frontier(flow)
    sequence = np.empty(flow.type.size, np.int32)
    freed = np.empty(flow.type.size, np.int32)
    steps = 0
    chosen = _choose(frontier.high - frontier.low, first_level)
    while chosen >= 0:
        sequence[steps] = chosen
        steps += 1
        batch = advance(flow, frontier, chosen)
        first_level[chosen] -= batch.size
        first_level[chosen] += _unblock(flow, blocked, batch, chosen, freed)
        chosen = _choose(frontier.high - frontier.low, first_level)
    return sequence[:steps]


@njit(cache=True)
def _choose(ready: np.ndarray, first_level: np.ndarray) -> int:
    chosen = -1
    for kind in range(ready.size):
        if ready[kind] == 0:
            continue
        # Ratios are compared crosswise, in integers, so that a tie is a tie.
        if chosen < 0 or ready[kind] * first_level[chosen] > ready[chosen] * first_level[kind]:
            chosen = kind
    return chosen


@njit(cache=True)
def _blocked(flow: Dataflow) -> np.ndarray:
    """int32 [nodes, types]: through how many of a node's operands a node of the type, yet to run, leads to it."""
    blocked = np.zeros((flow.type.size, flow.types), np.int32)
    for node in range(flow.type.size):
        for edge in range(flow.user_start[node], flow.user_start[node + 1]):
            for kind in range(flow.types):
                blocked[flow.user_node[edge], kind] += kind == flow.type[node] or blocked[node, kind] > 0
    return blocked


@njit(cache=True)
def _unblock(flow: Dataflow, blocked: np.ndarray, batch: np.ndarray, kind: int, freed: np.ndarray) -> int:
    """Take the nodes of `batch`, all of type `kind`, out of what blocks others; how many join the first level.

    `freed` is working space, int32 [nodes]. An edge is counted down once per type: when its operand is freed of it.
    """
    joined = 0
    count = batch.size
    freed[:count] = batch
    while count:
        count -= 1
        node = freed[count]
        for edge in range(flow.user_start[node], flow.user_start[node + 1]):
            user = flow.user_node[edge]
            blocked[user, kind] -= 1
            if blocked[user, kind] > 0:
                continue
            if flow.type[user] == kind:
                joined += 1  # and it blocks its own users until it runs
            else:
                freed[count] = user
                count += 1
    return joined
