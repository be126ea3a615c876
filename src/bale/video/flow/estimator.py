"""What does whoever carries features from a key frame to another one ask of optical flow?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Flow:
    """Where each place of the current frame is in the key frame.

    field  float32 [1, 2, rows, columns] over the whole padded frame, on any grid: what is at p in the current frame is
           at p + field(p) in the key frame; x then y, in pixels of the frame whatever the grid
    scale  float32 [1, channels or 1, rows, columns], by which carried features are multiplied (Deep Feature Flow's
           scale map); None is 1 everywhere
    """

    field: Tensor
    scale: Tensor | None = None


class FlowStream(Protocol):
    """An estimator at work on one stream; what it remembers of earlier frames dies with it."""

    def prepare(self, image: Tensor) -> Any:
        """Return what is needed of a frame in either role: `image` is float32 [1, 3, height, width], 0 to 1, padded."""
        ...

    def flow(self, current: Any, key: Any, changed: np.ndarray | None) -> Flow:
        """Return the flow from `current` to `key`, both prepared.

        `changed`: bool [rows, columns] of blocks of 16 x 16 pixels, from the left top: where either image of the pair
        may differ from the pair of the call before; None: anywhere. An estimator may ignore it.
        """
        ...


class FlowEstimator(Protocol):
    """Optical flow, ready for any number of streams."""

    def start(self) -> FlowStream:
        """Return a worker for one stream of frames of one size."""
        ...
