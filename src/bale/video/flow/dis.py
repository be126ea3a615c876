"""What flow needs no training? OpenCV's DIS (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016);
and none at all, the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bale.errors import VideoError
from bale.video.flow.estimator import Flow
from bale.video.flow.learned import check_scale, check_sizes, shrunk
from bale.video.optional import imported

PRESETS = ("ultrafast", "fast", "medium")
SMALLEST = 32  # pixels of a side: a patch is 8 pixels at a quarter of the size; below, OpenCV may end the process
_RED, _GREEN, _BLUE = 0.299, 0.587, 0.114  # of brightness, ITU-R BT.601, as OpenCV weighs them


@dataclass(frozen=True)
class DisFlow:
    """Flow by dense inverse search on gray frames, `scale` times as large as they are.

    preset  one of `PRESETS`, OpenCV's own, from fast to good

    Raises VideoError for numbers out of range, and at `start` where OpenCV is not installed.
    """

    preset: str = "ultrafast"
    scale: float = 1 / 2

    def __post_init__(self) -> None:
        check_scale(self.scale)
        if self.preset not in PRESETS:
            raise VideoError(f"preset {self.preset!r} is unknown; known are {', '.join(PRESETS)}")

    def start(self) -> DisStream:
        """Return a worker for one stream."""
        return DisStream(self.preset, self.scale)


@dataclass(frozen=True, eq=False)
class Gray:
    """A frame as DIS takes it: `gray` uint8 [height, width], of a frame whose (height, width) are `frame`."""

    gray: np.ndarray
    frame: tuple[int, int]
    device: torch.device


class DisStream:
    """`DisFlow` at work on one stream. OpenCV's object keeps buffers between calls, so every stream has its own."""

    def __init__(self, preset: str, scale: float) -> None:
        cv2: Any = imported("cv2")
        self.scale = scale
        self.search = cv2.DISOpticalFlow_create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{preset.upper()}"))

    def prepare(self, image: Tensor) -> Gray:
        """Return a frame [1, 3, height, width], 0 to 1, as DIS takes it; raises VideoError where it is too small."""
        weights = image.new_tensor((_RED, _GREEN, _BLUE))[:, None, None]
        bright = shrunk((image * weights).sum(dim=1, keepdim=True), self.scale)[0, 0]
        frame = (image.shape[2], image.shape[3])
        if min(bright.shape) < SMALLEST:
            raise VideoError(
                f"a frame of {frame[1]} x {frame[0]} pixels is {bright.shape[1]} x {bright.shape[0]} at scale "
                f"{self.scale:g}, and DIS needs {SMALLEST} on each side: use a scale nearer to 1"
            )
        gray = (255 * bright).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
        return Gray(gray, frame, image.device)

    def flow(self, current: Gray, key: Gray, changed: np.ndarray | None) -> Flow:
        """Return the flow from `current` to `key`; `changed` is ignored. Raises VideoError for two sizes."""
        check_sizes(current.frame, key.frame)
        found = self.search.calc(current.gray, key.gray, None)  # [height, width, 2], x then y
        (rows, columns), (height, width) = current.gray.shape, current.frame
        field = torch.from_numpy(found).permute(2, 0, 1)[None].to(current.device)
        return Flow(field * field.new_tensor((width / columns, height / rows))[:, None, None])


@dataclass(frozen=True)
class NoFlow:
    """Says that nothing moves: features stay where they were. What flow is worth is measured against this."""

    def start(self) -> NoFlowStream:
        """Return a worker for one stream."""
        return NoFlowStream()


class NoFlowStream:
    """`NoFlow` at work on one stream."""

    def prepare(self, image: Tensor) -> torch.device:
        """Return all that is needed of a frame."""
        return image.device

    def flow(self, current: torch.device, key: torch.device, changed: np.ndarray | None) -> Flow:
        """Return a flow of 0, on a grid of one cell."""
        return Flow(torch.zeros(1, 2, 1, 1, device=current))
