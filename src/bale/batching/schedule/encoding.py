"""Encodings: what does a finite-state policy see of the frontier? A short row of integers, its state."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numba import njit

from bale.batching.schedule.frontier import Frontier
from bale.batching.schedule.height import Levels


class Encoding(IntEnum):
    """The states of a policy. The first three are ED-Batch's (ICML 2023, section 2.3).

    All but SHARE look only at how many nodes of each type are ready, so they cannot tell the middle of a run from its
    end, and the sets of a larger mini-batch are not those of a smaller one. SHARE is ours: it sees by how much each
    ready type would shorten what remains, which means the same at every size.
    """

    BASE = 0  # the set of ready types
    MAX = 1  # that set, and the type with most ready nodes
    SORT = 2  # the ready types, most ready nodes first
    SHARE = 3  # the ready types, each with its share of the highest nodes (height.py) as one of `SHARES`

    def __str__(self) -> str:
        return self.name.lower()


# The lower ends of the shares that SHARE tells apart; only a share of exactly 1 is the last.
SHARES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
_SHARES = np.array(SHARES)


def describe(encoding: Encoding, state: Sequence[int], names: Sequence[str]) -> list[str]:
    """The parts of a state, for people; `names` are those of the types.

    >>> describe(Encoding.SHARE, [5, 7], ["leaf", "inner"])
    ['leaf = 1', 'inner 0.25 to 0.5']
    """
    if encoding == Encoding.SHARE:
        kinds, levels = zip(*(divmod(code, len(SHARES)) for code in state), strict=True) if state else ((), ())
        last = len(SHARES) - 1
        return [
            f"{names[kind]} " + ("= 1" if level == last else f"{SHARES[level]:g} to {SHARES[level + 1]:g}")
            for kind, level in zip(kinds, levels, strict=True)
        ]
    if encoding == Encoding.MAX:
        return [*(names[kind] for kind in state[:-1]), f"most: {names[state[-1]]}"]
    return [names[kind] for kind in state]


@njit(cache=True)
def encode(encoding: int, frontier: Frontier, levels: Levels, state: np.ndarray) -> int:
    """Write the state of a frontier to `state`, int32 [at least types + 1], and return its length.

    Ties go to the lower type. `levels` is read by SHARE alone.
    """
    types = frontier.low.size
    size = 0
    for kind in range(types):
        if frontier.high[kind] > frontier.low[kind]:
            state[size] = kind
            size += 1
    if encoding == Encoding.MAX and size > 0:
        most = state[0]
        for k in range(1, size):
            if _ready(frontier, state[k]) > _ready(frontier, most):
                most = state[k]
        state[size] = most
        return size + 1
    if encoding == Encoding.SORT:
        for k in range(1, size):  # by insertion: stable, and there are few types
            kind, at = state[k], k
            while at > 0 and _ready(frontier, state[at - 1]) < _ready(frontier, kind):
                state[at] = state[at - 1]
                at -= 1
            state[at] = kind
    if encoding == Encoding.SHARE:
        for k in range(size):
            kind = state[k]
            top = levels.top[kind]
            share = levels.own[top] / (levels.own[top] + levels.others[top])
            state[k] = kind * _SHARES.size + np.searchsorted(_SHARES, share, side="right") - 1
    return size


@njit(cache=True)
def _ready(frontier: Frontier, kind: int) -> int:
    return frontier.high[kind] - frontier.low[kind]
