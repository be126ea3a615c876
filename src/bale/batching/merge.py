"""Merge: which nodes compute the same thing, so that it is computed once? Hash-consing, on arrays.

Gradients stay those of the per-sample loop: what reaches a merged value is the sum over its readers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numba import njit

from bale.batching.cells.celltype import CellType
from bale.batching.graph import Graph


@dataclass(frozen=True, eq=False)
class Merged:
    """A graph in which nothing is computed twice.

    graph           fewer nodes, of the same types; operands point at representatives
    kept            int [nodes]      the old numbers of the nodes that stay, ascending
    representative  int [old nodes]  the old number of the node that stands for each: the first that computes the same
    """

    graph: Graph
    kept: np.ndarray
    representative: np.ndarray

    def value(self, old_graph: Graph, values: np.ndarray) -> np.ndarray:
        """The new ids of old `values`, of any node."""
        node = old_graph.value_node[values]
        new_node = np.searchsorted(self.kept, self.representative[node])
        return self.graph.value_start[new_node] + values - old_graph.value_start[node]


def merge(graph: Graph, mergeable: np.ndarray, constant_start: np.ndarray, constant_id: np.ndarray) -> Merged:
    """Keep one node of all that agree in type, rows, the parts of every slot (their order too) and constants.

    `mergeable` (bool [types]) marks the types whose nodes are functions of these alone. The constants of node n are
    `constant_id[constant_start[n] : constant_start[n + 1]]`: equal ids in one column mean equal values. Where no two
    nodes agree, the result's graph is `graph` itself. O(nodes + parts + constants).
    """
    representative, value = _representatives(
        graph.type, graph.rows, graph.slot_start, graph.part_start, graph.part_value, graph.part_index,
        graph.value_start, mergeable, constant_start.astype(np.int64, copy=False),
        constant_id.astype(np.int64, copy=False),
    )  # fmt: skip
    kept = np.flatnonzero(representative == np.arange(len(graph)))
    if kept.size == len(graph):
        return Merged(graph, kept, representative)
    slot_start, part_start, part_value, part_index, value_start = _compact(
        kept, graph.slot_start, graph.part_start, graph.part_value, graph.part_index, graph.value_start, value
    )
    merged = Graph(
        graph.types, graph.type[kept], graph.rows[kept], graph.sample[kept], slot_start, part_start, part_value,
        part_index, value_start,
    )  # fmt: skip
    return Merged(merged, kept, representative)


def mergeable_types(cells: Iterable[CellType]) -> np.ndarray:
    """bool [types]: the types whose nodes are functions of their operands and constants, and add up gradients.

    The gradient for the sum of two readers' gradients is the sum of the gradients for each: so it is for torch's own
    functions. Of hooks and of custom backwards (one that clips, say) nobody knows.
    """
    return np.array(
        [not (c.draws or c.seeded or c.stateful or c.own_backward) for c in cells],
        bool,
    )


@njit(cache=True)
def _representatives(types, rows, slot_start, part_start, part_value, part_index, value_start, mergeable,
                     constant_start, constant_id):  # fmt: skip
    """The first node that computes the same as each node, and likewise of each value."""
    nodes = types.size
    representative = np.arange(nodes)
    value = np.arange(value_start[nodes], dtype=np.int32)
    hashes = np.zeros(nodes, np.uint64)
    places = 2
    while places < 2 * nodes:
        places *= 2
    table = np.full(places, -1, np.int32)  # open addressing, at most half full
    # Operands come before users, so the representatives of a node's operands are settled when it is looked up.
    for node in range(nodes):
        if not mergeable[types[node]]:
            continue
        first_slot, end_slot = slot_start[node], slot_start[node + 1]
        first, end = part_start[first_slot], part_start[end_slot]
        code = _mixed(np.uint64(types[node]), np.uint64(rows[node]))
        for part in range(first, end):
            code = _mixed(code, np.uint64(value[part_value[part]]) << np.uint64(32) ^ np.uint64(part_index[part]))
        for slot in range(first_slot, end_slot - 1):  # boundaries: the first and the last say nothing new
            code = _mixed(code, np.uint64(part_start[slot + 1] - first))
        for column in range(constant_start[node], constant_start[node + 1]):
            code = _mixed(code, np.uint64(constant_id[column]))
        hashes[node] = code
        place = np.int64(code >> np.uint64(32)) & (places - 1)
        while table[place] >= 0:
            other = table[place]
            if hashes[other] == code and _same(node, other, types, rows, slot_start, part_start, part_value,
                                               part_index, constant_start, constant_id, value):  # fmt: skip
                representative[node] = other
                for k in range(value_start[node + 1] - value_start[node]):
                    value[value_start[node] + k] = value_start[other] + k
                break
            place = (place + 1) & (places - 1)
        else:
            table[place] = node
    return representative, value


@njit(cache=True)
def _mixed(code, item):
    # splitmix64's finaliser (Steele et al., 2014): every bit of both reaches every bit of the result
    code = (code ^ item) + np.uint64(0x9E3779B97F4A7C15)
    code = (code ^ (code >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    code = (code ^ (code >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return code ^ (code >> np.uint64(31))


@njit(cache=True)
def _same(node, other, types, rows, slot_start, part_start, part_value, part_index, constant_start, constant_id, value):
    if types[node] != types[other] or rows[node] != rows[other]:
        return False
    slot, other_slot = slot_start[node], slot_start[other]
    slots = slot_start[node + 1] - slot
    if slot_start[other + 1] - other_slot != slots:
        return False
    part, other_part = part_start[slot], part_start[other_slot]
    for k in range(1, slots + 1):
        if part_start[slot + k] - part != part_start[other_slot + k] - other_part:
            return False
    for k in range(part_start[slot + slots] - part):
        if part_index[part + k] != part_index[other_part + k]:
            return False
        if value[part_value[part + k]] != value[part_value[other_part + k]]:
            return False
    column, other_column = constant_start[node], constant_start[other]
    columns = constant_start[node + 1] - column
    if constant_start[other + 1] - other_column != columns:
        return False
    for k in range(columns):  # noqa: SIM110 (numba compiles no generators)
        if constant_id[column + k] != constant_id[other_column + k]:
            return False
    return True


@njit(cache=True)
def _compact(kept, slot_start, part_start, part_value, part_index, value_start, value):
    """The slots, parts and values of the nodes `kept`, renumbered."""
    nodes = kept.size
    slots, parts = 0, 0
    for node in kept:
        slots += slot_start[node + 1] - slot_start[node]
        parts += part_start[slot_start[node + 1]] - part_start[slot_start[node]]
    out_slot_start = np.zeros(nodes + 1, np.int32)
    out_part_start = np.zeros(slots + 1, np.int32)
    out_value, out_index = np.zeros(parts, np.int32), np.zeros(parts, np.int32)
    out_value_start = np.zeros(nodes + 1, np.int32)
    renumbered = np.zeros(value.size, np.int32)
    slot_at, part_at, value_at = 0, 0, 0
    for k in range(nodes):
        node = kept[k]
        for slot in range(slot_start[node], slot_start[node + 1]):
            for part in range(part_start[slot], part_start[slot + 1]):
                out_value[part_at] = renumbered[value[part_value[part]]]
                out_index[part_at] = part_index[part]
                part_at += 1
            slot_at += 1
            out_part_start[slot_at] = part_at
        out_slot_start[k + 1] = slot_at
        for old in range(value_start[node], value_start[node + 1]):
            renumbered[old] = value_at
            value_at += 1
        out_value_start[k + 1] = value_at
    return out_slot_start, out_part_start, out_value, out_index, out_value_start
