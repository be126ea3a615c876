"""Where may a frame differ from the one before it, in a way that matters to a detector?

Moving blocks united with the boxes found before, and a margin around both. That SSI has two computation masks is
published (Mao et al., TECS 2022); what they are of, the margin, the thresholds and what stands in for missing vectors
are our reconstruction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bale.errors import VideoError
from bale.video.detections import Detections
from bale.video.frame import Frame
from bale.video.moving import changed_blocks, moving_blocks
from bale.video.sparse.mask import BLOCK, boxes_mask, dilate, union


@dataclass(frozen=True)
class MovingBlocks:
    """Blocks of 16 x 16 pixels that move, or that an earlier box covers, and those around them.

    dilate     margin around moving blocks and boxes, blocks
    source     "codec": blocks that the codec moved (frames must be read with `motion=True`), and of a frame of which it
               knows nothing, an I-frame, those whose pixels changed. "pixels": always the latter
    threshold  grey levels by which a block's pixels must have changed, on the mean
    motion     pixels per frame by which a block must have moved
    """

    dilate: int = 1
    source: Literal["codec", "pixels"] = "codec"
    threshold: float = 3.0
    motion: float = 0.25

    def __post_init__(self) -> None:
        if self.source not in ("codec", "pixels"):
            raise VideoError(f'source {self.source!r}: expected "codec" or "pixels"')
        for name in ("dilate", "threshold", "motion"):
            if not getattr(self, name) >= 0:
                raise VideoError(f"{name} {getattr(self, name)}: expected 0 or more")
        if not isinstance(self.dilate, int):
            raise VideoError(f"dilate {self.dilate}: expected a whole number of blocks")

    def start(self) -> Callable[[Frame, Detections], np.ndarray | None]:
        """Return a source of masks of one stream: its frames in order, each with the newest boxes, an earlier frame's.

        Of each it returns bool [rows, columns] of blocks from the left top; None where anything may have changed: at
        the first frame, after one without an image, and where the size is another one.
        """
        before: Frame | None = None
        blank = np.zeros((1, 1, 3), np.uint8)
        dilate(changed_blocks(blank, blank), 1)  # compiled now, where it never was, and not while frames wait

        def moved(frame: Frame, earlier: Detections) -> np.ndarray | None:
            nonlocal before
            last, before = before, frame
            if frame.image is None or last is None or last.image is None or frame.size != last.size:
                return None
            size = (frame.image.shape[0], frame.image.shape[1])
            moving = moving_blocks(frame.motion, size, BLOCK, self.motion) if self.source == "codec" else None
            if moving is None:
                moving = changed_blocks(last.image, frame.image, self.threshold, BLOCK)
            return dilate(union([moving, boxes_mask(earlier.boxes.cpu().numpy(), size)]), self.dilate)

        return moved
