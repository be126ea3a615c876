"""Portfolio: which of many schedules is the shortest? Tries are cheap, and no single policy always wins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bale.batching.graph import Graph
from bale.batching.schedule.agenda import agenda_sequence
from bale.batching.schedule.beam import shorter_by_beam
from bale.batching.schedule.bounds import lower_bound_by_type
from bale.batching.schedule.depth import by_depth
from bale.batching.schedule.frontier import Dataflow, dataflow, reversed_dataflow
from bale.batching.schedule.fsm import Policy
from bale.batching.schedule.height import Variant, height_schedules, heights
from bale.batching.schedule.schedule import Schedule
from bale.batching.schedule.sufficient import sufficient_sequence

WIDTH = 8  # lanes of the beam; more find little more

# One more try costs about .1 us a node, one more batch about 100 us (forward and backward, on one core): so many nodes
# are scheduled once more in the time that a batch takes. A constant, so that results do not depend on the machine.
NODES_PER_BATCH = 1000
BEAM_TRIES = 8  # the beam costs about so many tries of another policy


@dataclass(frozen=True)
class Portfolio:
    """The policy "auto": the shortest schedule of those that are worth their making, the first where several are.

    Tried in this order: the learned policies, if there are any; height, on the reversed graph, which is mostly better,
    and on the graph: sure first, soft share, share; the sufficient condition, agenda and depth, reversed and not; the
    beam. It stops within 1 % of the lower bound, or where all the batches above it would not pay for one more try
    (`NODES_PER_BATCH`). No time is measured.
    """

    learned: tuple[Policy, ...] = ()

    def __call__(self, graph: Graph) -> Schedule:
        """Raises PolicyError where a learned policy is of another network."""
        forward, backward = dataflow(graph), reversed_dataflow(graph)
        height = heights(backward)
        bound = int(lower_bound_by_type(graph, height).sum())  # of chains, which are as long from either end

        def worth(schedule: Schedule, tries: int) -> bool:
            above = len(schedule) - bound
            return 100 * above > bound and NODES_PER_BATCH * above > tries * len(graph)

        tried = self._tried(graph, forward, backward, height)
        shortest = next(tried)
        while worth(shortest, 1) and (other := next(tried, None)) is not None:
            shortest = min(shortest, other, key=len)
        return shorter_by_beam(graph, shortest, WIDTH) if worth(shortest, BEAM_TRIES) else shortest

    def _tried(self, graph: Graph, forward: Dataflow, backward: Dataflow, height: np.ndarray) -> Iterator[Schedule]:
        """`height` is that of the reversed graph."""
        yield from (policy(graph) for policy in self.learned)
        variants = (Variant.SURE_FIRST, Variant.SOFT_SHARE, Variant.SHARE)
        yield from height_schedules(graph, variants, backward=True, height=height)
        yield from height_schedules(graph, variants, backward=False)
        for name, sequence in (("sufficient", sufficient_sequence), ("agenda", agenda_sequence)):
            yield Schedule.from_sequence(graph, sequence(backward)[::-1], f"{name} (reversed)")
            yield Schedule.from_sequence(graph, sequence(forward), name)
        yield by_depth(graph, backward=True)
        yield by_depth(graph)


def by_height_portfolio(graph: Graph) -> Schedule:
    """The shortest of height's six schedules, the first where several are; it stops at one as short as the bound."""
    height = heights(dataflow(graph))
    bound = int(lower_bound_by_type(graph, height).sum())
    tried = _by_height(graph, height)
    shortest = next(tried)
    while len(shortest) > bound and (other := next(tried, None)) is not None:
        shortest = min(shortest, other, key=len)
    return shortest


def by_beam(graph: Graph, width: int = WIDTH) -> Schedule:
    """Height's schedule, or one that a beam of `width` lanes finds to be shorter: the fewest batches, at any price.

    On mini-batches of lattices up to twice the time of height. Raises ScheduleError where `width` is below 1.

    >>> print(by_beam(Graph.of([0, 1, 1, 0], [[], [0], [], [2]])))
    Schedule: 4 nodes in 3 batches by height (share)
    """
    return shorter_by_beam(graph, by_height_portfolio(graph), width)


def _by_height(graph: Graph, height: np.ndarray) -> Iterator[Schedule]:
    """Share, soft share, sure first, on the graph; then the same three on the reversed graph."""
    yield from height_schedules(graph, Variant, backward=False, height=height)
    yield from height_schedules(graph, Variant, backward=True)
