"""Arrange: in which of its possible batches does each node run, and in which order do a batch's nodes lie?

A schedule leaves both open: a node may run in any batch of its type between its earliest and its latest. Here batches
are filled from the end, so that a level's operands are the level just below it, and nodes lie in the order of their
first readers, so that operands are read in sequence: siblings side by side, chains as prefixes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numba import njit

from bale.batching.graph import Graph
from bale.batching.schedule.frontier import group
from bale.batching.schedule.schedule import Schedule

NEAR = 4  # rows that lie so close come with the same few cache lines: siblings, one of which is another slot's


def arrange(graph: Graph, schedule: Schedule) -> Schedule:
    """The same batches, or fewer, in an order that is good for memory: as given, or with every node as late as it can.

    Kept is the one whose operands lie in fewer pieces; the later one where both have as many. O(nodes log nodes +
    operands).
    """
    if not len(graph):
        return schedule
    early = _ordered(graph, schedule)
    late = _ordered(graph, as_late_as_possible(graph, schedule))
    return late if pieces(graph, late) <= pieces(graph, early) else early


def as_late_as_possible(graph: Graph, schedule: Schedule) -> Schedule:
    """Every node in the last batch of its type before its readers; batches that become empty are dropped."""
    by_type = np.argsort(schedule.batch_type, kind="stable")  # of each type, its batches in order
    first = np.searchsorted(schedule.batch_type[by_type], np.arange(len(graph.types) + 1))
    used, start, order = _latest(
        schedule.order, schedule.batch_start, schedule.batch_type, by_type, first, graph.operand_start,
        graph.operand_node,
    )  # fmt: skip
    return replace(schedule, order=order, batch_start=start, batch_type=schedule.batch_type[used])


def pieces(graph: Graph, schedule: Schedule) -> int:
    """How many runs of neighbouring rows all operands are read in, slot by slot: what a better order has fewer of."""
    return int(_pieces(schedule.order, schedule.batch_start, graph.slot_start, graph.part_start, graph.operand_node))


def _ordered(graph: Graph, schedule: Schedule) -> Schedule:
    order = _by_first_reader(
        schedule.order, schedule.batch_start, graph.slot_start, graph.part_start, graph.operand_node
    )
    return replace(schedule, order=order)


@njit(cache=True)
def _latest(order, batch_start, batch_type, by_type, first, operand_start, operand_node):
    # Readers are recorded after what they read, so one sweep from the last node on meets every reader first.
    nodes, batches = order.size, batch_start.size - 1
    own = np.empty(nodes, np.int32)
    for batch in range(batches):
        for node in order[batch_start[batch] : batch_start[batch + 1]]:
            own[node] = batch
    limit = np.full(nodes, batches, np.int32)  # the earliest batch of its readers
    for node in range(nodes - 1, -1, -1):  # users are recorded after their operands
        batch = own[node]
        if limit[node] < batches:
            mine = by_type[first[batch_type[batch]] : first[batch_type[batch] + 1]]
            batch = mine[np.searchsorted(mine, limit[node]) - 1]
        own[node] = batch
        for edge in range(operand_start[node], operand_start[node + 1]):
            source = operand_node[edge]
            limit[source] = min(limit[source], batch)
    used = np.zeros(batches, np.bool_)
    for node in range(nodes):
        used[own[node]] = True
    batch_after = np.cumsum(used).astype(np.int32) - 1
    kept = int(np.sum(used))  # not the last of batch_after, plus 1: there may be no batch at all
    start, order = group(batch_after[own].astype(np.int32), kept)
    return used, start, order


@njit(cache=True)
def _by_first_reader(order, batch_start, slot_start, part_start, operand_node):
    nodes = order.size
    most = 1
    for node in range(nodes):
        most = max(most, slot_start[node + 1] - slot_start[node])
    key = np.empty(nodes, np.int64)
    for node in range(nodes):
        key[node] = np.int64(nodes) * most + node  # what nothing reads comes last, in trace order
    out = np.empty_like(order)
    for batch in range(batch_start.size - 2, -1, -1):
        low, high = batch_start[batch], batch_start[batch + 1]
        members = order[low:high]
        keys = np.empty(members.size, np.int64)
        for k in range(members.size):
            keys[k] = key[members[k]]
        ranked = np.argsort(keys, kind="mergesort")
        for k in range(members.size):
            node = members[ranked[k]]
            out[low + k] = node
            for slot in range(slot_start[node], slot_start[node + 1]):
                mine = np.int64(low + k) * most + slot - slot_start[node]
                for part in range(part_start[slot], part_start[slot + 1]):
                    key[operand_node[part]] = min(key[operand_node[part]], mine)
    return out


@njit(cache=True)
def _pieces(order, batch_start, slot_start, part_start, operand_node):
    place = np.empty(order.size, np.int64)
    for at in range(order.size):
        place[order[at]] = at
    count = 0
    for batch in range(batch_start.size - 1):
        members = order[batch_start[batch] : batch_start[batch + 1]]
        first = members[0]
        for k in range(slot_start[first + 1] - slot_start[first]):
            last = np.int64(-NEAR - 1)  # a slot's first row always begins a piece
            for node in members:
                slot = slot_start[node] + k
                for part in range(part_start[slot], part_start[slot + 1]):
                    here = place[operand_node[part]]
                    count += not 0 < here - last <= NEAR
                    last = here
    return count
