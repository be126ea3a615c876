"""Portfolio: which of many cheap schedules is the shortest? Tries are cheap, and no single policy always wins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from bale.batching.graph import Graph
from bale.batching.schedule.agenda import agenda_sequence
from bale.batching.schedule.bounds import lower_bound_by_type
from bale.batching.schedule.depth import by_depth
from bale.batching.schedule.frontier import dataflow, reversed_dataflow
from bale.batching.schedule.fsm import Policy
from bale.batching.schedule.height import Variant, height_schedules, heights
from bale.batching.schedule.schedule import Schedule
from bale.batching.schedule.sufficient import sufficient_sequence


@dataclass(frozen=True)
class Portfolio:
    """The policy "auto": the shortest schedule of all that are cheap to make, the first where several are.

    Tried in this order: the learned policies, if there are any; height's three variants on the graph, then on the
    reversed graph; the sufficient condition, agenda and depth, each on the graph and reversed. It stops at a schedule
    as short as the lower bound. No time is measured, so that the result does not depend on the machine. At most
    thirteen times the cost of one policy, usually that of one.
    """

    learned: tuple[Policy, ...] = ()

    def __call__(self, graph: Graph) -> Schedule:
        """Raises PolicyError where a learned policy is of another network."""
        height = heights(dataflow(graph))
        return _shortest(graph, height, _all(graph, height, self.learned))


def by_height_portfolio(graph: Graph) -> Schedule:
    """The shortest of height's six schedules, the first where several are: "height"."""
    height = heights(dataflow(graph))
    return _shortest(graph, height, _by_height(graph, height))


def _all(graph: Graph, height: np.ndarray, learned: Iterable[Policy]) -> Iterator[Schedule]:
    yield from (policy(graph) for policy in learned)
    yield from _by_height(graph, height)
    forward, backward = dataflow(graph), reversed_dataflow(graph)
    for name, sequence in (("sufficient", sufficient_sequence), ("agenda", agenda_sequence)):
        yield Schedule.from_sequence(graph, sequence(forward), name)
        yield Schedule.from_sequence(graph, sequence(backward)[::-1], f"{name} (reversed)")
    yield by_depth(graph)
    yield by_depth(graph, backward=True)


def _by_height(graph: Graph, height: np.ndarray) -> Iterator[Schedule]:
    """Share, soft share, sure first, on the graph; then the same three on the reversed graph."""
    yield from height_schedules(graph, Variant, backward=False, height=height)
    yield from height_schedules(graph, Variant, backward=True)


def _shortest(graph: Graph, height: np.ndarray, schedules: Iterator[Schedule]) -> Schedule:
    bound = int(lower_bound_by_type(graph, height).sum())
    shortest = next(schedules)
    while len(shortest) > bound and (other := next(schedules, None)) is not None:
        if len(other) < len(shortest):
            shortest = other
    return shortest
