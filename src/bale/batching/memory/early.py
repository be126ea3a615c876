"""Early: which operands of a type are there for all its batches before the first of them runs?

A product of such an operand needs not wait for its batch: one launch does it for the rows of all of them (an LSTM's
input is known before its recurrence begins). Run backward, the same holds for the operand's gradient: nobody reads it
before the type's last batch.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from bale.batching.graph import Graph
from bale.batching.schedule.schedule import Schedule


def early_slots(graph: Graph, schedule: Schedule) -> list[frozenset[int]]:
    """Of every type the slots all of whose operands run before the type's first batch. O(nodes + operands)."""
    slots = np.array([len(t.slots) for t in graph.types], np.int64)
    start = np.concatenate([[0], np.cumsum(slots)])
    early = _early(
        schedule.order, schedule.batch_start, schedule.batch_type, graph.slot_start, graph.part_start,
        graph.operand_node, start,
    ).tolist()  # fmt: skip
    return [
        frozenset(slot for slot in range(high - low) if early[low + slot])
        for low, high in zip(start[:-1].tolist(), start[1:].tolist(), strict=True)
    ]


@njit(cache=True)
def _early(order, batch_start, batch_type, slot_start, part_start, operand_node, type_slots):
    batches = batch_type.size
    batch_of = np.empty(order.size, np.int32)
    first = np.full(type_slots.size - 1, batches, np.int32)
    for batch in range(batches):
        first[batch_type[batch]] = min(first[batch_type[batch]], batch)
        for node in order[batch_start[batch] : batch_start[batch + 1]]:
            batch_of[node] = batch
    early = np.ones(type_slots[-1], np.bool_)
    for batch in range(batches):
        kind = batch_type[batch]
        for node in order[batch_start[batch] : batch_start[batch + 1]]:
            for slot in range(slot_start[node + 1] - slot_start[node]):
                if not early[type_slots[kind] + slot]:
                    continue
                for part in range(part_start[slot_start[node] + slot], part_start[slot_start[node] + slot + 1]):
                    if batch_of[operand_node[part]] >= first[kind]:
                        early[type_slots[kind] + slot] = False
                        break
    return early
