"""How long do inputs keep a line's MACs busy? Digits of real data, by pass and row, whatever the weights are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bale.hardware.mac_array.array import MacArray
from bale.hardware.mac_array.booth import digit_counts, digit_places
from bale.hardware.mac_array.rows import RowShape


@dataclass(frozen=True, eq=False)
class Activity:
    """What the vectors of one product ask of a line, for each row of weights that it has to multiply by.

    A pass is a part of a plane's row, as many outputs as a slice has accumulators; where a plane is one wide, one
    position. `cycles`: of the line; `digits`: of all its MACs that are not skipped; both [passes, groups, rows].
    `active`: whether the index selector lets the row of inputs through. `numbers`: of the input buffer that a line
    reads for it, [passes, rows]. `lines`, `line` [rows]: how many there are, and which works on a row of weights.
    """

    cycles: np.ndarray
    digits: np.ndarray
    active: np.ndarray
    numbers: np.ndarray
    positions: int
    lines: int
    line: np.ndarray

    @property
    def passes(self) -> int:
        return len(self.cycles)


def activity(array: MacArray, shape: RowShape, vectors: np.ndarray, groups: int, width: int, signed: bool) -> Activity:
    """Measure the vectors [positions, groups * inputs] of one sample, integers of the array's input bits.

    `width`: positions of a row of the plane. Where it is 1, no two positions share a weight in a pass, and each MAC is
    a line of its own, with a row of weights of its own (our inference of what the paper calls clusters).
    """
    alone = width == 1
    pass_start, step_start = _starts(len(vectors), width, 1 if alone else array.sums, 1 if alone else array.macs)
    cut = shape.cut(vectors, groups)  # [positions, groups, rows, size]
    real = np.arange(shape.size) < shape.taps[:, None]
    digits = digit_counts(cut, array.input_bits, signed)
    if not array.skip_zero_digits:
        digits = np.broadcast_to(digit_places(array.input_bits, signed) * real, cut.shape)
    busy = np.maximum(digits, 1) * real  # a weight takes a cycle even where its input is zero
    if array.wait == "tap":
        steps = np.maximum.reduceat(busy, step_start, axis=0).sum(axis=3, dtype=np.int64)
    else:
        steps = np.maximum.reduceat(busy.sum(axis=3, dtype=np.int64), step_start, axis=0)
    passes_of_steps = np.searchsorted(step_start, pass_start)
    active = np.logical_or.reduceat(cut.any(axis=3), pass_start, axis=0)
    if not array.skip_zero_inputs:
        active = np.ones_like(active)
    many = np.diff(pass_start, append=len(vectors))
    lines = array.lines * array.macs if alone else array.lines
    return Activity(
        cycles=np.add.reduceat(steps, passes_of_steps, axis=0).astype(np.float64) * active,
        digits=np.add.reduceat(digits.sum(axis=3, dtype=np.int64), pass_start, axis=0).astype(np.float64) * active,
        active=active,
        numbers=shape.numbers(many),
        positions=len(vectors),
        lines=lines,
        line=shape.line(lines, alone),
    )


def _starts(positions: int, width: int, of_pass: int, of_step: int) -> tuple[np.ndarray, np.ndarray]:
    """The first position of each pass, and of each step of `of_step` positions within it."""
    place = np.arange(positions) % width  # in its row of the plane
    in_pass = place % of_pass
    return np.flatnonzero(in_pass == 0), np.flatnonzero(in_pass % of_step == 0)
