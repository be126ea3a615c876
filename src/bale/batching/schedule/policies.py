"""Policies: which ways are there to schedule a graph, and how is one asked for?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from bale.batching.graph import Graph
from bale.batching.schedule.agenda import by_agenda
from bale.batching.schedule.depth import by_depth
from bale.batching.schedule.fsm import Policy
from bale.batching.schedule.portfolio import Portfolio, by_beam, by_height_portfolio
from bale.batching.schedule.schedule import Schedule
from bale.batching.schedule.sufficient import by_sufficient_condition
from bale.errors import ScheduleError

PolicyFunction = Callable[[Graph], Schedule]

POLICIES: Mapping[str, PolicyFunction] = MappingProxyType(
    {
        "depth": by_depth,
        "agenda": by_agenda,
        "sufficient": by_sufficient_condition,
        "height": by_height_portfolio,
        "beam": by_beam,
        "auto": Portfolio(),
    }
)


def make_schedule(graph: Graph, policy: str | PolicyFunction = "auto") -> Schedule:
    """Schedule `graph` by a policy of `POLICIES`, or by a function of your own.

    What a function returns is checked by replay. Raises ScheduleError where the name is unknown, the function returns
    no Schedule, or the schedule does not run the graph.

    >>> print(make_schedule(Graph.of([0, 0, 1], [[], [], [0, 1]]), "depth"))
    Schedule: 3 nodes in 2 batches by depth
    """
    if isinstance(policy, str) and policy in POLICIES:
        return POLICIES[policy](graph)
    if not callable(policy):
        raise ScheduleError(
            f"policy {policy!r} is unknown; known are {', '.join(POLICIES)}, and a function from Graph to Schedule"
        )
    schedule = policy(graph)
    if not isinstance(schedule, Schedule):
        raise ScheduleError(f"policy {policy!r} returned {type(schedule).__name__}; expected a Schedule")
    if not isinstance(policy, (Policy, Portfolio)):  # ours always run their graph
        schedule.check(graph)
    return schedule
