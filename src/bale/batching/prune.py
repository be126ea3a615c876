"""Prune: which nodes does nothing need? What no result, no other needed node and no effect asks for does not run."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numba import njit

from bale.batching.cells.celltype import CellType
from bale.batching.graph import Graph


def needed_nodes(graph: Graph, runs_unread: np.ndarray, results: np.ndarray) -> np.ndarray:
    """bool [nodes]: what writes the values `results` (int [..]), nodes of types `runs_unread`, and what these read.

    `runs_unread` is bool [types]. What is left out is dropped by `fold`, which copies the graph anyway.
    O(nodes + parts).
    """
    return _needed(
        graph.type, graph.slot_start, graph.part_start, graph.part_value, graph.value_node, runs_unread, results
    )


def types_that_run_unread(cells: Iterable[CellType]) -> np.ndarray:
    """bool [types]: the types whose calls the per-sample loop would miss, whoever reads them."""
    return np.array([cell.runs_unread for cell in cells], bool)


@njit(cache=True)
def _needed(types, slot_start, part_start, part_value, value_node, runs_unread, results):
    nodes = types.size
    needed = np.empty(nodes, np.bool_)
    for node in range(nodes):
        needed[node] = runs_unread[types[node]]
    for value in results:
        needed[value_node[value]] = True
    for node in range(nodes - 1, -1, -1):  # readers come after what they read
        if needed[node]:
            for part in range(part_start[slot_start[node]], part_start[slot_start[node + 1]]):
                needed[value_node[part_value[part]]] = True
    return needed
