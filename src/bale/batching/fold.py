"""Fold: a stack or a reduction over a list is part of its consumer's operand gather, not a node of its own.

On lattices this is the largest gain of all: a type per arity makes several times as many batches.

A reduction with several readers repeats its work in each of them. Kept as a node it saves rows, but needs a batch, and
readers must wait for it: so nodes are kept batch by batch, where all that would run together save more than a batch
costs. Whoever reads a kept node, in a place where others have absorbed theirs, reads it as a reduction of one part, so
that a cell does not fall into two types for a few shared operands.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple

import numpy as np
from numba import njit

from bale.batching.graph import WHOLE, Graph, Mode, NodeType

MODES = tuple(Mode)
_CODE = {mode: code for code, mode in enumerate(MODES)}
ROW, STACK, SUM, MEAN, MAX = (_CODE[m] for m in (Mode.ROW, Mode.STACK, Mode.SUM, Mode.MEAN, Mode.MAX))

# Prices, in bytes gathered at 20 GB/s. One batch more takes some 150 us (plan, forward and backward; 40 in inference),
# one gathered row 55 ns whatever its width: it has entries in graph, layout and adjoint. One core of an x86-64 server,
# float32, rows of 2 to 256 numbers.
BATCH_BYTES = 3 << 20
ENTRY_BYTES = 1 << 10


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


class Flow(NamedTuple):
    """The arrays of a Graph, as compiled loops take them; `mode` and `rank` are those of `slot_modes`."""

    type: np.ndarray
    rows: np.ndarray
    slot_start: np.ndarray
    part_start: np.ndarray
    part_value: np.ndarray
    part_index: np.ndarray
    value_start: np.ndarray
    value_node: np.ndarray
    mode: np.ndarray
    rank: np.ndarray


def fold(
    graph: Graph,
    gathers: np.ndarray,
    pinned: np.ndarray,
    needed: np.ndarray | None = None,
    batch_bytes: int = BATCH_BYTES,
) -> Folded:
    """Fold the nodes of the types marked in `gathers` (bool [types]: stacks and reductions) into those that read them.

    Nodes that are not `needed` (bool [nodes]; None: all are) are left out.
    A stack is folded where every reader gathers rows anyway; a reduction into every reader that wants one row of it,
    unless it is kept. It is kept where that pays: the reductions of one type that save rows as nodes lie on levels (how
    many of them there are on the longest path to each); those of a level run as one batch, and stay if the bytes that
    they save are at least the price of one, `batch_bytes`. `pinned` (int [..]) are values that must stay: outputs;
    their readers absorb them all the same, and need not wait for them. Gathers that nobody reads go.
    O(nodes + parts), before and after folding; where reductions are kept, for each of their types.
    """
    foldable = np.array(
        [
            bool(g) and t.slot_specs[0].requires_grad == t.outputs[0].requires_grad
            for g, t in zip(gathers, graph.types, strict=True)
        ],
        bool,
    )
    needed = np.ones(len(graph), bool) if needed is None else needed
    if not foldable.any() and needed.all():
        return Folded(graph, np.arange(len(graph)), np.arange(len(graph.types)))
    flow = Flow(
        graph.type, graph.rows, graph.slot_start, graph.part_start, graph.part_value, graph.part_index,
        graph.value_start, graph.value_node, *slot_modes(graph),
    )  # fmt: skip
    takes_row = np.array([not any(spec.ragged for spec in t.slot_specs) for t in graph.types], bool)
    row_bytes = np.array([_row_bytes(t) if f else 0 for t, f in zip(graph.types, foldable, strict=True)], np.int64)
    absorbs, stays, readers = _absorbing(flow, foldable, takes_row, pinned, needed)
    whole, keeps_any = _read_whole(flow, foldable, stays, readers, row_bytes, batch_bytes)
    kept, slots, mode, part_start, part_value, part_index, value_start = _splice(flow, absorbs, stays | whole, whole)
    if keeps_any:
        _read_as_one(flow, absorbs, whole, kept, slots, mode, len(graph.types))
    types, type_index, type_of = _retype(graph, kept, mode, slots)
    folded = Graph(
        types, type_index, graph.rows[kept], graph.sample[kept], slots, part_start, part_value, part_index, value_start
    )
    return Folded(folded, kept, type_of)


def slot_modes(graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    """int8 [slots] each: the mode of every slot (an index into MODES), and the rank of the rows that it gathers."""
    modes = graph.by_type([[_CODE[m] for m in t.slots] for t in graph.types], np.int8)
    return modes, graph.by_type([[len(s.shape) for s in t.slot_specs] for t in graph.types], np.int8)


def _row_bytes(gather: NodeType) -> int:
    spec = gather.outputs[0]
    return prod(spec.shape) * spec.dtype.itemsize + ENTRY_BYTES


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
def _absorbing(flow, foldable, takes_row, pinned, needed):
    """Which parts a reader could gather in place of the node that gathers them, and which nodes must stay anyway.

    bool [parts]; bool [nodes]: no gather, or pinned, or with a reader that cannot absorb it; int32 [nodes]: how many
    slots could absorb a reduction.
    """
    nodes = flow.type.size
    absorbs = np.zeros(flow.part_value.size, np.bool_)
    stays = np.zeros(nodes, np.bool_)
    readers = np.zeros(nodes, np.int32)
    for node in range(nodes):
        stays[node] = needed[node] and not foldable[flow.type[node]]
    for value in pinned:
        stays[flow.value_node[value]] = True
    for node in range(nodes):
        if not needed[node]:
            continue
        for slot in range(flow.slot_start[node], flow.slot_start[node + 1]):
            mode = flow.mode[slot]
            for part in range(flow.part_start[slot], flow.part_start[slot + 1]):
                source = flow.value_node[flow.part_value[part]]
                if not foldable[flow.type[source]]:
                    continue
                inner = flow.slot_start[source]
                whole = flow.part_index[part] == WHOLE
                if flow.mode[inner] != STACK:
                    absorbs[part] = whole and mode == ROW and takes_row[flow.type[node]]
                    readers[source] += absorbs[part]
                elif whole:
                    absorbs[part] = mode in (STACK, SUM, MEAN, MAX)
                else:
                    single = flow.part_start[inner + 1] - flow.part_start[inner] == flow.rows[source]
                    absorbs[part] = single and flow.rank[slot] == flow.rank[inner]
                if not absorbs[part]:
                    stays[source] = True
    return absorbs, stays, readers


@njit(cache=True)
def _read_whole(flow, foldable, stays, readers, row_bytes, batch_bytes):
    """bool [nodes]: the gathers that their readers leave where they are, though they could absorb them.

    Also whether reductions are among them, and not only stacks.
    """
    nodes, types = flow.type.size, foldable.size
    whole = np.zeros(nodes, np.bool_)
    saved = np.zeros(nodes, np.int64)  # bytes, where a reduction is read instead of repeated
    total = np.zeros(types, np.int64)
    for node in range(nodes):
        kind, slot = flow.type[node], flow.slot_start[node]
        if not foldable[kind]:
            continue
        if flow.mode[slot] == STACK:
            whole[node] = stays[node]  # it is there, and its rows lie side by side
        elif readers[node] > 1 or (readers[node] == 1 and stays[node]):
            parts = 0
            for part in range(flow.part_start[slot], flow.part_start[slot + 1]):
                one = flow.part_index[part] != WHOLE
                parts += 1 if one else flow.rows[flow.value_node[flow.part_value[part]]]
            # absorbed, every reader gathers all parts; read, each gathers one row, which gathers them and is written
            rows = readers[node] * parts - readers[node] - (0 if stays[node] else parts + 1)
            saved[node] = max(rows, 0) * row_bytes[kind]
            total[kind] += saved[node]
    keeps_any = False
    for kind in range(types):
        if total[kind] > 0 and total[kind] >= batch_bytes:
            _mark_levels(flow, kind, saved, batch_bytes, whole)
            keeps_any = True
    return whole, keeps_any


@njit(cache=True)
def _mark_levels(flow, kind, saved, batch_bytes, whole):
    """Mark the reductions of type `kind` on levels that save as much as a batch costs."""
    nodes = flow.type.size
    level = np.zeros(nodes, np.int32)  # the most nodes that would be kept on any path to each node, itself included
    of_level = np.zeros(nodes + 1, np.int64)
    for node in range(nodes):
        for slot in range(flow.slot_start[node], flow.slot_start[node + 1]):
            for part in range(flow.part_start[slot], flow.part_start[slot + 1]):
                level[node] = max(level[node], level[flow.value_node[flow.part_value[part]]])
        if flow.type[node] == kind and saved[node] > 0:
            level[node] += 1
            of_level[level[node]] += saved[node]
    for node in range(nodes):
        if flow.type[node] == kind and saved[node] > 0:
            whole[node] = of_level[level[node]] >= batch_bytes


@njit(cache=True)
def _splice(flow, absorbs, stays, whole):
    """The nodes that stay, their slots with modes and parts, and their values; of what is absorbed only the parts."""
    size = _sizes(flow, absorbs, whole)
    low, parts = _places(flow, stays, size)
    kept = np.flatnonzero(stays)
    slot_start, value_start = np.zeros(kept.size + 1, np.int32), np.zeros(kept.size + 1, np.int32)
    first_value = np.zeros(stays.size, np.int32)  # of each node that stays, its first value's new number
    for k in range(kept.size):
        node = kept[k]
        slot_start[k + 1] = slot_start[k] + flow.slot_start[node + 1] - flow.slot_start[node]
        value_start[k + 1] = value_start[k] + flow.value_start[node + 1] - flow.value_start[node]
        first_value[node] = value_start[k]
    value, index, modes = _gathered(flow, absorbs, whole, first_value, size, low)
    mode, part_start = np.empty(slot_start[-1], np.int8), np.zeros(slot_start[-1] + 1, np.int32)
    for k in range(kept.size):
        for place in range(slot_start[k + 1] - slot_start[k]):
            slot = flow.slot_start[kept[k]] + place
            mode[slot_start[k] + place] = modes[slot]
            part_start[slot_start[k] + place + 1] = low[slot] + size[slot]
    return kept, slot_start, mode, part_start, value[:parts].copy(), index[:parts].copy(), value_start


@njit(cache=True)
def _sizes(flow, absorbs, whole):
    """int32 [slots]: how many parts each slot has once it has absorbed what it can."""
    size = np.zeros(flow.mode.size, np.int32)
    for slot in range(size.size):  # operands come before users, so one forward sweep settles every slot
        for part in range(flow.part_start[slot], flow.part_start[slot + 1]):
            source = flow.value_node[flow.part_value[part]]
            takes_all = absorbs[part] and not whole[source] and flow.part_index[part] == WHOLE
            size[slot] += size[flow.slot_start[source]] if takes_all else 1
    return size


@njit(cache=True)
def _places(flow, stays, size):
    """Where the parts of each slot begin: in order those of what stays, as many as are returned; the others behind."""
    at, behind = np.int64(0), np.int64(0)
    for node in range(stays.size):
        for slot in range(flow.slot_start[node], flow.slot_start[node + 1]):
            behind += size[slot] if stays[node] else 0
    parts = behind
    low = np.empty(size.size, np.int64)
    for node in range(stays.size):
        for slot in range(flow.slot_start[node], flow.slot_start[node + 1]):
            if stays[node]:
                low[slot] = at
                at += size[slot]
            else:
                low[slot] = behind
                behind += size[slot]
    return low, parts


@njit(cache=True)
def _gathered(flow, absorbs, whole, first_value, size, low):
    """The parts of every slot, where `low` places them, with values renumbered; and the mode of every slot."""
    value, index = np.empty(size.sum(), np.int32), np.empty(size.sum(), np.int32)
    modes = flow.mode.copy()
    for slot in range(size.size):
        at = low[slot]
        for part in range(flow.part_start[slot], flow.part_start[slot + 1]):
            source = flow.value_node[flow.part_value[part]]
            if not absorbs[part] or whole[source]:
                value[at] = first_value[source] + flow.part_value[part] - flow.value_start[source]
                index[at] = flow.part_index[part]
                at += 1
                continue
            inner = flow.slot_start[source]
            first, end = low[inner], low[inner] + size[inner]
            if flow.part_index[part] != WHOLE:  # a row of a stack
                first += flow.part_index[part]
                end = first + 1
            elif flow.mode[inner] != STACK:
                modes[slot] = flow.mode[inner]
            for entry in range(first, end):
                value[at], index[at] = value[entry], index[entry]
                at += 1
    return value, index, modes


@njit(cache=True)
def _read_as_one(flow, absorbs, whole, kept, slots, mode, types):
    """Let readers of reductions that stay read a reduction of one part, where others of their type absorbed theirs."""
    most = 1
    for k in range(kept.size):
        most = max(most, slots[k + 1] - slots[k])
    absorbed = np.zeros((types, most, len(MODES)), np.bool_)
    for marking in (True, False):
        for k in range(kept.size):
            node = kept[k]
            for place in range(slots[k + 1] - slots[k]):
                slot = flow.slot_start[node] + place
                part = flow.part_start[slot]
                if flow.mode[slot] != ROW or not absorbs[part]:
                    continue
                source = flow.value_node[flow.part_value[part]]
                how = flow.mode[flow.slot_start[source]]
                if how == STACK:
                    continue
                if marking:
                    absorbed[flow.type[node], place, how] |= not whole[source]
                elif whole[source] and absorbed[flow.type[node], place, how]:
                    mode[slots[k] + place] = how


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
