"""When does which matrix work on which position? An event for each position of each call of each image.

Within a layer (`bale.hardware.vector`): fetch, a cycle for each input digit, then conversion, shift-and-add, output
register, activation, write. A copy takes a new vector when the last one's digits are through. Between layers:
a position starts when its copy, to which vectors go in turn and images in order, is free, and what it waits for is
written. Buffers are never full, and the way between tiles takes no time of its own: neither is modelled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from bale.hardware.chip import Chip
from bale.hardware.mapping import Placement, copy_cycles
from bale.hardware.network import Network


@dataclass(frozen=True, eq=False)
class Timeline:
    """When calls work: `start`, `end` [images, calls], in ns, of their first and last position; `written` per turn."""

    start: np.ndarray
    end: np.ndarray
    written: tuple[float, ...]  # when a turn's cells are written, in ns; nothing is where everything stays in place

    @property
    def images(self) -> int:
        return len(self.end)

    @property
    def total_ns(self) -> float:
        """Until the last image's last result."""
        return float(self.end.max())

    @property
    def latency_ns(self) -> float:
        """Of the first image, from its arrival to its last result; the chip is idle and waits for it."""
        return float(self.end[0].max())

    @property
    def interval_ns(self) -> float:
        """Between one image and the next, when many follow one another."""
        ends = self.end.max(axis=1)
        return float(ends[-1] - ends[-2]) if not any(self.written) and self.images > 1 else self.total_ns / self.images


def timeline(network: Network, placement: Placement, images: int) -> Timeline:
    """Follow `images` images, which all wait at the chip when it begins; each turn takes all of them."""
    chip = placement.chip
    start = np.zeros((images, len(network.calls)))
    end = np.zeros_like(start)
    done: dict[tuple[int, int], np.ndarray] = {}  # when everything up to a position is written
    now, written = 0.0, []
    for turn in range(placement.turns):
        names = set(placement.in_turn(turn))
        parts = placement.places[next(iter(names))].parts
        if placement.turns > 1 or parts > 1:
            now += parts * _write_cycles(placement, names)
        written.append(now * chip.cycle_ns)
        free = {name: np.full(placement.places[name].copies, now) for name in names}
        for image in range(images):
            taken = dict.fromkeys(names, 0)  # vectors of this image, which go to copies in turn
            for index, call in enumerate(network.calls):
                if call.matrix not in names:
                    continue
                ready = np.full(call.positions, now)
                for edge in call.inputs:
                    np.maximum(ready, done[image, edge.producer][edge.last], out=ready)
                vector = placement.matrices[call.matrix].vector(chip).in_parts(parts)
                busy, through = float(vector.occupied), float(vector.through)
                copies, before = free[call.matrix], taken[call.matrix]
                first, finished = _positions(ready, copies, before, busy, through, call.use.in_turn)
                taken[call.matrix] += call.positions
                done[image, index] = finished
                start[image, index], end[image, index] = first, finished[-1]
        now = max(now, end.max())
    return Timeline(start * chip.cycle_ns, end * chip.cycle_ns, tuple(written))


def _write_cycles(placement: Placement, names: set[str]) -> float:
    """A turn's cells: crossbars side by side, their rows one after the other."""
    rows = max(block.rows for name in names for block in placement.matrices[name].blocks)
    return rows * placement.chip.cell.write_ns / placement.chip.cycle_ns


@njit(cache=True)
def _positions(ready, free, before, busy, through, in_turn):  # type: ignore[no-untyped-def]
    """Send positions through copies in turn; return the first start, and when all up to each position are done.

    `before` vectors of the image have been sent already. With `in_turn` a position waits for the one so many before it.
    """
    done = np.empty(ready.size)
    finished = np.empty(ready.size)
    first = np.inf
    latest = 0.0
    for position in range(ready.size):
        copy = (before + position) % free.size
        begin = max(ready[position], free[copy])
        if in_turn and position >= in_turn:
            begin = max(begin, done[position - in_turn])
        free[copy] = begin + busy
        first = min(first, begin)
        done[position] = begin + through
        latest = max(latest, done[position])
        finished[position] = latest
    return first, finished


def bottleneck_ns(network: Network, placement: Placement) -> float:
    """How long one image occupies the busiest copy of any matrix: no pipeline of these copies takes images faster."""
    chip: Chip = placement.chip

    def busy_cycles(name: str) -> int:
        placed = placement.places[name]
        vector = placement.matrices[name].vector(chip).in_parts(placed.parts)
        return copy_cycles(network, name, vector, placed.copies)

    return max(map(busy_cycles, placement.places)) * chip.cycle_ns
