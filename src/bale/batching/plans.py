"""Plans: which graphs were planned before? A graph that looks just the same is run by the same schedule and layout."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import fields
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from bale.batching.graph import Graph
from bale.batching.trace.trace import Trace

MAX_NODES = 1 << 18  # of all graphs whose plans are held; the oldest go first

P = TypeVar("P")
T = TypeVar("T")


class Plans(Generic[T, P]):
    """What was planned for traces (`T`) and graphs (`P`), while they are held."""

    def __init__(self) -> None:
        self._of_trace: WeakKeyDictionary[Trace, T] = WeakKeyDictionary()
        self._of_graph: dict[tuple[int, int, int], list[tuple[Graph, P]]] = {}
        self._nodes = 0
        self._writing = threading.Lock()

    def of_trace(self, trace: Trace, make: Callable[[], T]) -> T:
        """The plan of a trace that is run again."""
        known = self._of_trace.get(trace)
        if known is None:
            known = make()
            with self._writing:
                self._of_trace[trace] = known
        return known

    def of_graph(self, graph: Graph, make: Callable[[], P]) -> P:
        """The plan of a graph with the same types and arrays, or a new one. Whose sample a node is of is no matter."""
        size = len(graph), graph.part_value.size, int(graph.value_start[-1])
        for known, plan in self._of_graph.get(size, ()):
            if _same(known, graph):
                return plan
        plan = make()
        if len(graph) <= MAX_NODES:
            with self._writing:
                self._hold(size, graph, plan)
        return plan

    def _hold(self, size: tuple[int, int, int], graph: Graph, plan: P) -> None:
        while self._nodes + len(graph) > MAX_NODES:
            oldest = next(iter(self._of_graph))
            self._nodes -= sum(len(known) for known, _ in self._of_graph.pop(oldest))
        self._of_graph[size] = [*self._of_graph.get(size, ()), (graph, plan)]
        self._nodes += len(graph)


_ARRAYS = [field.name for field in fields(Graph) if field.name not in ("types", "sample")]


def _same(one: Graph, other: Graph) -> bool:
    return one.types == other.types and all(np.array_equal(getattr(one, n), getattr(other, n)) for n in _ARRAYS)
