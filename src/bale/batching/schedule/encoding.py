"""Encodings: what does a finite-state policy see of the frontier? A short row of integers, its state."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numba import njit

from bale.batching.schedule.frontier import Frontier
from bale.batching.schedule.height import Levels, Variant, score


class Encoding(IntEnum):
    """The states of a policy. The first three are ED-Batch's (ICML 2023, section 2.3).

    They look only at how many nodes of each type are ready, so they cannot tell the beginning of a run from its end,
    and the sets of a large mini-batch are not those of a small one. SHARE is ours. It sees by how much each ready type
    would shorten what remains (height.py), which means the same at every size; and it asks only where that is in
    doubt: a type that is sure to shorten it runs without a look at the table.
    """

    BASE = 0  # the set of ready types
    MAX = 1  # that set, and the type with most ready nodes
    SORT = 2  # the ready types, most ready nodes first
    SHARE = 3  # the two ready types of highest soft share, each with its share: below a half, or not

    def __str__(self) -> str:
        return self.name.lower()


SEEN = 2  # types in a state of SHARE; more make more states than a mini-batch can teach
SURE = -2  # what stands for the number of a state where SHARE does not ask the table


def codes(encoding: Encoding, types: int) -> int:
    """How many integers, from 0 on, states over so many types are made of."""
    return 2 * types if encoding == Encoding.SHARE else types


def describe(encoding: Encoding, state: Sequence[int], names: Sequence[str]) -> list[str]:
    """The parts of a state, for people; `names` are those of the types.

    >>> describe(Encoding.SHARE, [1, 2], ["leaf", "inner"])
    ['leaf >= 1/2', 'inner < 1/2']
    """
    if encoding == Encoding.SHARE:
        return [f"{names[code // 2]} {'>=' if code % 2 else '<'} 1/2" for code in state]
    if encoding == Encoding.MAX:
        return [*(names[kind] for kind in state[:-1]), f"most: {names[state[-1]]}"]
    return [names[kind] for kind in state]


@njit(cache=True)
def sure(encoding: int, frontier: Frontier, levels: Levels) -> int:
    """The first type that SHARE runs without a look at the table; -1 where there is none, and for other encodings."""
    if encoding == Encoding.SHARE:
        for kind in range(frontier.low.size):
            top = levels.top[kind]
            if _ready(frontier, kind) > 0 and levels.own[top] > 0 and levels.others[top] == 0:
                return kind
    return -1


@njit(cache=True)
def encode(encoding: int, frontier: Frontier, levels: Levels, state: np.ndarray) -> int:
    """Write the state of a frontier to `state`, int32 [at least types + 1], and return its length; 0 where it is empty.

    Ties go to the lower type. `levels` is read by SHARE alone.
    """
    size = 0
    for kind in range(frontier.low.size):
        if _ready(frontier, kind) > 0:
            state[size] = kind
            size += 1
    if encoding == Encoding.SHARE:
        return _by_share(frontier, levels, state, size)
    ready = np.empty(size, np.int64)
    for k in range(size):
        ready[k] = _ready(frontier, state[k])
    if encoding == Encoding.MAX and size > 0:
        state[size] = state[np.argmax(ready)]
        return size + 1
    if encoding == Encoding.SORT:
        state[:size] = state[:size][np.argsort(-ready, kind="mergesort")]  # stable
    return size


@njit(cache=True)
def _by_share(frontier: Frontier, levels: Levels, state: np.ndarray, size: int) -> int:
    """Turn the ready types state[:size] into the state that SHARE sees."""
    in_all = (frontier.high - frontier.low).sum()
    share = np.empty(size, np.float64)
    for k in range(size):
        ready = _ready(frontier, state[k])
        share[k] = score(levels, state[k], ready, in_all - ready, Variant.SOFT_SHARE)
    order = np.argsort(-share, kind="mergesort")[:SEEN]
    kinds = state[order]
    for k in range(order.size):
        state[k] = 2 * kinds[k] + (share[order[k]] >= 0.5)
    return order.size


@njit(cache=True)
def _ready(frontier: Frontier, kind: int) -> int:
    return int(frontier.high[kind] - frontier.low[kind])
