"""Fold: a stack or a reduction over a list is part of its consumer's operand gather, not a node of its own.

On lattices this is the largest gain of all: a type per arity makes several times as many batches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numba import njit

from bale.batching.graph import WHOLE, Graph, Mode, NodeType

MODES = tuple(Mode)
_CODE = {mode: code for code, mode in enumerate(MODES)}
LAUNCH_ROWS = 8  # how many rows may be gathered again to save a node that would need a launch
ROW, STACK, SUM, MEAN, MAX = (_CODE[m] for m in (Mode.ROW, Mode.STACK, Mode.SUM, Mode.MEAN, Mode.MAX))


@dataclass(frozen=True, eq=False)
class Folded:
    """A graph with fewer nodes. `kept` [nodes] are their old numbers, `type_of` [types] the old type of each one."""

    graph: Graph
    kept: np.ndarray
    type_of: np.ndarray

    def value(self, old_graph: Graph, values: np.ndarray) -> np.ndarray:
        """The new ids of old `values`, all of which were pinned."""
        node = old_graph.value_node[values]
        return self.graph.value_start[np.searchsorted(self.kept, node)] + values - old_graph.value_start[node]


def fold(graph: Graph, gathers: np.ndarray, pinned: np.ndarray) -> Folded:
    """Fold the nodes of the types marked in `gathers` (bool [types]: stacks and reductions) into those that read them.

    A stack is folded where every reader gathers rows anyway; a reduction where every reader wants one row, and where
    repeating its work for several readers moves hardly more rows than writing its result once. `pinned` (int [..]) are
    values that must stay, being outputs.
    """
    foldable = np.array(
        [
            bool(g) and t.slot_specs[0].requires_grad == t.outputs[0].requires_grad
            for g, t in zip(gathers, graph.types, strict=True)
        ],
        bool,
    )
    if not foldable.any():
        return Folded(graph, np.arange(len(graph)), np.arange(len(graph.types)))
    mode, rank = slot_modes(graph)
    stays = np.zeros(graph.value_start[-1], bool)
    stays[pinned] = True
    takes_row = np.array([not any(spec.ragged for spec in t.slot_specs) for t in graph.types], bool)
    kept, new_mode, slots, part_start, part_value, part_index = _fold(
        graph.type, graph.rows, graph.slot_start, graph.part_start, graph.part_value, graph.part_index,
        graph.value_node, graph.value_start, mode, rank, foldable, takes_row, stays,
    )  # fmt: skip
    types, type_index, type_of = _retype(graph, kept, new_mode, slots)
    outputs = np.array([len(t.outputs) for t in graph.types], np.int32)[graph.type[kept]]
    value_start = np.concatenate([[0], np.cumsum(outputs)]).astype(np.int32)
    place = np.zeros(len(graph), np.int32)  # of each node that stays, the new number
    place[kept] = np.arange(kept.size)
    node = graph.value_node[part_value]
    new_value = value_start[place[node]] + part_value - graph.value_start[node]
    folded = Graph(
        types, type_index, graph.rows[kept], graph.sample[kept], slots, part_start, new_value.astype(np.int32),
        part_index, value_start,
    )  # fmt: skip
    return Folded(folded, kept, type_of)


def slot_modes(graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    """int8 [slots] each: the mode of every slot (an index into MODES), and the rank of the rows that it gathers."""
    modes = graph.by_type([[_CODE[m] for m in t.slots] for t in graph.types], np.int8)
    return modes, graph.by_type([[len(s.shape) for s in t.slot_specs] for t in graph.types], np.int8)


def _retype(
    graph: Graph, kept: np.ndarray, mode: np.ndarray, slots: np.ndarray
) -> tuple[tuple[NodeType, ...], np.ndarray, np.ndarray]:
    """A type of its own for every (type, slot modes) that occurs, in order of first occurrence."""
    type_index, first = _distinct(graph.type, kept, mode, slots)
    types = []
    for node in first.tolist():
        old = graph.types[graph.type[kept[node]]]
        modes = tuple([MODES[m] for m in mode[slots[node] : slots[node + 1]].tolist()])
        types.append(old if modes == old.slots else replace(old, slots=modes))
    return tuple(types), type_index, graph.type[kept[first]]


@njit(cache=True)
def _distinct(types, kept, mode, slots):
    """Number the distinct (type, slot modes) as they come up; also the first node of each."""
    number = np.empty(kept.size, np.int32)
    first = [np.int64(0) for _ in range(0)]
    before = [np.int64(0) for _ in range(0)]  # the number found before it that has the same type
    last = np.full(types.max() + 1 if types.size else 0, -1)
    for node in range(kept.size):
        known = last[types[kept[node]]]
        while known >= 0:
            other = first[known]
            count = slots[node + 1] - slots[node]
            same = True
            for slot in range(count):
                same = same and mode[slots[node] + slot] == mode[slots[other] + slot]
            if same:
                break
            known = before[known]
        if known < 0:
            known = len(first)
            first.append(np.int64(node))
            before.append(np.int64(last[types[kept[node]]]))
            last[types[kept[node]]] = known
        number[node] = known
    return number, np.array(first, np.int64)


@njit(cache=True)
def _fold(types, rows, slot_start, part_start, part_value, part_index, value_node, value_start, mode, rank, foldable,
          takes_row, stays):  # fmt: skip
    nodes = types.size
    is_stack = np.zeros(nodes, np.bool_)
    readers = np.zeros(nodes, np.int32)
    needed = np.zeros(nodes, np.bool_)
    for node in range(nodes):
        if foldable[types[node]]:
            is_stack[node] = mode[slot_start[node]] == STACK
            needed[node] = stays[value_start[node]]
        else:
            needed[node] = True
    # Who reads what, and how: a gather that one reader cannot absorb stays.
    for node in range(nodes):
        for slot in range(slot_start[node], slot_start[node + 1]):
            for part in range(part_start[slot], part_start[slot + 1]):
                source = value_node[part_value[part]]
                readers[source] += 1
                if not foldable[types[source]]:
                    continue
                inner = slot_start[source]
                if is_stack[source]:
                    single = part_start[inner + 1] - part_start[inner] == rows[source]
                    if part_index[part] == WHOLE:
                        absorbs = mode[slot] == STACK or mode[slot] == SUM or mode[slot] == MEAN or mode[slot] == MAX
                    else:
                        absorbs = single and rank[slot] == rank[inner]
                else:
                    absorbs = part_index[part] == WHOLE and mode[slot] == ROW and takes_row[types[node]]
                if not absorbs:
                    needed[source] = True
    for node in range(nodes):
        if foldable[types[node]] and not is_stack[node] and readers[node] != 1:
            parts = 0
            for part in range(part_start[slot_start[node]], part_start[slot_start[node] + 1]):
                parts += rows[value_node[part_value[part]]] if part_index[part] == WHOLE else 1
            # folded, every reader gathers all parts; kept, one launch more writes a row that every reader gathers
            if readers[node] == 0 or readers[node] * parts > readers[node] + parts + LAUNCH_ROWS:
                needed[node] = True
    # Operands come before users, so one forward sweep settles the parts of every slot.
    slots = slot_start[-1]
    low, high = np.zeros(slots, np.int64), np.zeros(slots, np.int64)
    new_mode = mode.copy()
    value, index = [np.int32(0) for _ in range(0)], [np.int32(0) for _ in range(0)]
    for node in range(nodes):
        for slot in range(slot_start[node], slot_start[node + 1]):
            low[slot] = len(value)
            for part in range(part_start[slot], part_start[slot + 1]):
                source = value_node[part_value[part]]
                if needed[source]:
                    value.append(part_value[part])
                    index.append(part_index[part])
                    continue
                inner = slot_start[source]
                if is_stack[source] and part_index[part] != WHOLE:
                    chosen = low[inner] + part_index[part]
                    value.append(value[chosen])
                    index.append(index[chosen])
                    continue
                for k in range(low[inner], high[inner]):
                    value.append(value[k])
                    index.append(index[k])
                if not is_stack[source]:
                    new_mode[slot] = mode[inner]
            high[slot] = len(value)
    kept = np.flatnonzero(needed)
    kept_slots = 0
    for node in kept:
        kept_slots += slot_start[node + 1] - slot_start[node]
    out_slots = np.zeros(kept.size + 1, np.int32)
    out_mode = np.zeros(kept_slots, np.int8)
    out_start = np.zeros(kept_slots + 1, np.int32)
    out_value, out_index = [np.int32(0) for _ in range(0)], [np.int32(0) for _ in range(0)]
    at = 0
    for k in range(kept.size):
        for slot in range(slot_start[kept[k]], slot_start[kept[k] + 1]):
            out_mode[at] = new_mode[slot]
            for part in range(low[slot], high[slot]):
                out_value.append(value[part])
                out_index.append(index[part])
            at += 1
            out_start[at] = len(out_value)
        out_slots[k + 1] = at
    return kept, out_mode, out_slots, out_start, np.array(out_value, np.int32), np.array(out_index, np.int32)
