"""Where may a pair of images differ from the pair before it? What sparse computation of the flow asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from bale.video.detections import Detections
from bale.video.frame import Frame

RunningMask = Callable[[Frame, Detections], np.ndarray | None]
"""A source of masks at work on one stream of frames of one size: where a frame may differ from the frame of the call
before, bool [rows, columns] of blocks of 16 x 16 pixels, from the left top of the padded frame; None: anywhere. It is
called once of each frame that has an image, in order, with the newest detections, which are an earlier frame's."""


class MovingMask(Protocol):
    """A way to tell which blocks of a frame moved, ready for any number of streams."""

    def start(self) -> RunningMask:
        """Return a source of masks that has seen nothing yet."""
        ...


class ChangedBlocks:
    """Masks of single frames, summed up into where a pair (current, key) may differ from the pair asked of last.

    Of the current image that is what moved since the last pair's current image; of the key, where another one has
    taken over, what moved on the way from the old to the new one. The calls, frame by frame: `moved`; `mark` where the
    frame may become a key; `take` where a marked frame has become one; `pair` where flow is estimated.
    """

    def __init__(self) -> None:
        self._of_current = _Moved(-1)  # since the last pair
        self._of_current.add(None)  # there is no last pair
        self._of_key = _Moved(-1)  # from the last pair's key to the newest one
        self._since: list[_Moved] = []  # from each marked frame to the next one marked, from the newest key on

    def moved(self, mask: np.ndarray | None) -> None:
        """Take in where the next frame differs from the one before; None where that is unknown."""
        self._of_current.add(mask)
        if self._since:
            self._since[-1].add(mask)

    def mark(self, index: int) -> None:
        """Note that this frame, the last that `moved` was told of, may become a key."""
        self._since.append(_Moved(index))

    def take(self, key: int) -> None:
        """Note that the marked frame `key` is the key from now on."""
        for between in self._since:
            if between.after < key:
                self._of_key.join(between)
        self._since = [each for each in self._since if each.after >= key]

    def pair(self) -> np.ndarray | None:
        """Return where (the newest frame, the newest key) may differ from the pair of the last call; None: anywhere."""
        changed = self._of_current
        changed.join(self._of_key)
        self._of_current, self._of_key = _Moved(-1), _Moved(-1)
        return changed.blocks


class _Moved:
    """Which blocks moved on some frames in a row."""

    def __init__(self, after: int) -> None:
        self.after = after  # the frame before the first of them
        self.blocks: np.ndarray | None = None  # bool [rows, columns]
        self._known = True

    def add(self, mask: np.ndarray | None) -> None:
        if mask is None:
            self._known, self.blocks = False, None
        elif self._known:
            self.blocks = mask.copy() if self.blocks is None else self.blocks | mask

    def join(self, other: _Moved) -> None:
        if other.blocks is not None or not other._known:
            self.add(other.blocks)
