"""How is a trace written down while it runs, and how does that become a Graph?

A trace appends whole numbers to one Stream, a record per node:

    fixed types    type, one part per slot, one entry per constant, padding
    others         type, length, (number of parts, parts) per slot, one entry per constant, padding

Padding makes a record at least as long as its node has outputs, so that `position of the record + k` is a code for
output k without counting anything. A part is the code of a value, plus (index + 1) << 32 for one row of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from bale.batching.cells.celltype import CellType
from bale.batching.graph import WHOLE, Mode
from bale.batching.trace.recording import Stream

ROW = 1 << 32  # what one row further adds to a part
CODE = ROW - 1  # the bits of a part that name its value


@dataclass(frozen=True)
class Format:
    """How the records of one type are laid out."""

    type: int
    slots: int
    constants: int
    outputs: int
    fixed: bool

    @classmethod
    def of(cls, cell: CellType, type: int) -> Format:
        node = cell.node_type
        fixed = not cell.ragged and all(mode is Mode.ROW for mode in node.slots)
        return cls(type, len(node.slots), cell.constants, len(node.outputs), fixed)

    def record(self, slots: Sequence[Sequence[int]], constants: Sequence[int], length: int) -> list[int]:
        """A node, from the parts of its slots and the entries of its constants."""
        if self.fixed:
            numbers = [self.type, *(part for (part,) in slots), *constants]
        else:
            numbers = [self.type, length]
            for parts in slots:
                numbers.append(len(parts))
                numbers += parts
            numbers += constants
        return numbers + [0] * (self.outputs - len(numbers))


@dataclass(frozen=True, eq=False)
class Decoded:
    """The arrays of a Graph, the constants of its nodes, and `value_at`: code of a value -> its number."""

    type: np.ndarray
    rows: np.ndarray
    position: np.ndarray
    slot_start: np.ndarray
    part_start: np.ndarray
    part_value: np.ndarray
    part_index: np.ndarray
    value_start: np.ndarray
    constant_start: np.ndarray
    constant: np.ndarray
    value_at: np.ndarray


def decode(stream: Stream, formats: Sequence[Format]) -> Decoded:
    numbers = np.frombuffer(stream.tobytes(), np.int64)
    table = np.array([(f.slots, f.constants, f.outputs, f.fixed) for f in formats], np.int64).reshape(-1, 4)
    counts = _count(numbers, table)
    return Decoded(*_decode(numbers, table, *counts))


@njit(cache=True)
def _count(stream, table):
    nodes = slots = parts = constants = 0
    at = 0
    while at < stream.size:
        kind = stream[at]
        start = at
        nodes += 1
        slots += table[kind, 0]
        constants += table[kind, 1]
        if table[kind, 3]:
            parts += table[kind, 0]
            at += 1 + table[kind, 0]
        else:
            at += 2
            for _ in range(table[kind, 0]):
                parts += stream[at]
                at += 1 + stream[at]
        at = max(at + table[kind, 1], start + table[kind, 2])
    return nodes, slots, parts, constants


@njit(cache=True)
def _decode(stream, table, nodes, slots, parts, constants):
    types = np.empty(nodes, np.int32)
    rows = np.ones(nodes, np.int32)
    position = np.empty(nodes, np.int64)
    slot_start = np.zeros(nodes + 1, np.int32)
    part_start = np.zeros(slots + 1, np.int32)
    part_value = np.empty(parts, np.int32)
    part_index = np.empty(parts, np.int32)
    value_start = np.zeros(nodes + 1, np.int32)
    constant_start = np.zeros(nodes + 1, np.int64)
    constant = np.empty(constants, np.int64)
    value_at = np.full(stream.size, -1, np.int32)
    at = slot = part = entry = 0
    for node in range(nodes):
        start = at
        kind = stream[at]
        types[node] = kind
        position[node] = at
        fixed = table[kind, 3]
        at += 1
        if not fixed:
            rows[node] = stream[at]
            at += 1
        for _ in range(table[kind, 0]):
            count = 1
            if not fixed:
                count = stream[at]
                at += 1
            for _ in range(count):
                part_value[part] = value_at[stream[at] & CODE]
                part_index[part] = (stream[at] >> 32) + WHOLE
                part += 1
                at += 1
            slot += 1
            part_start[slot] = part
        slot_start[node + 1] = slot
        for _ in range(table[kind, 1]):
            constant[entry] = stream[at]
            entry += 1
            at += 1
        constant_start[node + 1] = entry
        first = value_start[node]
        for k in range(table[kind, 2]):
            value_at[start + k] = first + k
        value_start[node + 1] = first + table[kind, 2]
        at = max(at, start + table[kind, 2])
    return (types, rows, position, slot_start, part_start, part_value, part_index, value_start, constant_start,
            constant, value_at)  # fmt: skip
