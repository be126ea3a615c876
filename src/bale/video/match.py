"""Where was each block of a frame in the frame before? Block matching by sums of absolute differences."""

from __future__ import annotations

import numpy as np
from numba import njit

from bale.errors import VideoError
from bale.video.frame import BlockMotion


def grey(image: np.ndarray, shrink: int = 1) -> np.ndarray:
    """Return the luma of `image` (uint8 [height, width, 3]) as means of squares: uint8 [rows, columns].

    `shrink` x `shrink` pixels become one; squares at the right and bottom border have fewer. Weights: BT.601.
    """
    return _grey(np.ascontiguousarray(image), shrink)


def match_blocks(
    before: np.ndarray, after: np.ndarray, block: int = 16, reach: int = 8, zero_bias: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Find each block of `after` in `before`, both uint8 [height, width].

    Returns the displacements (to the right, down) from `before` to `after`, int32 [rows, columns, 2], and the sums of
    absolute differences they leave, int64 [rows, columns]. All displacements up to `reach` pixels either way whose
    source lies in the frame are compared (a full search), the shortest first; a longer one must be better, and any must
    beat the block that stays by more than `zero_bias` grey levels a pixel, since noise on an even surface moves
    nothing. Blocks at the right and bottom border are cut off. O(pixels x reach^2), mostly less: a sum that is too
    large is given up after any row. Raises `VideoError` for images of two sizes.
    """
    if before.shape != after.shape:
        raise VideoError(f"images of {list(before.shape)} and {list(after.shape)}: expected the same size")
    return _match(before, after, block, _by_length(reach), zero_bias)


def motion_between(
    before: np.ndarray, after: np.ndarray, size: tuple[int, int], shrink: int, block: int, reach: int, zero_bias: float
) -> BlockMotion:
    """Return what `match_blocks` finds, in pixels of the frame of `size` that `shrink` made smaller."""
    displacement, _ = match_blocks(before, after, block, reach, zero_bias)
    rows, columns, _ = displacement.shape
    side = block * shrink
    top, left = (each.ravel() * side for each in np.mgrid[:rows, :columns])
    blocks = np.stack([left, top, np.minimum(side, size[1] - left), np.minimum(side, size[0] - top)], 1)
    moved = displacement.reshape(-1, 2).astype(np.float32) * shrink
    return BlockMotion(size, blocks.astype(np.int32), moved, np.zeros(len(blocks), bool))


def _by_length(reach: int) -> np.ndarray:
    """All displacements of at most `reach` either way, the shortest first: int32 [displacements, 2]."""
    x, y = (each.ravel() for each in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    order = np.lexsort([x, y, x * x + y * y])
    return np.stack([x[order], y[order]], 1).astype(np.int32)


@njit(cache=True)
def _grey(image, shrink):
    height, width, _ = image.shape
    rows, columns = -(-height // shrink), -(-width // shrink)
    result = np.empty((rows, columns), np.uint8)
    for row in range(rows):
        for column in range(columns):
            bottom, right = min((row + 1) * shrink, height), min((column + 1) * shrink, width)
            total = 0
            for y in range(row * shrink, bottom):
                for x in range(column * shrink, right):
                    total += 77 * image[y, x, 0] + 150 * image[y, x, 1] + 29 * image[y, x, 2]
            pixels = (bottom - row * shrink) * (right - column * shrink)
            result[row, column] = total // (256 * pixels)
    return result


@njit(cache=True)
def _match(before, after, block, candidates, zero_bias):
    height, width = after.shape
    rows, columns = -(-height // block), -(-width // block)
    displacement = np.zeros((rows, columns, 2), np.int32)
    difference = np.zeros((rows, columns), np.int64)
    for row in range(rows):
        top, bottom = row * block, min((row + 1) * block, height)
        for column in range(columns):
            left, right = column * block, min((column + 1) * block, width)
            # The first candidate is to stay.
            staying = _difference(before, after, top, bottom, left, right, 0, 0, 255 * block * block)
            best = staying
            limit = staying - int(zero_bias * (bottom - top) * (right - left))
            difference[row, column] = staying
            for candidate in range(1, candidates.shape[0]):
                if limit <= 0:
                    break
                x, y = candidates[candidate, 0], candidates[candidate, 1]
                if left - x < 0 or right - x > width or top - y < 0 or bottom - y > height:
                    continue
                found = _difference(before, after, top, bottom, left, right, x, y, limit)
                if found < limit:
                    best = limit = found
                    displacement[row, column, 0], displacement[row, column, 1] = x, y
            difference[row, column] = best
    return displacement, difference


@njit(cache=True)
def _difference(before, after, top, bottom, left, right, x, y, limit):
    """The sum of absolute differences of a block and its source; once it reaches `limit`, any number not below that."""
    total = 0
    for line in range(top, bottom):
        for column in range(left, right):
            total += abs(np.int32(after[line, column]) - np.int32(before[line - y, column - x]))
        if total >= limit:
            return total
    return total
