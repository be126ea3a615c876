"""How much did a frame move since the one before? Measures of it for whoever chooses key frames.

Mao et al. (ACM TECS 2022) choose them by the magnitude of H.264's motion vectors [published]; how it is summed up is
not in what we could read: the mean over the frame's area, and what intra blocks count, are [our reconstruction].

That the camera's own motion counts less is ours. Flow follows a camera that pans as well as one that stands, so that a
measure which is mostly of the pan spends keys where they bring nothing (`python -m benchmarks.video` has both: mv and,
as published, pmv). `FlowError` is ours, too: it asks not how far things went but whether flow could follow them.
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

CAMERA = 0.1  # of the camera's own motion: it matters by what it brings into view
_BLOCK = 8  # pixels a side of what `FlowError` averages over, of the frame that was made smaller
_LEAST_DIS = 32  # pixels of a side: OpenCV's DIS needs a few of its 8-pixel patches, and may end the process without


def mean_motion(motion: BlockMotion, intra: float = MACROBLOCK, camera: float = 1.0) -> float:
    """Return the mean, over the area of the frame, of how far its pixels moved, in pixels per frame.

    `camera`: the share of the camera's own motion that counts, `camera_motion`; 1: all of it, 0: motion is relative to
    the camera's.

    An intra block counts as moved by `intra` pixels: an encoder makes one where nothing near predicts what is there, so
    something new came into view or moved by more than it searched for. One macroblock is our choice; a cut, all of
    whose blocks are intra, then counts as that much everywhere. What no block covers does not move.
    """
    area, rest = _areas(motion)
    less = (1 - camera) * camera_motion(motion)
    moved = np.where(motion.intra, intra, np.hypot(*(motion.displacement - less).T))
    return float(area @ moved + rest * np.hypot(*less)) / (motion.size[0] * motion.size[1])


def camera_motion(motion: BlockMotion) -> np.ndarray:
    """Return the motion of most of a frame, float64 [2], x and y: the median over its area, but for intra blocks."""
    area, rest = _areas(motion)
    known = ~motion.intra
    weight = np.append(area[known], rest)
    if not weight.sum():
        return np.zeros(2)
    return np.array([_median(np.append(each, 0.0), weight) for each in motion.displacement[known].T])


def _areas(motion: BlockMotion) -> tuple[np.ndarray, float]:
    """The pixels of each block, and those that no block covers."""
    area = motion.blocks[:, 2].astype(np.float64) * motion.blocks[:, 3]
    return area, max(0.0, motion.size[0] * motion.size[1] - float(area.sum()))


def _median(values: np.ndarray, weight: np.ndarray) -> float:
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weight[order])
    return float(values[order[np.searchsorted(below, below[-1] / 2)]])


@dataclass(frozen=True)
class CodecMotion:
    """`mean_motion` of what the codec knows: frames must be read with `motion=True`.

    A frame of which nothing is known (an I-frame, a lost one) counts as the last that was known, at first as 0. A film
    may begin with several such frames; one whose first `patience` frames after the first have no motion is of a codec
    that tells none, or was read without: there the measure raises `VideoError`, rather than take it for a still scene.

    `camera`: the share of the camera's own motion that counts (`mean_motion`); 1 is what is published.
    """

    intra: float = MACROBLOCK
    patience: int = 24
    camera: float = CAMERA

    def __post_init__(self) -> None:
        _check_camera(self.camera)
        if self.patience < 1:
            raise VideoError(f"CodecMotion(patience): expected 1 or more frames, got {self.patience}")

    def start(self) -> Callable[[Frame], float]:
        """Return a measure of one stream: its frames in order -> pixels per frame."""
        last, without, knows = 0.0, -1, False  # the first frame has none anywhere

        def measure(frame: Frame) -> float:
            nonlocal last, without, knows
            if frame.motion is not None:
                last, knows = mean_motion(frame.motion, self.intra, self.camera), True
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
    camera     share of the camera's own motion that counts
    """

    shrink: int = 2
    block: int = 16
    reach: int = 16
    zero_bias: float = 1.0
    camera: float = CAMERA

    def __post_init__(self) -> None:
        _check_camera(self.camera)
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
            lambda before, after, size: mean_motion(self._between(before, after, size), camera=self.camera),
        )

    def _between(self, before: np.ndarray, after: np.ndarray, size: tuple[int, int]) -> BlockMotion:
        shrink = self.shrink
        return motion_between(before, after, size, shrink, self.block // shrink, self.reach // shrink, self.zero_bias)


@dataclass(frozen=True)
class DisMotion:
    """The mean length of OpenCV's DIS flow (Kroeger et al., 2016; preset ultrafast) of a frame that was made smaller.

    shrink  pixels a side that become one; less on frames whose shorter side would have less than 32 pixels then. Those
            that have less themselves go on as their last pixels do
    camera  share of the camera's own motion that counts: of the median of the flow
    """

    shrink: int = 4
    camera: float = CAMERA

    def __post_init__(self) -> None:
        _check_shrink(self.shrink)
        _check_camera(self.camera)

    def start(self) -> Callable[[Frame], float]:
        """Return a measure of one stream, as `BlockMatching.start` does."""

        def measured(flow: np.ndarray, after: np.ndarray, before: np.ndarray, shrink: int) -> float:
            less = (1 - self.camera) * np.median(flow, axis=(0, 1))
            return float(np.hypot(*(flow - less).transpose(2, 0, 1)).mean()) * shrink

        return _by_dis(self.shrink, measured)


@dataclass(frozen=True)
class FlowError:
    """How badly DIS flow from the frame before explains a frame, in grey levels.

    The frame before is warped by the flow; absolute differences from the frame are averaged over blocks of 8 x 8
    pixels of the frame that was made smaller; and of these, the least of the worst `share` is the measure. It is large
    where things moved too far or too differently for flow to carry their features, and where things came into view.

    shrink  as of `DisMotion`
    share   of blocks, above 0 and below 1: things are small beside a frame
    """

    shrink: int = 2
    share: float = 0.02

    def __post_init__(self) -> None:
        _check_shrink(self.shrink)
        if not 0 < self.share < 1:
            raise VideoError(f"share {self.share}: expected a number above 0 and below 1")

    def start(self) -> Callable[[Frame], float]:
        """Return a measure of one stream, as `BlockMatching.start` does, in grey levels per frame."""
        cv2 = imported("cv2")

        def measured(flow: np.ndarray, after: np.ndarray, before: np.ndarray, shrink: int) -> float:
            rows, columns = after.shape
            x, y = np.arange(columns, dtype=np.float32)[None], np.arange(rows, dtype=np.float32)[:, None]
            warped = cv2.remap(
                before, flow[..., 0] + x, flow[..., 1] + y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            error = cv2.blur(cv2.absdiff(after, warped).astype(np.float32), (_BLOCK, _BLOCK))
            half = min(_BLOCK // 2, rows - 1, columns - 1)
            return float(np.quantile(error[half::_BLOCK, half::_BLOCK], 1 - self.share))

        return _by_dis(self.shrink, measured)


def _by_dis(
    most: int, measured: Callable[[np.ndarray, np.ndarray, np.ndarray, int], float]
) -> Callable[[Frame], float]:
    """A measure of DIS flow, float32 [rows, columns, 2], from a small frame to the one before: of it, both, shrink."""
    cv2 = imported("cv2")
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)

    def shrink_of(size: tuple[int, int]) -> int:
        return max(1, min(most, min(size) // _LEAST_DIS))

    def prepare(image: np.ndarray) -> np.ndarray:
        small = grey(image, shrink_of((image.shape[0], image.shape[1])))
        return np.pad(small, [(0, max(0, _LEAST_DIS - side)) for side in small.shape], "edge")

    def between(before: np.ndarray, after: np.ndarray, size: tuple[int, int]) -> float:
        shrink = shrink_of(size)
        rows, columns = (-(-side // shrink) for side in size)
        flow = dis.calc(after, before, None)[:rows, :columns]
        return measured(flow, after[:rows, :columns], before[:rows, :columns], shrink)

    return _of_pairs(prepare, between)


def _check_shrink(shrink: int) -> None:
    if shrink < 1:
        raise VideoError(f"shrink {shrink}: expected 1 or more pixels")


def _check_camera(camera: float) -> None:
    if not 0 <= camera <= 1:
        raise VideoError(f"camera {camera}: expected a share of the camera's motion, 0 to 1")


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
