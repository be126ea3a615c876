"""Depth batching: run together all nodes of one type at one depth (TensorFlow Fold; Looks et al., 2017)."""

from __future__ import annotations

from bale.batching.graph import Graph
from bale.batching.schedule.frontier import dataflow, depths, reversed_dataflow
from bale.batching.schedule.schedule import Schedule


def by_depth(graph: Graph, backward: bool = False) -> Schedule:
    """Schedule `graph` by (depth, type); `backward` counts depth from the sinks, the deepest first.

    The plainest policy, and so the floor that every other must beat. O(nodes + operands), and a sort.
    """
    if backward:
        height = depths(reversed_dataflow(graph))[::-1]
        return Schedule.from_keys(graph, keys=(-height, graph.type), policy="depth (reversed)")
    return Schedule.from_keys(graph, keys=(depths(dataflow(graph)), graph.type), policy="depth")
