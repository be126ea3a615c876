"""The frontier: which nodes are ready, type by type. Every policy opens one and advances it to the end."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from bale.batching.graph import Graph


class Dataflow(NamedTuple):
    """Who waits for whom: a Graph as the loops of policies read it. An operand read twice is waited for twice.

    type         int32 [nodes]      the type of each node
    types        int                how many types there are, nodes or not
    operands     int32 [nodes]      how many operands a node waits for
    user_start   int32 [nodes + 1]  node -> its range in `user_node`
    user_node    int32 [operands]   the nodes that wait for it
    """

    type: np.ndarray
    types: int
    operands: np.ndarray
    user_start: np.ndarray
    user_node: np.ndarray


class Frontier(NamedTuple):
    """What a run has still to do; `advance` changes it in place.

    waiting  int32 [nodes]  how many of its operands have not run yet
    queue    int32 [nodes]  a stretch per type, filled as nodes of that type become ready
    low      int32 [types]  the ready nodes of a type are queue[low:high]; those before have run
    high     int32 [types]
    """

    waiting: np.ndarray
    queue: np.ndarray
    low: np.ndarray
    high: np.ndarray


def dataflow(graph: Graph) -> Dataflow:
    """The edges of `graph` from operands to users, found once and kept with it. O(nodes + operands)."""
    known = vars(graph).get("_dataflow")
    if known is None:
        edges = _edges(graph.operand_start, graph.operand_node)
        # To numba an array that may not be written to is of another type: all policies would be compiled once more.
        kinds = np.require(graph.type, requirements="W")
        known = vars(graph)["_dataflow"] = Dataflow(kinds, len(graph.types), *edges)
    return known


def reversed_dataflow(graph: Graph) -> Dataflow:
    """The dataflow of `graph` with every edge turned, its nodes renumbered from the last to the first.

    Any sequence of types that runs it runs `graph` when reversed.
    """
    last = len(graph) - 1
    users = np.bincount(graph.operand_node, minlength=len(graph))  # [nodes]
    user_start = np.concatenate(([0], np.cumsum(np.diff(graph.operand_start)[::-1])))
    return Dataflow(
        np.ascontiguousarray(graph.type[::-1]),
        len(graph.types),
        users[::-1].astype(np.int32),
        user_start.astype(np.int32),
        last - graph.operand_node[::-1],
    )


def renumbered(flow: Dataflow, number: np.ndarray, types: int) -> Dataflow:
    """The same dataflow under other numbers of its types: number [types] gives each its new one; at least `types`."""
    types = max(types, int(number.max(initial=-1)) + 1)
    return Dataflow(number.astype(np.int32)[flow.type], types, flow.operands, flow.user_start, flow.user_node)


@njit(cache=True)
def depths(flow: Dataflow) -> np.ndarray:
    """int32 [nodes]: the edges on the longest path from any node without operands to each node."""
    # Operands are recorded before their users, so one forward sweep settles every node.
    depth = np.zeros(flow.type.size, np.int32)
    for node in range(flow.type.size):
        for edge in range(flow.user_start[node], flow.user_start[node + 1]):
            user = flow.user_node[edge]
            depth[user] = max(depth[user], depth[node] + 1)
    return depth


@njit(cache=True)
def _edges(operand_start: np.ndarray, operand_node: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    nodes = operand_start.size - 1
    user_start, edges = group(operand_node, nodes)
    user = np.empty(operand_node.size, np.int32)
    for node in range(nodes):
        user[operand_start[node] : operand_start[node + 1]] = node
    return operand_start[1:] - operand_start[:-1], user_start, user[edges]


@njit(cache=True)
def group(label: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Sort items by label, equal ones in their own order: int32 [groups + 1] group -> its range, int32 [items]."""
    # A counting sort. While it fills, start[g + 1] is where the next item of g goes, so it ends as the start of g + 1.
    start = np.zeros(groups + 2, np.int32)
    for g in label:
        start[g + 2] += 1
    for g in range(groups):
        start[g + 2] += start[g + 1]
    order = np.empty(label.size, np.int32)
    for item in range(label.size):
        order[start[label[item] + 1]] = item
        start[label[item] + 1] += 1
    return start[:-1], order


@njit(cache=True)
def open_frontier(flow: Dataflow) -> Frontier:
    """The frontier before anything has run: the nodes without operands are ready."""
    nodes = flow.type.size
    low = np.zeros(flow.types + 1, np.int32)
    for node in range(nodes):
        low[flow.type[node] + 1] += 1
    for kind in range(flow.types):
        low[kind + 1] += low[kind]
    frontier = Frontier(flow.operands.copy(), np.empty(nodes, np.int32), low[:-1], low[:-1].copy())
    for node in range(nodes):
        if flow.operands[node] == 0:
            _enter(flow, frontier, node)
    return frontier


@njit(cache=True)
def _enter(flow: Dataflow, frontier: Frontier, node: int) -> None:
    kind = flow.type[node]
    frontier.queue[frontier.high[kind]] = node
    frontier.high[kind] += 1


@njit(cache=True)
def advance(flow: Dataflow, frontier: Frontier, kind: int) -> np.ndarray:
    """Run all ready nodes of type `kind`, and return them, in no particular order."""
    low, high = frontier.low[kind], frontier.high[kind]
    frontier.low[kind] = high
    batch = frontier.queue[low:high]
    for node in batch:
        for edge in range(flow.user_start[node], flow.user_start[node + 1]):
            user = flow.user_node[edge]
            frontier.waiting[user] -= 1
            if frontier.waiting[user] == 0:
                _enter(flow, frontier, user)
    return batch


@njit(cache=True)
def replay(flow: Dataflow, sequence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Run all ready nodes of each next type of `sequence`; a type of which none is ready makes no batch.

    Returns the batch of every node, int32 [nodes], -1 where it never ran; and the type of every batch, int32 [batches].
    """
    frontier = open_frontier(flow)
    batch_of = np.full(flow.type.size, -1, np.int32)
    batch_type = np.empty(sequence.size, np.int32)
    batches = 0
    for kind in sequence:
        if frontier.low[kind] == frontier.high[kind]:
            continue
        for node in advance(flow, frontier, kind):
            batch_of[node] = batches
        batch_type[batches] = kind
        batches += 1
    return batch_of, batch_type[:batches]
