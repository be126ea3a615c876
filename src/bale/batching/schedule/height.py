"""Height: run the type whose longest remaining chains most surely get shorter. Needs no learning.

For a node v and a type t, the height h_t(v) is the most nodes of type t on any path from v to a sink, v included. The
bound on what remains is the sum over t of the greatest height among the ready nodes, top_t. Running t lowers it by one
where every ready node as high as top_t is itself of type t; the variants differ in how they weigh what falls short.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numba import njit

from bale.batching.graph import Graph
from bale.batching.schedule.frontier import Dataflow, Frontier, advance, dataflow, open_frontier, reversed_dataflow
from bale.batching.schedule.schedule import Schedule

# Levels below the top that a soft share looks at. The next would weigh 2^-80: with a million nodes, still below the
# rounding of a float64 sum.
REACH = 80


class Variant(IntEnum):
    """What the chosen type has most of, over the ready nodes; ties go to the lower type."""

    SHARE = 0  # its share of the nodes with h_t = top_t
    SOFT_SHARE = 1  # its share of all nodes, each weighted 2^-(top_t - h_t)
    SURE_FIRST = 2  # a share of 1 before all others, then the soft share

    def __str__(self) -> str:
        return self.name.lower().replace("_", " ")


def by_height(graph: Graph, variant: Variant = Variant.SHARE, backward: bool = False) -> Schedule:
    """Schedule `graph` by one variant of height; `backward` plans the reversed graph and turns the sequence around.

    O((nodes + operands) x types), with int32 [nodes, types] in memory. The portfolio tries all and keeps the shortest.
    """
    return next(height_schedules(graph, (variant,), backward))


def height_schedules(
    graph: Graph, variants: Iterable[Variant], backward: bool, height: np.ndarray | None = None
) -> Iterator[Schedule]:
    """The schedules of several variants, made as they are asked for; heights are computed once, if at all."""
    flow = reversed_dataflow(graph) if backward else dataflow(graph)
    height = heights(flow) if height is None else height
    for variant in variants:
        sequence = _sequence(flow, height, int(variant))
        policy = f"height ({variant}{', reversed' if backward else ''})"
        yield Schedule.from_sequence(graph, sequence[::-1] if backward else sequence, policy)


@njit(cache=True)
def heights(flow: Dataflow) -> np.ndarray:
    """int32 [nodes, types]: the most nodes of each type on any path from each node to a sink, itself included."""
    height = np.zeros((flow.type.size, flow.types), np.int32)
    for node in range(flow.type.size - 1, -1, -1):
        for edge in range(flow.user_start[node], flow.user_start[node + 1]):
            for kind in range(flow.types):
                height[node, kind] = max(height[node, kind], height[flow.user_node[edge], kind])
        height[node, flow.type[node]] += 1
    return height


class Levels(NamedTuple):
    """How many ready nodes have each height: what a step needs to know of the frontier, without walking over it.

    start    int32 [types + 1]  type -> its levels, heights 0 to the greatest of any node
    own      int32 [levels]     ready nodes of the type itself with that height
    others   int32 [levels]     ready nodes of other types with that height
    top      int64 [types]      the level of the highest ready node: it only falls, since no user is above its operands
    own_top  int32 [types]      a level that no ready node of the type itself is above, the highest's if there is one
    entered  int32 [types]      how far the frontier's queue has been counted
    """

    start: np.ndarray
    own: np.ndarray
    others: np.ndarray
    top: np.ndarray
    own_top: np.ndarray
    entered: np.ndarray


@njit(cache=True)
def _sequence(flow: Dataflow, height: np.ndarray, variant: int) -> np.ndarray:
    frontier = open_frontier(flow)
    levels = open_levels(flow, frontier, height)
    sequence = np.empty(flow.type.size, np.int32)
    steps = 0
    chosen = choose_by_height(frontier, levels, variant)
    while chosen >= 0:
        sequence[steps] = chosen
        steps += 1
        batch = advance(flow, frontier, chosen)
        leave_levels(levels, height, batch, chosen)
        enter_levels(levels, height, frontier)
        chosen = choose_by_height(frontier, levels, variant)
    return sequence[:steps]


@njit(cache=True)
def choose_by_height(frontier: Frontier, levels: Levels, variant: int) -> int:
    """The ready type that `variant` of height runs next; -1 where nothing is ready."""
    ready = frontier.high - frontier.low  # [types]
    ready_in_all = ready.sum()
    best, chosen = -1.0, -1
    for kind in range(ready.size):
        if ready[kind] == 0:
            continue
        its = score(levels, kind, ready[kind], ready_in_all - ready[kind], variant)
        if its > best:
            best, chosen = its, kind
    return chosen


@njit(cache=True)
def score(levels: Levels, kind: int, own_ready: int, others_ready: int, variant: int) -> float:
    """What `variant` thinks of running a type, of which `own_ready` nodes are ready, and `others_ready` of others."""
    top, own_top = levels.top[kind], levels.own_top[kind]
    share = float(levels.own[top] / (levels.own[top] + levels.others[top]))
    if variant == Variant.SHARE:
        return share
    # From its own top, then scaled: a type beyond reach of the top still compares with another that is.
    own = _soft_sum(levels.own, own_top, levels.start[kind], own_ready) * 0.5 ** (top - own_top)
    others = _soft_sum(levels.others, top, levels.start[kind], others_ready)
    soft_share = own / (own + others)
    if variant == Variant.SOFT_SHARE:
        return soft_share
    return (1.0 if share == 1.0 else 0.0) + 1e-3 * soft_share


@njit(cache=True)
def _soft_sum(count: np.ndarray, top: int, bottom: int, remaining: int) -> float:
    """The nodes counted from level `top` down to `bottom`, `remaining` in all, each level weighing half of the last."""
    total, weight = 0.0, 1.0
    for level in range(top, max(top - REACH, bottom - 1), -1):
        total += weight * count[level]
        weight *= 0.5
        remaining -= count[level]
        if remaining == 0:
            break
    return total


@njit(cache=True)
def no_levels(flow: Dataflow) -> Levels:
    """What stands in for levels where no height is asked for."""
    none, each = np.zeros(0, np.int32), np.zeros(flow.types, np.int32)
    return Levels(np.zeros(flow.types + 1, np.int32), none, none, np.zeros(flow.types, np.int64), each, each)


@njit(cache=True)
def open_levels(flow: Dataflow, frontier: Frontier, height: np.ndarray) -> Levels:
    """The levels of what is ready, wherever the run has got to."""
    start = np.zeros(flow.types + 1, np.int32)
    for node in range(flow.type.size):
        for kind in range(flow.types):
            start[kind + 1] = max(start[kind + 1], height[node, kind])
    for kind in range(flow.types):
        start[kind + 1] += start[kind] + 1
    size = start[-1]
    entered = frontier.low.copy()
    levels = Levels(
        start, np.zeros(size, np.int32), np.zeros(size, np.int32), start[1:] - 1, start[:-1].copy(), entered
    )
    enter_levels(levels, height, frontier)
    return levels


@njit(cache=True)
def enter_levels(levels: Levels, height: np.ndarray, frontier: Frontier) -> None:
    """Count the nodes that have become ready, and let the tops fall to the highest of what is ready now."""
    types = levels.top.size
    for kind in range(types):
        for node in frontier.queue[levels.entered[kind] : frontier.high[kind]]:
            _count(levels, height, node, kind, 1)
            levels.own_top[kind] = max(levels.own_top[kind], levels.start[kind] + height[node, kind])
        levels.entered[kind] = frontier.high[kind]
    for kind in range(types):
        top = levels.top[kind]
        while top > levels.start[kind] and levels.own[top] + levels.others[top] == 0:
            top -= 1
        levels.top[kind] = top


@njit(cache=True)
def leave_levels(levels: Levels, height: np.ndarray, batch: np.ndarray, kind: int) -> None:
    """Count out the nodes of `batch`: all that were ready of type `kind`."""
    for node in batch:
        _count(levels, height, node, kind, -1)
    levels.own_top[kind] = levels.start[kind]


@njit(cache=True)
def _count(levels: Levels, height: np.ndarray, node: int, kind: int, by: int) -> None:
    for other in range(levels.top.size):
        level = levels.start[other] + height[node, other]
        if other == kind:
            levels.own[level] += by
        else:
            levels.others[level] += by
