"""Follow: how does a table of states schedule a graph? By looking each state of the frontier up."""

from __future__ import annotations

import numpy as np
from numba import njit

from bale.batching.schedule.encoding import SURE, Encoding, encode, sure
from bale.batching.schedule.frontier import Dataflow, advance, open_frontier
from bale.batching.schedule.height import (
    Variant,
    choose_by_height,
    enter_levels,
    heights,
    leave_levels,
    no_levels,
    open_levels,
)
from bale.batching.schedule.states import NEW, States, find


@njit(cache=True)
def follow(
    flow: Dataflow, height: np.ndarray, encoding: int, states: States, choices: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Run the type that the table names, until nothing is ready.

    height   int32 [nodes, types] of the graph; may be empty, and is then computed when it is first asked for
    choices  int32 [states]: the type to run in each

    Returns the types that ran, int32 [batches], and the numbers of the states in which they did, int32 [batches]: SURE
    where the table was not asked, NEW where height (its variant "sure first") chose, since the table does not have the
    state, or names a type of which no node is ready.
    """
    frontier = open_frontier(flow)
    uses_levels = encoding == Encoding.SHARE
    if uses_levels and height.size == 0:
        height = heights(flow)
    levels = open_levels(flow, frontier, height) if uses_levels else no_levels(flow)
    state = np.empty(flow.types + 1, np.int32)
    sequence = np.empty(flow.type.size, np.int32)
    visited = np.empty(flow.type.size, np.int32)
    steps = 0
    size = encode(encoding, frontier, levels, state)
    while size > 0:
        number, chosen = SURE, sure(encoding, frontier, levels)
        if chosen < 0:
            number = find(states, state, size)
            chosen = -1 if number == NEW else choices[number]
        if chosen < 0 or frontier.low[chosen] == frontier.high[chosen]:
            number = NEW
            if not uses_levels:  # from here on they are kept up to date
                uses_levels = True
                if height.size == 0:
                    height = heights(flow)
                levels = open_levels(flow, frontier, height)
            chosen = choose_by_height(frontier, levels, Variant.SURE_FIRST)
        sequence[steps], visited[steps] = chosen, number
        steps += 1
        batch = advance(flow, frontier, chosen)
        if uses_levels:
            leave_levels(levels, height, batch, chosen)
            enter_levels(levels, height, frontier)
        size = encode(encoding, frontier, levels, state)
    return sequence[:steps], visited[:steps]
