"""What do the motion vectors of a decoder say about a frame's blocks?

Exported by FFmpeg's `flags2=+export_mvs`; what they mean was read in libavutil's motion_vector.h, and what decoders do
was tried on films of known motion that we encoded, with the FFmpeg of PyAV 18.1:

- a vector leads from a block of this picture to its source: src = dst + motion / motion_scale, both block centres;
- source < 0 is an earlier picture, > 0 a later one; which one is `references.py`'s question;
- skipped and not-coded blocks have vectors like others (zero, or the predicted ones) in H.264, MPEG-2, MPEG-4 and
  MSMPEG4, so that a macroblock without any vector is intra: nothing predicts it;
- a decoder with frame threads exports vectors before they are all there, some another time: read with one thread;
- B-pictures of MPEG-4 part 2 have only zeros, which are not its vectors: they count as unknown;
- the last picture of MPEG-1, -2 and -4 with B-pictures has none: unknown;
- H.264's partitions below 8 x 8 are exported as one 8 x 8 block each.
"""

from __future__ import annotations

import numpy as np

from bale.video.frame import BlockMotion

MACROBLOCK = 16  # of every codec for which FFmpeg exports vectors; none of their blocks crosses its border
_B_EXPORTED = ("h264", "mpeg1video", "mpeg2video")
_INTRA, _PREDICTED, _BIDIRECTIONAL = 1, 2, 3  # AVPictureType


def tells(codec: str, kind: int) -> bool:
    """Whether the vectors of a picture of this AVPictureType are what the codec used."""
    return kind == _PREDICTED or (kind == _BIDIRECTIONAL and codec in _B_EXPORTED)


def block_motion(
    vectors: np.ndarray, size: tuple[int, int], past: int | np.ndarray | None, future: int | None
) -> BlockMotion | None:
    """Turn exported vectors (PyAV's structured array) of a frame of `size` into displacements per frame.

    `past` and `future`: how many frames away the references are, at least 1; None where there is none; `past` may be
    one number for each vector. A block of two predictions has the mean of both: each is the displacement to the same
    place. None where a vector's reference is unknown, so that its length means nothing.
    """
    if len(vectors) == 0:
        return None
    later = vectors["source"] > 0
    if (future is None and later.any()) or (past is None and not later.all()):
        return None
    # Forward in time: from the source to the block if it is earlier, from the block to the source if it is later.
    frames = np.where(later, future or 1, -np.asarray(1 if past is None else past)) * vectors["motion_scale"].astype(
        np.float32
    )  # [vectors]
    moved = np.stack([vectors["motion_x"], vectors["motion_y"]], 1) / frames[:, None]
    width, height = vectors["w"].astype(np.int32), vectors["h"].astype(np.int32)
    places = np.stack([vectors["dst_x"] - width // 2, vectors["dst_y"] - height // 2, width, height], 1)
    # A place as one number, which is far quicker to tell apart than four: 16 bits for each side's start, 8 for its size.
    numbers = ((places + [1 << 15, 1 << 15, 0, 0]).astype(np.int64) << [16, 32, 0, 8]).sum(axis=1)
    _, first, block_of, predictions = np.unique(numbers, return_index=True, return_inverse=True, return_counts=True)
    blocks = places[first]
    sums = [np.bincount(block_of, moved[:, axis], len(blocks)) for axis in (0, 1)]
    displacement = np.stack(sums, 1) / predictions[:, None]
    intra = _macroblocks_without(blocks, size)
    return BlockMotion(
        size,
        _inside(np.concatenate([blocks, intra]).astype(np.int32), size),
        np.concatenate([displacement, np.zeros((len(intra), 2))]).astype(np.float32),
        np.arange(len(blocks) + len(intra)) >= len(blocks),
    )


def _macroblocks_without(blocks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The macroblocks in which none of the blocks lies: int [macroblocks, 4] as in `BlockMotion`."""
    rows, columns = (-(-side // MACROBLOCK) for side in size)
    free = np.ones((rows, columns), bool)
    row, column = blocks[:, 1] // MACROBLOCK, blocks[:, 0] // MACROBLOCK
    known = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    free[row[known], column[known]] = False
    row, column = np.nonzero(free)
    side = np.full(len(row), MACROBLOCK)
    return np.stack([column * MACROBLOCK, row * MACROBLOCK, side, side], 1)


def _inside(blocks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Cut off what a codec's whole macroblocks have beyond the right and bottom border of a frame."""
    height, width = size
    left, top = np.clip(blocks[:, 0], 0, width), np.clip(blocks[:, 1], 0, height)
    right = np.clip(blocks[:, 0] + blocks[:, 2], 0, width)
    bottom = np.clip(blocks[:, 1] + blocks[:, 3], 0, height)
    return np.stack([left, top, right - left, bottom - top], 1).astype(np.int32)
