"""Sufficient condition: run the type whose ready nodes cover most of its first level (ED-Batch, ICML 2023)."""

from __future__ import annotations

from typing import NamedTuple

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
    return Schedule.from_sequence(graph, sufficient_sequence(dataflow(graph)), policy="sufficient")


class FirstLevels(NamedTuple):
    """How much of each type could run if only nodes of the type itself were waited for; `run_first` changes it.

    blocked  int32 [nodes, types]  through how many of a node's operands a node of the type, yet to run, leads to it
    size     int64 [types]         nodes yet to run that no node of their own type, yet to run, leads to
    """

    blocked: np.ndarray
    size: np.ndarray

    def copy(self) -> FirstLevels:
        """What another run over the same graph begins with."""
        return FirstLevels(self.blocked.copy(), self.size.copy())


@njit(cache=True)
def sufficient_sequence(flow: Dataflow) -> np.ndarray:
    """The types that the sufficient condition runs, one after another."""
    first = open_first_levels(flow)
    frontier = open_frontier(flow)
    sequence = np.empty(flow.type.size, np.int32)
    freed = np.empty(flow.type.size, np.int32)
    steps = 0
    chosen = _choose(frontier.high - frontier.low, first.size)
    while chosen >= 0:
        sequence[steps] = chosen
        steps += 1
        run_first(flow, first, advance(flow, frontier, chosen), chosen, freed)
        chosen = _choose(frontier.high - frontier.low, first.size)
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
def open_first_levels(flow: Dataflow) -> FirstLevels:
    """The first levels before anything has run."""
    blocked = np.zeros((flow.type.size, flow.types), np.int32)
    for node in range(flow.type.size):
        for edge in range(flow.user_start[node], flow.user_start[node + 1]):
            for kind in range(flow.types):
                blocked[flow.user_node[edge], kind] += kind == flow.type[node] or blocked[node, kind] > 0
    size = np.zeros(flow.types, np.int64)
    for node in range(flow.type.size):
        size[flow.type[node]] += blocked[node, flow.type[node]] == 0
    return FirstLevels(blocked, size)


@njit(cache=True)
def run_first(flow: Dataflow, first: FirstLevels, batch: np.ndarray, kind: int, freed: np.ndarray) -> None:
    """Take the nodes of `batch`, all of type `kind`, out of the first level, and let in those that they blocked.

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
            first.blocked[user, kind] -= 1
            if first.blocked[user, kind] > 0:
                continue
            if flow.type[user] == kind:
                joined += 1  # and it blocks its own users until it runs
            else:
                freed[count] = user
                count += 1
    first.size[kind] += joined - batch.size
