"""From which of several earlier pictures does a block come? From the one that looks like it there [our reconstruction].

The decoder knows and does not tell (`references.py`). But a vector that is right for one picture points beside the
block's content in the others, so the picture that differs least where the vector points is taken for its reference, and
a further one only where it is better by more than rounding can make it: encoders pay for further references too.
Where the content has no detail this may be wrong, and so are such vectors anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit

MOST_CANDIDATES = 4  # x264's presets up to `medium` keep three, `slow` five; each further one costs time
_ROUNDING = 0.5  # grey levels a pixel


def luma(picture: Any) -> np.ndarray | None:
    """Return a copy of a PyAV frame's brightness, uint8 [height, width]; None where it has no such 8-bit plane."""
    form = picture.format
    if not form.name.startswith(("yuv4", "yuvj4", "nv12")) or form.components[0].bits != 8:
        return None
    plane = picture.planes[0]
    rows = np.frombuffer(plane, np.uint8)[: plane.line_size * picture.height].reshape(picture.height, plane.line_size)
    return rows[:, : picture.width].copy()


def distances_by_pixels(
    vectors: np.ndarray, picture: np.ndarray, earlier: Sequence[np.ndarray], frames: Sequence[int]
) -> np.ndarray:
    """Return from how many frames before each block comes: int32 [vectors]; of those from a later one it says nothing.

    vectors  PyAV's structured array
    picture  uint8 [height, width], brightness of the frame that has the blocks
    earlier  the same of those that it may come from, the nearest first
    frames   how many frames before it these are
    """
    places = np.stack([vectors[name].astype(np.int32) for name in ("dst_x", "dst_y", "w", "h")], 1)
    moved = np.stack([vectors["motion_x"], vectors["motion_y"]], 1) / vectors["motion_scale"][:, None]
    asked = (vectors["source"] < 0) & moved.any(axis=1)  # no motion is none from whichever picture
    best = np.zeros(len(vectors), np.int32)
    best[asked] = _most_alike(places[asked], moved[asked], picture, np.stack(earlier), _ROUNDING)
    return np.asarray(frames, np.int32)[best]


@njit(cache=True)
def _most_alike(places, moved, picture, earlier, rounding):
    best = np.zeros(len(places), np.int32)
    for each in range(len(places)):
        x, y, width, height = places[each]
        right, down = moved[each]
        left, top = x - width // 2, y - height // 2
        limit = np.inf
        for candidate in range(len(earlier)):
            found = _difference(picture, earlier[candidate], left, top, width, height, right, down)
            if found < limit:
                limit, best[each] = found - rounding, candidate
    return best


@njit(cache=True)
def _difference(picture, earlier, left, top, width, height, right, down):
    """Mean absolute difference, on every second line, of a block and what lies between four pixels of the source."""
    rows, columns = picture.shape
    whole_x, whole_y = int(np.floor(right)), int(np.floor(down))
    part_x, part_y = right - whole_x, down - whole_y
    total, pixels = 0.0, 0
    for y in range(max(top, 0), min(top + height, rows), 2):
        above = min(max(y + whole_y, 0), rows - 1)  # beyond the border it goes on as its last pixels are
        below = min(max(y + whole_y + 1, 0), rows - 1)
        for x in range(max(left, 0), min(left + width, columns)):
            west = min(max(x + whole_x, 0), columns - 1)
            east = min(max(x + whole_x + 1, 0), columns - 1)
            upper = earlier[above, west] * (1 - part_x) + earlier[above, east] * part_x
            lower = earlier[below, west] * (1 - part_x) + earlier[below, east] * part_x
            total += abs(picture[y, x] - upper * (1 - part_y) - lower * part_y)
            pixels += 1
    return total / max(pixels, 1)
