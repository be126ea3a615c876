"""Depth batching: run together all nodes of one type at one depth (TensorFlow Fold; Looks et al., 2017)."""

from __future__ import annotations

import numpy as np
from numba import njit

from bale.batching.graph import Graph
from bale.batching.schedule.schedule import Schedule


def by_depth(graph: Graph) -> Schedule:
    """Schedule `graph` by (depth, type).

    The plainest policy, and so the floor that every other must beat. O(nodes + operands), and a sort.
    """
    return Schedule.from_keys(graph, keys=(depths(graph), graph.type), policy="depth")


def depths(graph: Graph) -> np.ndarray:
    """int32 [nodes]: the edges on the longest path from any node without operands to each node."""
    return _depths(graph.operand_start, graph.operand_node)


@njit(cache=True)
def _depths(operand_start: np.ndarray, operand_node: np.ndarray) -> np.ndarray:
    # Operands are recorded before their users, so one forward sweep settles every node.
    nodes = operand_start.size - 1
    depth = np.zeros(nodes, np.int32)
    for node in range(nodes):
        for edge in range(operand_start[node], operand_start[node + 1]):
            depth[node] = max(depth[node], depth[operand_node[edge]] + 1)
    return depth
