"""Graph: what many per-sample forwards compute, as arrays. The first plan; it holds no tensors, only their shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from functools import cached_property

import numpy as np
import torch
from numba import njit

WHOLE = -1  # a part that is its whole value, not one row of it


class Mode(Enum):
    """How the parts of one operand slot become the tensor that the cell sees."""

    ROW = "row"  # exactly one part: a row of the batched operand
    STACK = "stack"  # any number of parts: the rows of a ragged operand, one after another
    SUM = "sum"  # any number of parts, reduced inside the gather to one row
    MEAN = "mean"
    MAX = "max"
    AFTER = "after"  # no data: this node must run later than its parts (state kept in trace order)


@dataclass(frozen=True)
class Spec:
    """Shape, dtype and device of one value, as the per-sample program sees it.

    A ragged value's first axis differs from node to node and is left out of `shape`.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    requires_grad: bool = False
    ragged: bool = False

    def __post_init__(self) -> None:
        # Specs are keys on the hot path of tracing: hash once.
        key = (self.shape, self.dtype, self.device.type, self.device.index, self.requires_grad, self.ragged)
        object.__setattr__(self, "_hash", hash(key))

    def __hash__(self) -> int:
        return self._hash  # type: ignore[attr-defined]

    def __reduce__(self) -> tuple[type[Spec], tuple[object, ...]]:
        return Spec, (self.shape, self.dtype, self.device, self.requires_grad, self.ragged)

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Spec:
        return cls(tuple(tensor.shape), tensor.dtype, tensor.device, tensor.requires_grad)

    @property
    def storage(self) -> tuple[tuple[int, ...], torch.dtype, torch.device]:
        """What must agree for two values to lie in one arena."""
        return self.shape, self.dtype, self.device

    def __str__(self) -> str:
        axes = (["*"] if self.ragged else []) + [str(n) for n in self.shape]
        return f"{str(self.dtype).removeprefix('torch.')}[{', '.join(axes)}]"


@dataclass(frozen=True)
class NodeType:
    """What must agree for two nodes to share a launch. `slots` are the operands that come from other nodes."""

    name: str
    slots: tuple[Mode, ...] = ()
    slot_specs: tuple[Spec, ...] = ()
    outputs: tuple[Spec, ...] = ()

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False)
class Graph:
    """The typed dataflow graph of a mini-batch, operands recorded before their users.

    type         int32 [nodes]      index into `types`
    rows         int32 [nodes]      rows the node adds to a launch: 1, or the length of its ragged axis
    sample       int32 [nodes]      the sample that recorded the node
    slot_start   int32 [nodes + 1]  node -> its slots
    part_start   int32 [slots + 1]  slot -> its parts
    part_value   int32 [parts]      the value that a part reads
    part_index   int32 [parts]      WHOLE, or the row of that value (its leading axes flattened)
    value_start  int32 [nodes + 1]  node -> the values it writes, one per output tensor
    """

    types: tuple[NodeType, ...]
    type: np.ndarray
    rows: np.ndarray
    sample: np.ndarray
    slot_start: np.ndarray
    part_start: np.ndarray
    part_value: np.ndarray
    part_index: np.ndarray
    value_start: np.ndarray

    @classmethod
    def of(cls, types: Sequence[int], operands: Sequence[Sequence[int]], names: Sequence[str] = ()) -> Graph:
        """A graph of single-output nodes whose operands are all gathered by one slot: for policies and their tests.

        >>> print(Graph.of([0, 0, 1], [[], [], [0, 1]]))
        Graph: 3 nodes of 2 types, 2 operands
        """
        kinds = max(types, default=-1) + 1
        names = names or [str(kind) for kind in range(kinds)]
        counts = [len(parts) for parts in operands]
        return cls(
            types=tuple(NodeType(name, slots=(Mode.SUM,)) for name in names),
            type=_ints(types),
            rows=np.ones(len(types), np.int32),
            sample=np.zeros(len(types), np.int32),
            slot_start=np.arange(len(types) + 1, dtype=np.int32),
            part_start=_ints([0, *np.cumsum(counts)]),
            part_value=_ints([part for parts in operands for part in parts]),
            part_index=np.full(sum(counts), WHOLE, np.int32),
            value_start=np.arange(len(types) + 1, dtype=np.int32),
        )

    def __len__(self) -> int:
        return self.type.size

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Graph):
            return NotImplemented
        return self.types == other.types and all(
            np.array_equal(getattr(self, field.name), getattr(other, field.name)) for field in fields(self)[1:]
        )

    __hash__ = None  # type: ignore[assignment]  # arrays inside: comparable, not hashable

    def __str__(self) -> str:
        return f"Graph: {len(self)} nodes of {len(self.types)} types, {self.part_value.size} operands"

    @cached_property
    def value_node(self) -> np.ndarray:
        """int32 [values]: the node that writes each value."""
        return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.value_start))

    @cached_property
    def operand_start(self) -> np.ndarray:
        """int32 [nodes + 1]: node -> its range in `operand_node`."""
        return self.part_start[self.slot_start]

    @cached_property
    def operand_node(self) -> np.ndarray:
        """int32 [parts]: the node that each part waits for (one node may appear several times)."""
        return self.value_node[self.part_value]

    def by_type(self, rows: Sequence[Sequence[object]], dtype: object) -> np.ndarray:
        """The rows of a table with one row per type, one after another in the order of the nodes."""
        count = np.array([len(row) for row in rows], np.int64)
        flat = np.array([entry for row in rows for entry in row], dtype)  # pyright: ignore[reportCallIssue, reportArgumentType]
        return _by_type(self.type, count, flat)

    def operands(self, node: int) -> np.ndarray:
        """The nodes that `node` waits for, repeated as often as it reads them."""
        return self.operand_node[self.operand_start[node] : self.operand_start[node + 1]]

    def slots(self, node: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(values, indices) of the parts of each slot of `node`."""
        for slot in range(self.slot_start[node], self.slot_start[node + 1]):
            low, high = self.part_start[slot], self.part_start[slot + 1]
            yield self.part_value[low:high], self.part_index[low:high]


@njit(cache=True)
def _by_type(types: np.ndarray, count: np.ndarray, flat: np.ndarray) -> np.ndarray:
    begin = np.cumsum(count) - count
    size = 0
    for kind in types:
        size += count[kind]
    out = np.empty(size, flat.dtype)
    at = 0
    for kind in types:
        for k in range(count[kind]):
            out[at] = flat[begin[kind] + k]
            at += 1
    return out


def _ints(values: Sequence[int]) -> np.ndarray:
    return np.asarray(values, np.int32)
