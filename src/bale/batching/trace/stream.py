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
    """The records of one stream."""
    numbers = np.frombuffer(stream.tobytes(), np.int64)
    return decode_pieces([numbers], [range(len(formats))], [0], formats)


def decode_pieces(
    streams: Sequence[np.ndarray], types: Sequence[Sequence[int]], entries: Sequence[int], formats: Sequence[Format]
) -> Decoded:
    """The records of several streams, one after another.

    In each, parts count from its own beginning; `types` says which of `formats` each of its types is, and `entries`
    where its constants begin among all.
    """
    table = np.array([(f.slots, f.constants, f.outputs, f.fixed) for f in formats], np.int64).reshape(-1, 4)
    start = np.cumsum([0, *map(len, streams)])
    type_start = np.cumsum([0, *map(len, types)])
    type_of = np.array([kind for each in types for kind in each], np.int64)
    numbers = streams[0] if len(streams) == 1 else np.concatenate(streams or [np.zeros(0, np.int64)])
    given = numbers, start, type_start, type_of, table
    return Decoded(*_decode(*given, np.array(entries, np.int64), *_count(*given)))


@njit(cache=True)
def _count(stream, piece_start, type_start, type_of, table):
    nodes = slots = parts = constants = 0
    for piece in range(piece_start.size - 1):
        at = piece_start[piece]
        while at < piece_start[piece + 1]:
            kind = type_of[type_start[piece] + stream[at]]
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
def _decode(stream, piece_start, type_start, type_of, table, entries, nodes, slots, parts, constants):
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
    at = slot = part = entry = piece = 0
    for node in range(nodes):
        while at >= piece_start[piece + 1]:
            piece += 1
        low = piece_start[piece]
        start = at
        kind = type_of[type_start[piece] + stream[at]]
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
                part_value[part] = value_at[low + (stream[at] & CODE)]
                part_index[part] = (stream[at] >> 32) + WHOLE
                part += 1
                at += 1
            slot += 1
            part_start[slot] = part
        slot_start[node + 1] = slot
        for _ in range(table[kind, 1]):
            constant[entry] = entries[piece] + stream[at]
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


@dataclass(frozen=True, eq=False)
class Cut:
    """A stream cut into samples, each with its own count of parts, types and entries.

    `types` and `entries` list, sample after sample, what its numbers stood for; `type_start` and `entry_start` say
    where each sample's begin. `foreign` is a sample that reads a value of another, or -1.
    """

    stream: np.ndarray
    types: np.ndarray
    type_start: np.ndarray
    entries: np.ndarray
    entry_start: np.ndarray
    foreign: int


def cut(stream: np.ndarray, sample_start: np.ndarray, formats: Sequence[Format], entries: int) -> Cut:
    """Cut a stream where its samples begin; `entries` is the number of its constants. O(its length)."""
    table = np.array([(f.slots, f.constants, f.outputs, f.fixed) for f in formats], np.int64).reshape(-1, 4)
    ends = np.append(sample_start, stream.size)
    return Cut(*_cut(stream, ends, table, entries))


@njit(cache=True)
def _cut(stream, ends, table, entries):
    samples = ends.size - 1
    out = stream.copy()
    types, used = [np.int64(0) for _ in range(0)], [np.int64(0) for _ in range(0)]
    type_start, entry_start = np.zeros(samples + 1, np.int64), np.zeros(samples + 1, np.int64)
    type_of, entry_of = np.full((table.shape[0], 2), -1), np.full((entries, 2), -1)  # sample, and number there
    foreign = -1
    for sample in range(samples):
        at, low = ends[sample], ends[sample]
        while at < ends[sample + 1]:
            start, kind = at, stream[at]
            if type_of[kind, 0] != sample:
                type_of[kind, 0], type_of[kind, 1] = sample, len(types) - type_start[sample]
                types.append(kind)
            out[at] = type_of[kind, 1]
            at += 1 if table[kind, 3] else 2
            for _ in range(table[kind, 0]):
                count = 1
                if not table[kind, 3]:
                    count = stream[at]
                    at += 1
                for _ in range(count):
                    if (stream[at] & CODE) < low:
                        foreign = sample
                    out[at] = stream[at] - low
                    at += 1
            for _ in range(table[kind, 1]):
                entry = stream[at]
                if entry_of[entry, 0] != sample:
                    entry_of[entry, 0], entry_of[entry, 1] = sample, len(used) - entry_start[sample]
                    used.append(entry)
                out[at] = entry_of[entry, 1]
                at += 1
            at = max(at, start + table[kind, 2])
        type_start[sample + 1], entry_start[sample + 1] = len(types), len(used)
    return out, np.array(types), type_start, np.array(used), entry_start, foreign
