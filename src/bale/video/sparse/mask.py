"""Which cells of a grid hold something that is set, and which cells of a map depend on it?

A mask is bool [rows, columns]. Sparse inference (SSI; Mao et al., TECS 2022) computes a network only under one; how it
is changed from grid to grid is our reconstruction, the body of the paper was not at hand.

Everything here goes through spans: for each place along an axis, which interval of another axis belongs to it (the
pixels of a cell, the inputs that an output reads, the blocks under a tile). Spans compose, and are known before a mask
is; a mask is then looked up in the sums over its rectangles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, reduce

import numpy as np
from numba import njit
from torch import nn

from bale.errors import VideoError

BLOCK = 16
"""Side of the blocks of a frame whose motion is known, pixels: a macroblock of H.264."""


@dataclass(frozen=True)
class Window:
    """What an output of a convolution reads, along one axis.

    `transposed`: the convolution scatters its inputs `stride` apart; `extra` is then its output padding.
    """

    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    transposed: bool = False
    extra: int = 0

    @property
    def reach(self) -> int:
        """Between the first and the last tap of the kernel, inputs (of a transposed convolution: outputs)."""
        return (self.kernel - 1) * self.dilation

    @property
    def ahead(self) -> int:
        """How many outputs before the first one its tiles begin.

        From there on each `stride` outputs of a transposed convolution read the same inputs, as few as there can be.
        """
        return self.padding % self.stride if self.transposed else 0

    def outputs(self, inputs: int) -> int:
        """How many outputs there are of so many inputs."""
        if self.transposed:
            return (inputs - 1) * self.stride - 2 * self.padding + self.reach + 1 + self.extra
        return (inputs + 2 * self.padding - self.reach - 1) // self.stride + 1

    def reads(self, first: int, count: int) -> tuple[int, int]:
        """Return the first of the inputs that `count` outputs from `first` on read, and how many; may be in padding."""
        last = first + count - 1
        if self.transposed:  # output o = input i * stride - padding + tap
            begin = -((self.reach - first - self.padding) // self.stride)
            return begin, max((last + self.padding) // self.stride - begin + 1, 0)
        return first * self.stride - self.padding, (count - 1) * self.stride + self.reach + 1


Windows = tuple[Window, Window]
"""Down and across."""


def windows_of(module: nn.Conv2d | nn.ConvTranspose2d) -> Windows:
    """Return a layer's windows, down and across; raises `VideoError` where its padding is not a number of zeros."""
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise VideoError(f"{module}: only padding with zeros, given as numbers, can be computed sparsely")
    transposed = isinstance(module, nn.ConvTranspose2d)

    def along(axis: int) -> Window:
        numbers = (module.kernel_size, module.stride, module.padding, module.dilation)
        kernel, stride, padding, dilation = (int(each[axis]) for each in numbers)
        extra = int(module.output_padding[axis]) if transposed else 0
        return Window(kernel, stride, padding, dilation, transposed, extra)

    return along(0), along(1)


def receptive_field(chain: Sequence[Window], first: int = 0, count: int = 1) -> tuple[int, int]:
    """Return which inputs of a chain of layers `count` of its last outputs read, from `first` on: first and how many.

    Along one axis; layers in the order in which they run. The first is negative where padding is read.
    """
    for window in reversed(chain):
        first, count = window.reads(first, count)
    return first, count


@dataclass(frozen=True, eq=False)
class Spans:
    """For each place along one axis the interval of another that belongs to it: int64 [places] `first` and `beyond`.

    Both rise from place to place, not strictly, but where an interval is empty: there `first` = `beyond`.
    """

    first: np.ndarray
    beyond: np.ndarray

    @staticmethod
    def of_cells(cells: int, side: Fraction | int = 1) -> Spans:
        """Return the footprints of so many cells, each `side` long; where that is broken, what a cell touches."""
        edges, side = np.arange(cells + 1), Fraction(side)
        return Spans(
            edges[:-1] * side.numerator // side.denominator, -(-edges[1:] * side.numerator // side.denominator)
        )

    def read_through(self, window: Window) -> Spans:
        """Return the spans of a layer's outputs, given these of its inputs."""
        inputs = len(self.first)
        reads = np.array([window.reads(output, 1) for output in range(window.outputs(inputs))]).reshape(-1, 2)
        first, beyond = reads[:, 0].clip(0, inputs), reads.sum(axis=1).clip(0, inputs)
        # Inputs that depend on nothing (a stride that is wider than its kernel) must not cut off those beside them.
        none = self.beyond <= self.first
        furthest = np.iinfo(np.int64).max
        begins = np.minimum.accumulate(np.where(none, furthest, self.first)[::-1])[::-1]
        begins, ends = np.append(begins, furthest), np.append(np.maximum.accumulate(np.where(none, 0, self.beyond)), 0)
        first, beyond = begins[first], np.where(beyond > first, ends[beyond - 1], 0)
        some = beyond > first
        return Spans(np.where(some, first, 0), np.where(some, beyond, 0))

    def grouped(self, places: int, ahead: int = 0) -> Spans:
        """Return the spans of tiles of so many places, the first of which begins `ahead` before: the hull of theirs."""
        starts = np.arange(-ahead, len(self.first), places).clip(0)
        return Spans(np.minimum.reduceat(self.first, starts), np.maximum.reduceat(self.beyond, starts))

    def in_blocks(self, block: Fraction | int) -> Spans:
        """Return the same intervals in blocks of `block` places each: all blocks that they touch."""
        block = Fraction(block)
        whole = block.denominator
        beyond = -(-self.beyond * whole // block.numerator)
        return Spans(self.first * whole // block.numerator, np.where(self.beyond > self.first, beyond, 0))

    def within(self, cells: int) -> Spans:
        """Return the same intervals on so many cells, of which the last one goes on for ever: as padding with edges."""
        first = self.first.clip(0, cells - 1)
        return Spans(first, np.maximum(np.where(self.beyond > self.first, self.beyond.clip(0, cells), 0), first))

    def hull(self, other: Spans) -> Spans:
        """Return for each place the interval around both."""
        first = np.where(self.beyond > self.first, self.first, other.first)
        return Spans(np.where(other.beyond > other.first, np.minimum(first, other.first), first),
                     np.maximum(self.beyond, other.beyond))  # fmt: skip


def sums_of(mask: np.ndarray) -> np.ndarray:
    """Return int32 [rows + 1, columns + 1]: how many cells are set above and left of each corner of the mask."""
    return _sums(np.array(mask, bool, order="C"))  # a copy of one kind, whatever is given: the loop is compiled once


@njit(cache=True)
def _sums(mask):
    rows, columns = mask.shape
    sums = np.zeros((rows + 1, columns + 1), np.int32)
    for row in range(rows):
        of_row = np.int32(0)
        for column in range(columns):
            of_row += mask[row, column]
            sums[row + 1, column + 1] = sums[row, column + 1] + of_row
    return sums


def touched(sums: np.ndarray, down: Spans, across: Spans) -> np.ndarray:
    """Return where a set cell of the mask (`sums_of` it) lies in the spans: bool [places of down, places of across].

    The spans must be `within` the mask.
    """
    return _touched(sums, down.first, down.beyond, across.first, across.beyond)


@njit(cache=True, boundscheck=True)
def _touched(sums, tops, bottoms, lefts, rights):
    found = np.empty((len(tops), len(lefts)), np.bool_)
    for row in range(len(tops)):
        above, below = sums[tops[row]], sums[bottoms[row]]
        for column in range(len(lefts)):
            left, right = lefts[column], rights[column]
            found[row, column] = below[right] - below[left] > above[right] - above[left]
    return found


def on_grid(mask: np.ndarray, side: Fraction | int, size: tuple[int, int]) -> np.ndarray:
    """Return the mask on a grid of `size` (rows, columns) whose cells are `side` times as large as the mask's.

    From the left top; a cell is set where any part of it is. Beyond its edges the mask goes on as at the edge.
    """
    down, across = (Spans.of_cells(each, side).within(cells) for each, cells in zip(size, mask.shape, strict=True))
    return touched(sums_of(mask), down, across)


def dilate(mask: np.ndarray, cells: int) -> np.ndarray:
    """Return the mask and all cells at most so many rows and columns from it."""
    if not cells:
        return mask
    down, across = (_around(places, cells) for places in mask.shape)
    return touched(sums_of(mask), down, across)


@lru_cache(maxsize=64, typed=True)
def _around(places: int, cells: int) -> Spans:
    # Kept, as a stream asks for the same ones at each of its frames.
    each = np.arange(places)
    return Spans(each - cells, each + cells + 1).within(places)


def union(masks: Iterable[np.ndarray]) -> np.ndarray:
    """Return where any of the masks, all of one size, is set."""
    return reduce(np.logical_or, masks)


def boxes_mask(boxes: np.ndarray, size: tuple[int, int], block: int = BLOCK) -> np.ndarray:
    """Return the blocks that boxes touch, bool [rows, columns], of a frame of `size` (height, width) pixels.

    boxes: [boxes, 4], left, top, right, bottom in pixels, right and bottom beyond the last; what is outside is cut.
    """
    height, width = size
    mask = np.zeros((-(-height // block), -(-width // block)), dtype=bool)
    for left, top, right, bottom in boxes:
        first_row, first_column = max(int(top // block), 0), max(int(left // block), 0)
        beyond_row, beyond_column = int(-(-bottom // block)), int(-(-right // block))
        if beyond_row > 0 and beyond_column > 0:  # a negative end of a slice would count from the far side
            mask[first_row:beyond_row, first_column:beyond_column] = True
    return mask
