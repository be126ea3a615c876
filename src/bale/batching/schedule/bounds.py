"""Bounds: how few batches could possibly run a graph? No schedule has fewer (ED-Batch, ICML 2023, section 2)."""

from __future__ import annotations

import numpy as np

from bale.batching.graph import Graph
from bale.batching.schedule.frontier import dataflow
from bale.batching.schedule.height import heights


def lower_bound_by_type(graph: Graph, height: np.ndarray | None = None) -> np.ndarray:
    """int32 [types]: the most nodes of each type on any path.

    Two nodes on one path never share a batch, so a type needs at least as many batches. O((nodes + operands) x types)
    when it is asked first, or less where the `height` of all nodes is known; the answer is kept with the graph.
    """
    known = vars(graph).get("_lower_bound_by_type")
    if known is None:
        height = heights(dataflow(graph)) if height is None else height
        known = vars(graph)["_lower_bound_by_type"] = height.max(axis=0, initial=0)
        known.flags.writeable = False
    return known


def lower_bound(graph: Graph) -> int:
    """The sum of `lower_bound_by_type`: a batch runs one type, so what each type needs adds up.

    The optimum can be above it: on random graphs of five types by about a fifth, on lattices hardly ever.

    >>> lower_bound(Graph.of([0, 1, 0], [[], [0], [1]]))
    3
    """
    return int(lower_bound_by_type(graph).sum())
