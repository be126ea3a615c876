"""Mixed: the gathered rows of an operand that come from more than one class. Picked class by class, put in order.

Found once a call for all batches, so that a batch needs nothing from the host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bale.batching.memory.layout import Layout

Unit = Callable[[int, int], int]  # of an arena and a step: the width of a row


@dataclass(frozen=True, eq=False)
class Mixed:
    """
    parts    of each mixed column, by its first gathered row: per class its arena, step, and range in these
    numbers  how many numbers the rows of such a column have
    row      int64: rows of the class; `place` int64: which row of that width of the result each becomes
    """

    parts: dict[int, list[tuple[int, int, int, int]]]
    numbers: dict[int, int]
    row: np.ndarray
    place: np.ndarray


def find_mixed(layout: Layout, columns: Sequence[tuple[int, int]], unit: Unit) -> Mixed:
    """Of the columns that gather rows `low` to `high` of the layout, from several classes."""
    parts: dict[int, list[tuple[int, int, int, int]]] = {}
    numbers: dict[int, int] = {}
    rows, places, at = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], 0
    for low, high in columns:
        code = layout.gather_arena[low:high].astype(np.int64) << 32 | layout.gather_step[low:high]
        classes, which = np.unique(code, return_inverse=True)
        known = [(int(c >> 32), int(c & 0xFFFFFFFF)) for c in classes]
        widths = np.array([unit(*c) for c in known], np.int64)[which]
        offset = np.cumsum(widths) - widths
        numbers[low], parts[low] = int(widths.sum()), []
        for number, c in enumerate(known):
            here = np.flatnonzero(which == number)
            rows.append(layout.gather_row[low:high][here].astype(np.int64))
            places.append(offset[here] // max(unit(*c), 1))
            parts[low].append((*c, at, at + here.size))
            at += here.size
    return Mixed(parts, numbers, np.concatenate(rows), np.concatenate(places))


def pick(mixed: Mixed, low: int, source: Callable[[int, int], torch.Tensor], row: torch.Tensor,
         place: torch.Tensor) -> torch.Tensor:  # fmt: skip
    """The numbers of a mixed column, in order. `source` gives a class's rows; `row`, `place`: of `mixed`."""
    parts = mixed.parts[low]
    first = source(*parts[0][:2])
    out = torch.empty(mixed.numbers[low], dtype=first.dtype, device=first.device)
    for arena, step, begin, end in parts:
        given = source(arena, step)
        unit = given.shape[1]
        if unit:
            rows = given.index_select(0, row[begin:end])
            out[: out.numel() // unit * unit].view(-1, unit).index_copy_(0, place[begin:end], rows)
    return out
