"""How much did a frame move since the one before? Measures of it for whoever chooses key frames.

Mao et al. (ACM TECS 2022) choose them by the magnitude of H.264's motion vectors [published]; how it is summed up is
not in what we could read: the mean over the frame's area, and what intra blocks count, are [our reconstruction].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bale.errors import VideoError
from bale.video.film.vectors import MACROBLOCK
from bale.video.frame import BlockMotion, Frame
from bale.video.match import grey, motion_between
from bale.video.optional import imported

_LEAST_DIS = 32  # pixels of a side: OpenCV's DIS needs a few of its 8-pixel patches, and may end the process without


def mean_motion(motion: BlockMotion, intra: float = MACROBLOCK) -> float:
    """Return the mean, over the area of the frame, of how far its pixels moved, in pixels per frame.

    An intra block counts as moved by `intra` pixels: an encoder makes one where nothing near predicts what is there, so
    something new came into view or moved by more than it searched for. One macroblock is our choice; a cut, all of
    whose blocks are intra, then counts as that much everywhere. What no block covers does not move.
    """
    area = motion.blocks[:, 2].astype(np.float64) * motion.blocks[:, 3]
    moved = np.where(motion.intra, intra, np.hypot(motion.displacement[:, 0], motion.displacement[:, 1]))
    return float(area @ moved) / (motion.size[0] * motion.size[1])


@dataclass(frozen=True)
class CodecMotion:
    """`mean_motion` of what the codec knows: frames must be read with `motion=True`.

    A frame of which nothing is known (an I-frame, a lost one) counts as the last that was known, at first as 0. A film
    may begin with several such frames; one whose first `patience` frames after the first have no motion is of a codec
    that tells none, or was read without: there the measure raises `VideoError`, rather than take it for a still scene.
    """

    intra: float = MACROBLOCK
    patience: int = 24

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise VideoError(f"CodecMotion(patience): expected 1 or more frames, got {self.patience}")

    def start(self) -> Callable[[Frame], float]:
        """Return a measure of one stream: its frames in order -> pixels per frame."""
        last, without, knows = 0.0, -1, False  # the first frame has none anywhere

        def measure(frame: Frame) -> float:
            nonlocal last, without, knows
            if frame.motion is not None:
                last, knows = mean_motion(frame.motion, self.intra), True
            elif not knows and frame.image is not None:
                without += 1
                if without >= self.patience:
                    raise VideoError(
                        f"CodecMotion: frame {frame.index}: nothing is known of the motion of any of {without + 1} "
                        "frames; read the film with motion=True, or take BlockMatching() where its codec has no "
                        "motion vectors"
                    )
            return last

        return measure


@dataclass(frozen=True)
class BlockMatching:
    """`mean_motion` of blocks looked for in the frame before (`match.py`), for streams without a codec.

    shrink     pixels a side that become one before the search; 1 leaves the frame as it is
    block      pixels a side of a block, of the frame
    reach      pixels of the frame up to which a block is looked for, to each side
    zero_bias  grey levels a pixel by which a moved block must be better than one that stays
    """

    shrink: int = 2
    block: int = 16
    reach: int = 16
    zero_bias: float = 1.0

    def __post_init__(self) -> None:
        for name in ("shrink", "block", "reach"):
            if getattr(self, name) < 1:
                raise VideoError(f"{name} {getattr(self, name)}: expected 1 or more pixels")
        if self.block % self.shrink or self.reach % self.shrink:
            raise VideoError(f"block {self.block}, reach {self.reach}: expected multiples of shrink, {self.shrink}")
        if not self.zero_bias >= 0:
            raise VideoError(f"zero_bias {self.zero_bias}: expected 0 or more grey levels")

    def blocks(self, before: np.ndarray, after: np.ndarray) -> BlockMotion:
        """Return the motion between two images (uint8 [height, width, 3]); raises `VideoError` for two sizes."""
        if before.shape != after.shape:
            raise VideoError(f"images of {list(before.shape)} and {list(after.shape)}: expected the same size")
        return self._between(grey(before, self.shrink), grey(after, self.shrink), (after.shape[0], after.shape[1]))

    def start(self) -> Callable[[Frame], float]:
        """Return a measure of one stream: its frames in order -> pixels per frame.

        The first frame counts as 0; one without an image, or the first of another size, as the one before it.
        """
        return _of_pairs(
            lambda image: grey(image, self.shrink),
            lambda before, after, size: mean_motion(self._between(before, after, size)),
        )

    def _between(self, before: np.ndarray, after: np.ndarray, size: tuple[int, int]) -> BlockMotion:
        shrink = self.shrink
        return motion_between(before, after, size, shrink, self.block // shrink, self.reach // shrink, self.zero_bias)


@dataclass(frozen=True)
class DisMotion:
    """The mean length of OpenCV's DIS flow (Kroeger et al., 2016; preset ultrafast) of a frame that was made smaller.

    shrink  pixels a side that become one; less on frames whose shorter side would have less than 32 pixels then. Those
            that have less themselves go on as their last pixels do
    """

    shrink: int = 4

    def __post_init__(self) -> None:
        if self.shrink < 1:
            raise VideoError(f"shrink {self.shrink}: expected 1 or more pixels")

    def start(self) -> Callable[[Frame], float]:
        """Return a measure of one stream, as `BlockMatching.start` does."""
        cv2 = imported("cv2")
        dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)

        def shrink_of(size: tuple[int, int]) -> int:
            return max(1, min(self.shrink, min(size) // _LEAST_DIS))

        def prepare(image: np.ndarray) -> np.ndarray:
            small = grey(image, shrink_of((image.shape[0], image.shape[1])))
            return np.pad(small, [(0, max(0, _LEAST_DIS - side)) for side in small.shape], "edge")

        def between(before: np.ndarray, after: np.ndarray, size: tuple[int, int]) -> float:
            shrink = shrink_of(size)
            rows, columns = (-(-side // shrink) for side in size)
            flow = dis.calc(before, after, None)[:rows, :columns]
            return float(np.hypot(flow[..., 0], flow[..., 1]).mean()) * shrink

        return _of_pairs(prepare, between)


def _of_pairs(
    prepare: Callable[[np.ndarray], Any], between: Callable[[Any, Any, tuple[int, int]], float]
) -> Callable[[Frame], float]:
    """A measure that compares each image with the last one before it, if both are of one size."""
    before, before_size, last, gap = None, None, 0.0, 1

    def measure(frame: Frame) -> float:
        nonlocal before, before_size, last, gap
        if frame.image is None:
            gap += 1
            return last
        after = prepare(frame.image)
        if before is not None and frame.size is not None and frame.size == before_size:
            last = between(before, after, frame.size) / gap
        before, before_size, gap = after, frame.size, 1
        return last

    return measure
