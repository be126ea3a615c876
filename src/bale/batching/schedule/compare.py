"""Compare: how many batches does each policy make of some graphs, and how long does it think about them?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter

from bale.batching.graph import Graph
from bale.batching.schedule.bounds import lower_bound
from bale.batching.schedule.policies import PolicyFunction
from bale.batching.schedule.schedule import Schedule


@dataclass(frozen=True)
class Made:
    """What one policy made of some graphs.

    batches  of each graph
    unseen   choices that a learned policy left to height, in all
    seconds  per node, all graphs together; the median of a few runs
    """

    batches: tuple[int, ...]
    unseen: int
    seconds: float


@dataclass(frozen=True)
class PolicyComparison:
    """The nodes of some graphs, the lower bound of each, and what every policy made of them, by its name."""

    nodes: tuple[int, ...]
    bound: tuple[int, ...]
    made: Mapping[str, Made]


def compare_policies(
    graphs: Sequence[Graph],
    policies: Mapping[str, PolicyFunction],
    repeats: int = 3,
    on_policy: Callable[[str], None] = lambda name: None,
) -> PolicyComparison:
    """Schedule every graph by every policy, and time that; `on_policy` hears the name of the one that comes next.

    What compiles a policy's loops is not timed. Raises what the policies do: PolicyError for another network's.
    """
    made = {}
    for name, policy in policies.items():
        on_policy(name)
        schedules = [policy(graph) for graph in graphs]
        made[name] = Made(
            tuple(len(schedule) for schedule in schedules),
            sum(schedule.unseen for schedule in schedules),
            median(_seconds(policy, graphs) for _ in range(repeats)) / max(1, sum(map(len, graphs))),
        )
    return PolicyComparison(tuple(map(len, graphs)), tuple(map(lower_bound, graphs)), made)


def _seconds(policy: Callable[[Graph], Schedule], graphs: Sequence[Graph]) -> float:
    fresh = [replace(graph) for graph in graphs]  # graphs keep what was found out about them; copies begin without
    begin = perf_counter()
    for graph in fresh:
        policy(graph)
    return perf_counter() - begin
