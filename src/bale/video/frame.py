"""What is one frame of a stream, and where did its blocks come from?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class BlockMotion:
    """Displacements of a frame's blocks, as a codec or a block matching found them.

    size          height and width of the frame, pixels
    blocks        int32 [blocks, 4]: left, top, width, height, pixels of this frame; they may leave gaps
    displacement  float32 [blocks, 2]: by how many pixels to the right and down a block's content moved, *per frame*,
                  from the frame before to this one; 0 where `intra` is set
    intra         bool [blocks]: nothing earlier or later predicts the block, so how far it moved is unknown
    """

    size: tuple[int, int]
    blocks: np.ndarray
    displacement: np.ndarray
    intra: np.ndarray


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame as it came in.

    index    its place in the stream, from 0; a frame that could not be decoded has one too
    time     seconds after the stream's first frame at which it is shown
    image    uint8 [height, width, 3], red, green, blue; None where it could not be decoded
    motion   what the codec knows of its blocks; None where it was not asked or knows nothing (an I-frame)
    problem  why there is no image
    """

    index: int
    time: float
    image: np.ndarray | None
    motion: BlockMotion | None = None
    problem: str = ""

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width in pixels; None without an image."""
        return None if self.image is None else (self.image.shape[0], self.image.shape[1])
