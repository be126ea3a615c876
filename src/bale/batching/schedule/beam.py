"""Beam: keep the few most promising beginnings of a schedule, not one. Where the bound is out of height's reach.

A lane of the beam is a frontier and what it may still become. Of all steps that all lanes can take, those with the
least estimate go on: the batches so far and the sum over types of the longest remaining chain. Most are equal in that,
so a soft length of what remains decides between them: a chain counts even where a longer one of its type is left.

Where types have prices, a batch counts as much as its type costs, in all of these sums.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from bale.batching.graph import Graph
from bale.batching.schedule.bounds import lower_bound_by_type
from bale.batching.schedule.frontier import Dataflow, Frontier, advance, dataflow, open_frontier, reversed_dataflow
from bale.batching.schedule.height import heights
from bale.batching.schedule.schedule import Schedule
from bale.errors import ScheduleError

# The soft length of a type's remaining nodes is the logarithm to BASE of the sum of BASE^h over them, h the most nodes
# of the type on a path from a node to a sink. From 1.1 to 2 the base makes little difference to the schedules.
BASE = 1.2
REACH = 80  # levels below the longest that it looks at; the next would weigh 5e-7
UNITS = 1 << 20  # soft lengths are whole numbers of 1 / UNITS, so that sums are exact and a tie is a tie


def shorter_by_beam(graph: Graph, than: Schedule, width: int, price: np.ndarray | None = None) -> Schedule:
    """A schedule of fewer batches than a known one, by a beam of `width` lanes; the known one where it finds none.

    With a `price` for each type, int64 [types] from 1 on, one whose batches cost less instead. The reversed graph is
    tried, then the graph. Nothing is tried once a schedule is as short as the lower bound, and no lane is kept that
    cannot become shorter than the best. A lane is copied where several of its steps go on: at most
    O(width x (operands + nodes x batches)). Raises ScheduleError where `width` is below 1.
    """
    if width < 1:
        raise ScheduleError(f"the width of the beam is {width}; expected how many lanes it has, at least 1")
    price = np.ones(len(graph.types), np.int64) if price is None else price
    bound = int((price * lower_bound_by_type(graph)).sum())
    for backward in (True, False):
        best = int(price[than.batch_type].sum())
        if best == bound:
            break
        flow = reversed_dataflow(graph) if backward else dataflow(graph)
        sequence = _sequence(flow, *_levels(flow, heights(flow)), width, price, bound, best)
        if sequence.size:
            policy = f"beam ({width} wide{', reversed' if backward else ''})"
            than = Schedule.from_sequence(graph, sequence[::-1] if backward else sequence, policy)
    return than


class Lanes(NamedTuple):
    """The lanes of the beam, a row each. A level is a type with a height: how long a chain of its own a node begins.

    waiting    int32 [lanes, nodes]     these four are a lane's Frontier
    queue      int32 [lanes, nodes]
    low        int32 [lanes, types]
    high       int32 [lanes, types]
    remaining  int32 [lanes, levels]    nodes yet to run
    ready      int32 [lanes, levels]    those of them that are ready
    top        int32 [lanes, types]     the highest level with a node yet to run; the lowest of the type where none is
    soft       int64 [lanes, types]     the soft length of what remains, in 1 / UNITS
    executed   uint64 [lanes]           the marks of all nodes that have run, xored: tells sets of nodes apart
    pending    uint64 [lanes, types]    the same of those that are ready
    estimate   int64 [lanes]            the price of the batches so far, and the bound on that of what remains
    last       int32 [lanes]            its last step in the history, -1 before the first
    """

    waiting: np.ndarray
    queue: np.ndarray
    low: np.ndarray
    high: np.ndarray
    remaining: np.ndarray
    ready: np.ndarray
    top: np.ndarray
    soft: np.ndarray
    executed: np.ndarray
    pending: np.ndarray
    estimate: np.ndarray
    last: np.ndarray


class Steps(NamedTuple):
    """Steps that lanes can take: (lane, type), and the estimate, soft length and executed marks after it."""

    lane: np.ndarray
    kind: np.ndarray
    estimate: np.ndarray
    soft: np.ndarray
    executed: np.ndarray


@njit(cache=True)
def _levels(flow: Dataflow, height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int32 [types + 1]: type -> its levels, heights 0 to the greatest; int32 [nodes]: the level of each node."""
    start = np.zeros(flow.types + 1, np.int32)
    level = np.empty(flow.type.size, np.int32)
    for node in range(flow.type.size):
        kind = flow.type[node]
        level[node] = height[node, kind]
        start[kind + 1] = max(start[kind + 1], level[node])
    for kind in range(flow.types):
        start[kind + 1] += start[kind] + 1
    for node in range(flow.type.size):
        level[node] += start[flow.type[node]]
    return start, level


@njit(cache=True)
def _sequence(
    flow: Dataflow, start: np.ndarray, level: np.ndarray, width: int, price: np.ndarray, bound: int, best: int
) -> np.ndarray:
    """The types of a schedule that costs less than `best`, or none where no lane of the beam leads to one."""
    lanes = _open(flow, start, level, width, bound)
    steps = Steps(
        np.empty(width * flow.types, np.int32), np.empty(width * flow.types, np.int32),
        np.empty(width * flow.types, np.int64), np.empty(width * flow.types, np.int64),
        np.empty(width * flow.types, np.uint64),
    )  # fmt: skip
    most = min(flow.type.size, (best - 1) // price.min())  # batches that can cost less than `best`
    parent = np.empty(width * most, np.int32)
    kinds = np.empty(width * most, np.int32)
    found = kinds[:0]
    known = 0  # steps in the history
    live = np.zeros(1, np.int32)  # the lanes in use, the most promising first
    for taken in range(most + 1):
        for lane in live:
            # Where prices differ, a lane that needs more batches may still become cheaper, so the others go on.
            if lanes.estimate[lane] < best and np.array_equal(lanes.low[lane], lanes.high[lane]):
                found, best = _types_to(parent, kinds, lanes.last[lane], taken), lanes.estimate[lane]
        count = 0
        for lane in live:
            count = _collect(lanes, start, lane, price, best, steps, count)
        chosen = _best(steps, count, width)
        if chosen.size == 0:
            break
        live = _places(lanes, steps, chosen, width)
        for step, lane in zip(chosen, live):  # noqa: B905  (numba knows no strict)
            kind = int(steps.kind[step])
            parent[known], kinds[known] = lanes.last[lane], kind
            lanes.last[lane] = known
            known += 1
            lanes.estimate[lane] = steps.estimate[step]
            lanes.executed[lane] = steps.executed[step]
            _run(flow, lanes, lane, kind, start, level)
    return found


@njit(cache=True)
def _types_to(parent: np.ndarray, kinds: np.ndarray, last: int, count: int) -> np.ndarray:
    types = np.empty(count, np.int32)
    for place in range(count - 1, -1, -1):
        types[place] = kinds[last]
        last = parent[last]
    return types


@njit(cache=True)
def _open(flow: Dataflow, start: np.ndarray, level: np.ndarray, width: int, bound: int) -> Lanes:
    """Room for all lanes, of which the first is where nothing has run."""
    nodes, types, levels = flow.type.size, flow.types, start[-1]
    lanes = Lanes(
        np.empty((width, nodes), np.int32), np.empty((width, nodes), np.int32),
        np.empty((width, types), np.int32), np.empty((width, types), np.int32),
        np.zeros((width, levels), np.int32), np.zeros((width, levels), np.int32),
        np.empty((width, types), np.int32), np.zeros((width, types), np.int64),
        np.zeros(width, np.uint64), np.zeros((width, types), np.uint64),
        np.empty(width, np.int64), np.full(width, -1, np.int32),
    )  # fmt: skip
    frontier = open_frontier(flow)
    lanes.waiting[0], lanes.queue[0] = frontier.waiting, frontier.queue
    lanes.low[0], lanes.high[0] = frontier.low, frontier.high
    lanes.top[0], lanes.estimate[0] = start[1:] - 1, bound
    for node in range(nodes):
        lanes.remaining[0, level[node]] += 1
    for kind in range(types):
        lanes.soft[0, kind] = _soft(lanes, 0, lanes.top[0, kind], start[kind])
        _enter(lanes, 0, kind, frontier.low[kind], level)
    return lanes


@njit(cache=True)
def _enter(lanes: Lanes, lane: int, kind: int, first: int, level: np.ndarray) -> None:
    """Count the nodes that have become ready: those of the type's queue from place `first` on."""
    for node in lanes.queue[lane, first : lanes.high[lane, kind]]:
        lanes.ready[lane, level[node]] += 1
        lanes.pending[lane, kind] ^= _mark(node)


@njit(cache=True)
def _mark(node: int) -> np.uint64:
    """64 bits that look random, different for every node (splitmix64)."""
    mixed = np.uint64(node + 1) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@njit(cache=True)
def _soft(lanes: Lanes, lane: int, top: int, bottom: int) -> int:
    """The soft length of a type whose levels are `bottom` to `top`, over what remains once its ready nodes have run."""
    remaining, ready = lanes.remaining[lane], lanes.ready[lane]
    while top > bottom and remaining[top] == ready[top]:
        top -= 1
    if top == bottom:
        return 0
    total, weight = 0.0, 1.0
    for at in range(top, max(bottom, top - REACH), -1):
        total += weight * (remaining[at] - ready[at])
        weight /= BASE
    return (top - bottom) * UNITS + round(UNITS * np.log(total) / np.log(BASE))


@njit(cache=True)
def _collect(lanes: Lanes, start: np.ndarray, lane: int, price: np.ndarray, best: int, steps: Steps, count: int) -> int:
    """Add the steps of a lane that may lead to a cost below `best`; how many there are now."""
    softness = (price * lanes.soft[lane]).sum()
    for kind in range(start.size - 1):
        if lanes.low[lane, kind] == lanes.high[lane, kind]:
            continue
        # The longest chain gets shorter if all nodes that begin one are ready.
        top = lanes.top[lane, kind]
        estimate = lanes.estimate[lane] + price[kind] * int(lanes.ready[lane, top] < lanes.remaining[lane, top])
        if estimate >= best:
            continue
        steps.lane[count], steps.kind[count], steps.estimate[count] = lane, kind, estimate
        softer = _soft(lanes, lane, top, start[kind]) - lanes.soft[lane, kind]
        steps.soft[count] = softness + price[kind] * softer
        steps.executed[count] = lanes.executed[lane] ^ lanes.pending[lane, kind]
        count += 1
    return count


@njit(cache=True)
def _best(steps: Steps, count: int, width: int) -> np.ndarray:
    """At most `width` of the steps, the best first, no two to the same set of executed nodes; ties to the first."""
    chosen = np.empty(min(width, count), np.int32)
    found = 0
    left = np.ones(count, np.bool_)
    while found < chosen.size:
        best = -1
        for step in range(count):
            if left[step] and (
                best < 0
                or steps.estimate[step] < steps.estimate[best]
                or (steps.estimate[step] == steps.estimate[best] and steps.soft[step] < steps.soft[best])
            ):
                best = step
        if best < 0:
            break
        chosen[found] = best
        found += 1
        for step in range(count):
            if steps.executed[step] == steps.executed[best]:
                left[step] = False
    return chosen[:found]


@njit(cache=True)
def _places(lanes: Lanes, steps: Steps, chosen: np.ndarray, width: int) -> np.ndarray:
    """The lane in which each chosen step runs: the one that takes it, or a copy where another step still needs that."""
    uses = np.zeros(width, np.int32)
    for step in chosen:
        uses[steps.lane[step]] += 1
    free = np.flatnonzero(uses == 0)
    places = np.empty(chosen.size, np.int32)
    copies = 0
    for k, step in enumerate(chosen):
        lane = int(steps.lane[step])
        uses[lane] -= 1
        places[k] = lane
        if uses[lane] > 0:
            places[k] = free[copies]
            _copy(lanes, lane, free[copies])
            copies += 1
    return places


@njit(cache=True)
def _copy(lanes: Lanes, lane: int, to: int) -> None:
    """All of a lane, but of its queue only what is ready. Estimate and executed marks come with the step."""
    lanes.waiting[to] = lanes.waiting[lane]
    for kind in range(lanes.low.shape[1]):
        low, high = lanes.low[lane, kind], lanes.high[lane, kind]
        lanes.queue[to, low:high] = lanes.queue[lane, low:high]
    lanes.low[to], lanes.high[to] = lanes.low[lane], lanes.high[lane]
    lanes.remaining[to], lanes.ready[to] = lanes.remaining[lane], lanes.ready[lane]
    lanes.top[to], lanes.soft[to] = lanes.top[lane], lanes.soft[lane]
    lanes.pending[to], lanes.last[to] = lanes.pending[lane], lanes.last[lane]


@njit(cache=True)
def _run(flow: Dataflow, lanes: Lanes, lane: int, kind: int, start: np.ndarray, level: np.ndarray) -> None:
    """Run all ready nodes of type `kind` in a lane, and count what changes."""
    top = lanes.top[lane, kind]
    lanes.soft[lane, kind] = _soft(lanes, lane, top, start[kind])
    lanes.pending[lane, kind] = 0
    before = lanes.high[lane].copy()
    frontier = Frontier(lanes.waiting[lane], lanes.queue[lane], lanes.low[lane], lanes.high[lane])
    for node in advance(flow, frontier, kind):
        lanes.remaining[lane, level[node]] -= 1
        lanes.ready[lane, level[node]] -= 1
    while top > start[kind] and lanes.remaining[lane, top] == 0:
        top -= 1
    lanes.top[lane, kind] = top
    for other in range(flow.types):
        _enter(lanes, lane, other, before[other], level)
