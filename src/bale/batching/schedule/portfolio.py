"""Portfolio: which of many schedules is the shortest? Tries are cheap, and no single policy always wins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bale.batching.graph import Graph
from bale.batching.schedule.agenda import agenda_sequence
from bale.batching.schedule.beam import shorter_by_beam
from bale.batching.schedule.bounds import lower_bound_by_type
from bale.batching.schedule.costs import Costs, cost_of, whole_prices
from bale.batching.schedule.depth import by_depth
from bale.batching.schedule.frontier import Dataflow, dataflow, reversed_dataflow
from bale.batching.schedule.fsm import Policy
from bale.batching.schedule.height import Variant, height_schedules, heights
from bale.batching.schedule.schedule import Schedule
from bale.batching.schedule.sufficient import sufficient_sequence

WIDTH = 8  # lanes of the beam; more find little more

# One more try costs about .1 us a node, one more batch about 100 us (forward and backward, on one core). Constants, so
# that results do not depend on the machine.
NODES_PER_US = 10  # are scheduled once more in that time
BATCH_US = 100.0  # where no costs are given
BEAM_TRIES = 8  # the beam costs about so many tries of another policy


@dataclass(frozen=True)
class Portfolio:
    """The policy "auto": the shortest schedule of those that are worth their making, the first where several are.

    Tried in this order: the learned policies, if there are any; on the reversed graph, which is mostly better, height's
    sure first, the sufficient condition, height's soft share and share; the same four on the graph; agenda and depth,
    reversed and not; the beam. It stops within 1 % of the lower bound, or where all the batches above it would not pay
    for the further tries (`NODES_PER_US`, `BATCH_US`). No time is measured.

    With `costs` the search goes on from there by the same rules, in what batches cost instead of their number, and ends
    with a beam that minimises it. The cheapest schedule of all is kept, of several the shortest: it never costs more
    than what is kept without them. Where each type's batches are as few as its bound, there is nothing to trade.
    """

    learned: tuple[Policy, ...] = ()
    costs: Costs | None = None

    def __call__(self, graph: Graph) -> Schedule:
        """Raises PolicyError where a learned policy is of another network."""
        forward, backward = dataflow(graph), reversed_dataflow(graph)
        height = heights(backward)
        lower_bound_by_type(graph, height)  # kept with the graph; chains are as long from either end
        tried = self._tried(graph, forward, backward, height)
        first = next(tried)
        shortest, made = _cheapest(graph, [first], tried, np.full(len(graph.types), BATCH_US))
        if self.costs is None:
            return shortest
        return _cheapest(graph, [shortest, first, *made], tried, self.costs.of(graph))[0]

    def _tried(self, graph: Graph, forward: Dataflow, backward: Dataflow, height: np.ndarray) -> Iterator[Schedule]:
        """`height` is that of the reversed graph."""
        yield from (policy(graph) for policy in self.learned)
        variants = (Variant.SURE_FIRST, Variant.SOFT_SHARE, Variant.SHARE)
        by_height = height_schedules(graph, variants, backward=True, height=height)
        yield next(by_height)
        yield Schedule.from_sequence(graph, sufficient_sequence(backward)[::-1], "sufficient (reversed)")
        yield from by_height
        by_height = height_schedules(graph, variants, backward=False)
        yield next(by_height)
        yield Schedule.from_sequence(graph, sufficient_sequence(forward), "sufficient")
        yield from by_height
        yield Schedule.from_sequence(graph, agenda_sequence(backward)[::-1], "agenda (reversed)")
        yield Schedule.from_sequence(graph, agenda_sequence(forward), "agenda")
        yield by_depth(graph, backward=True)
        yield by_depth(graph)


def _cheapest(
    graph: Graph, known: Sequence[Schedule], tried: Iterator[Schedule], per_batch: np.ndarray
) -> tuple[Schedule, list[Schedule]]:
    """The cheapest of the known schedules and of as many more as are worth their making; and those that were tried.

    per_batch  float64 [types]: the microseconds that a batch of each type costs
    """
    bound = cost_of(lower_bound_by_type(graph), per_batch)

    def cost(schedule: Schedule) -> float:
        return cost_of(np.bincount(schedule.batch_type, minlength=len(graph.types)), per_batch)

    def cheaper(*schedules: Schedule) -> Schedule:
        return min(schedules, key=lambda schedule: (cost(schedule), len(schedule)))

    def worth(schedule: Schedule, tries: int) -> bool:
        above = cost(schedule) - bound
        return 100 * above > bound and NODES_PER_US * above > tries * len(graph)

    best, made = cheaper(*known), []
    while worth(best, len(made) + 1) and (other := next(tried, None)) is not None:
        made.append(other)
        best = cheaper(best, other)
    if worth(best, len(made) + BEAM_TRIES):
        # cheaper in rounded prices, so perhaps not in these
        best = cheaper(best, shorter_by_beam(graph, best, WIDTH, whole_prices(per_batch)))
    return best, made


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
