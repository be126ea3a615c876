"""Which blocks of a frame changed since the frame before?"""

from __future__ import annotations

import numpy as np
from numba import njit

from bale.errors import VideoError
from bale.video.frame import BlockMotion


def moving_blocks(
    motion: BlockMotion | None, size: tuple[int, int], block: int = 16, threshold: float = 0.25
) -> np.ndarray | None:
    """Return which blocks of a grid move by more than `threshold` pixels per frame: bool [rows, columns].

    The grid starts at the left top of a frame of `size` (height, width) and has blocks of `block` pixels a side, those
    at the right and bottom border cut off. One moves if any block of the motion that reaches into it does; intra blocks
    do. None where nothing is known of the motion. A block that does not move may still change: a codec sends a shadow
    or a lamp as a difference, without a vector; `changed_blocks` looks at the pixels.
    """
    if motion is None:
        return None
    moves = motion.intra | (np.hypot(motion.displacement[:, 0], motion.displacement[:, 1]) > threshold)
    return _marked(motion.blocks[moves], -(-size[0] // block), -(-size[1] // block), block)


def changed_blocks(before: np.ndarray, after: np.ndarray, threshold: float = 3.0, block: int = 16) -> np.ndarray:
    """Return in which blocks of a grid two images differ: bool [rows, columns], the grid of `moving_blocks`.

    before, after  uint8 [height, width, 3], of one size
    threshold      grey levels: a block differs where the mean, over its pixels and colours, of the absolute differences
                   is larger. 0 finds any difference; noise of a camera and its codec needs some levels
    """
    if before.shape != after.shape:
        raise VideoError(f"images of {list(before.shape)} and {list(after.shape)}: expected the same size")
    return _changed(np.ascontiguousarray(before), np.ascontiguousarray(after), threshold, block)


@njit(cache=True)
def _marked(blocks, rows, columns, block):
    marked = np.zeros((rows, columns), np.bool_)
    for each in range(blocks.shape[0]):
        left, top, width, height = blocks[each]
        for row in range(max(top // block, 0), min((top + height - 1) // block + 1, rows)):
            for column in range(max(left // block, 0), min((left + width - 1) // block + 1, columns)):
                marked[row, column] = True
    return marked


@njit(cache=True)
def _changed(before, after, threshold, block):
    height, width, colours = after.shape
    rows, columns = -(-height // block), -(-width // block)
    changed = np.zeros((rows, columns), np.bool_)
    for row in range(rows):
        for column in range(columns):
            bottom, right = min((row + 1) * block, height), min((column + 1) * block, width)
            total = 0
            for y in range(row * block, bottom):
                for x in range(column * block, right):
                    for colour in range(colours):
                        total += abs(np.int32(after[y, x, colour]) - np.int32(before[y, x, colour]))
            pixels = (bottom - row * block) * (right - column * block)
            changed[row, column] = total > threshold * pixels * colours
    return changed
