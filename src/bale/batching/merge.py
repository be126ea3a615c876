"""Merge: which nodes compute the same thing, so that it is computed once? Hash-consing, on arrays.

Gradients stay those of the per-sample loop: what reaches a merged value is the sum over its readers.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numba import njit
from torch.autograd.function import BackwardCFunction
from torch.overrides import TorchFunctionMode

from bale.batching.cells.call import Kind
from bale.batching.cells.celltype import CellType
from bale.batching.graph import Graph
from bale.batching.trace.tracer import TypeUse


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
        graph.value_start, mergeable, constant_start.astype(np.int64), constant_id.astype(np.int64),
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


def mergeable_types(uses: Mapping[CellType, TypeUse]) -> np.ndarray:
    """bool [types]: the types whose nodes are functions of their operands and constants, and add up gradients."""
    return np.array([_is_function(cell) and _adds_gradients(cell, use) for cell, use in uses.items()], bool)


def _is_function(cell: CellType) -> bool:
    return not (cell.draws or cell.seeded or cell.stateful)


_known: WeakKeyDictionary[CellType, bool] = WeakKeyDictionary()


def _adds_gradients(cell: CellType, use: TypeUse) -> bool:
    """Is the gradient for the sum of two readers' gradients the sum of the gradients for each?

    So it is for torch's own functions. Of hooks and of custom backwards (one that clips, say) nobody knows.
    """
    if cell not in _known:
        _known[cell] = cell.row is None or not (_hooked(cell.module) or _has_own_backward(cell, use))
    return _known[cell]


def _hooked(module: torch.nn.Module | None) -> bool:
    return module is not None and any(m._backward_hooks or m._backward_pre_hooks for m in module.modules())


def _has_own_backward(cell: CellType, use: TypeUse) -> bool:
    """Run one row, and look for hooks and nodes made in Python in what autograd recorded; yes where that fails."""
    assert cell.call is not None and cell.row is not None
    if not any(spec.requires_grad for spec in cell.node_type.outputs):
        return False
    watch = _HookWatch()
    # what is only tried is none of the user's business: no warning, nothing saved by hooks of the user's own
    unseen = torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor)
    try:
        with warnings.catch_warnings(action="ignore"), unseen, cell.call.state(), watch:
            outputs = cell.row(*_one_row(cell, use))
    except Exception:
        return True
    return watch.registered or any(isinstance(node, BackwardCFunction) for node in _nodes(outputs))


class _HookWatch(TorchFunctionMode):
    """Notes whether a hook is registered on a tensor."""

    registered = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.registered |= func is torch.Tensor.register_hook
        return func(*args, **(kwargs or {}))


def _one_row(cell: CellType, use: TypeUse) -> Iterator[torch.Tensor]:
    """Operands of zeros and the constants of the type's first node."""
    slots, constants = iter(cell.node_type.slot_specs), iter(use.constants)
    for kind, ragged, dtype in zip(cell.kinds, cell.ragged_columns, cell.number_dtypes, strict=True):
        if kind is Kind.VALUE:
            spec = next(slots)
            yield torch.zeros(spec.shape, dtype=spec.dtype, device=spec.device, requires_grad=spec.requires_grad)
            continue
        constant = next(constants)[0]
        if kind is Kind.NUMBER:
            yield torch.tensor(constant, dtype=dtype, device=cell.device)
        else:
            row = constant.detach()[0] if ragged else constant.detach()
            yield row.clone().requires_grad_(constant.requires_grad)


def _nodes(outputs: Iterable[torch.Tensor]) -> Iterator[Any]:
    """The nodes of autograd's graph below `outputs`."""
    seen: set[Any] = set()
    pending = [out.grad_fn for out in outputs]
    while pending:
        node = pending.pop()
        if node is not None and node not in seen:
            seen.add(node)
            pending += [below for below, _ in node.next_functions]
            yield node


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
