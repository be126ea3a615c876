"""States: which number has a state of the frontier? A hash table from short rows of integers to 0, 1, 2, ..."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numba import njit

NEW = -1  # the number of a state that is not in the table


class States(NamedTuple):
    """States in the order in which they were added; `add` fills it in place, `with_room` makes a larger one.

    slot   int32 [a power of two]  the state that hashes there, or NEW; of several, each goes to the next free slot
    start  int32 [room + 1]        state -> its range in `item`
    item   int32 [...]             the integers of each state
    used   int32 [1]               how many there are
    """

    slot: np.ndarray
    start: np.ndarray
    item: np.ndarray
    used: np.ndarray

    @classmethod
    def of(cls, rows: Iterable[Iterable[int]]) -> States:
        """A table of these states, which must differ."""
        listed = [np.array(list(row), np.int32) for row in rows]
        states = with_room(cls.empty(), len(listed), sum(row.size for row in listed))
        for row in listed:
            add(states, row, row.size)
        return states

    @classmethod
    def empty(cls) -> States:
        return cls(np.full(2, NEW, np.int32), np.zeros(1, np.int32), np.zeros(0, np.int32), np.zeros(1, np.int32))

    def rows(self) -> list[tuple[int, ...]]:
        """The states, each as a tuple."""
        return [tuple(self.item[self.start[k] : self.start[k + 1]].tolist()) for k in range(int(self.used[0]))]


def with_room(states: States, more: int, items: int) -> States:
    """The same table, in which at least `more` new states with `items` integers in all find room."""
    count = int(states.used[0])
    filled = int(states.start[count])
    room, length = states.start.size - 1, states.item.size
    if count + more <= room and filled + items <= length:
        return states
    if count + more > room:
        room = max(2 * room, count + more)
    if filled + items > length:
        length = max(2 * length, filled + items)
    slots = 1 << (2 * room).bit_length()  # at most half full, so that a free slot is near
    start, item = np.zeros(room + 1, np.int32), np.zeros(length, np.int32)
    larger = States(np.full(slots, NEW, np.int32), start, item, np.zeros(1, np.int32))
    _copy(states, larger)
    return larger


@njit(cache=True)
def find(states: States, row: np.ndarray, size: int) -> int:
    """The number of the state row[:size], or NEW."""
    return int(states.slot[_slot(states, row, size)])


@njit(cache=True)
def add(states: States, row: np.ndarray, size: int) -> int:
    """The number of the state row[:size], which is added where it is new; there must be room."""
    slot = _slot(states, row, size)
    if states.slot[slot] == NEW:
        number = states.used[0]
        low = states.start[number]
        states.item[low : low + size] = row[:size]
        states.start[number + 1] = low + size
        states.slot[slot] = number
        states.used[0] = number + 1
    return int(states.slot[slot])


@njit(cache=True)
def _slot(states: States, row: np.ndarray, size: int) -> int:
    """Where the state row[:size] is, or else belongs."""
    mask = states.slot.size - 1
    slot = np.int64(_hash(row, size) & np.uint64(mask))
    while states.slot[slot] != NEW and not _same(states, states.slot[slot], row, size):
        slot = (slot + 1) & mask
    return int(slot)


@njit(cache=True)
def _same(states: States, number: int, row: np.ndarray, size: int) -> bool:
    low = states.start[number]
    if states.start[number + 1] - low != size:
        return False
    return bool(np.array_equal(states.item[low : low + size], row[:size]))


@njit(cache=True)
def _hash(row: np.ndarray, size: int) -> np.uint64:
    """FNV-1a over the integers (Fowler, Noll, Vo), its high bits folded into the low ones that are used."""
    code = np.uint64(14695981039346656037)
    for k in range(size):
        code = (code ^ np.uint64(row[k])) * np.uint64(1099511628211)
    return code ^ (code >> np.uint64(32))


@njit(cache=True)
def _copy(states: States, larger: States) -> None:
    for number in range(states.used[0]):
        low, high = states.start[number], states.start[number + 1]
        add(larger, states.item[low:high], high - low)
