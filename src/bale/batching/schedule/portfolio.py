"""Portfolio: which of height's schedules is the shortest? Six tries are cheap, and no single one always wins."""

from __future__ import annotations

from bale.batching.graph import Graph
from bale.batching.schedule.bounds import lower_bound_by_type
from bale.batching.schedule.frontier import dataflow
from bale.batching.schedule.height import Variant, height_schedules, heights
from bale.batching.schedule.schedule import Schedule


def by_portfolio(graph: Graph) -> Schedule:
    """The shortest of height's schedules, the first where several are.

    Tried in this order: share, soft share, sure first, on the graph; then the same three on the reversed graph. It
    stops at a schedule as short as the lower bound. Up to six times the cost of one policy.
    """
    height = heights(dataflow(graph))
    bound = int(lower_bound_by_type(graph, height).sum())
    shortest = None
    for backward in (False, True):
        for schedule in height_schedules(graph, Variant, backward, None if backward else height):
            if shortest is None or len(schedule) < len(shortest):
                shortest = schedule
            if len(shortest) == bound:
                return shortest
    assert shortest is not None  # a variant always yields
    return shortest
