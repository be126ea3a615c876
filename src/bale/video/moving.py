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
    # Images are [height, width x colours]. Lines of a row of blocks are summed up first: an inner loop over so many
    # neighbours is compiled to vector instructions, which makes all of it twenty times as fast.
    height, width = after.shape[0], after.shape[1] * after.shape[2]
    lines_before, lines_after = before.reshape(height, width), after.reshape(height, width)
    side = block * after.shape[2]
    rows, columns = -(-height // block), -(-width // side)
    changed = np.zeros((rows, columns), np.bool_)
    total = np.empty(width, np.uint32)
    for row in range(rows):
        total[:] = 0
        bottom = min((row + 1) * block, height)
        for y in range(row * block, bottom):
            first, second = lines_before[y], lines_after[y]
            for x in range(width):
                total[x] += np.uint32(max(first[x], second[x]) - min(first[x], second[x]))
        for column in range(columns):
            of_block = total[column * side : (column + 1) * side]
            changed[row, column] = of_block.sum() > threshold * (bottom - row * block) * len(of_block)
    return changed
