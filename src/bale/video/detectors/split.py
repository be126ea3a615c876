"""How does any detector in two functions become one that a stream can use?"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from bale.errors import VideoError
from bale.video.detections import Detections
from bale.video.detector import Features


class SplitDetector:
    """A `bale.video.detector.Detector` of two callables, such as a network's backbone and what follows it.

    Args:
        features: from an image, float32 [1, 3, height, width], red, green, blue, 0 to 1, both sides multiples of
            `multiple`, to a feature map or several in a list or dict, each over the whole image.
        head: from those and the frame's (height, width) before it was padded to `Detections`, best first, in pixels
            of the frame.
        multiple: the coarsest stride, mostly 32.

    Raises VideoError for a multiple below 1 and what cannot be called.
    """

    def __init__(
        self,
        features: Callable[[Tensor], Features],
        head: Callable[[Features, tuple[int, int]], Detections],
        multiple: int = 32,
    ) -> None:
        if multiple < 1:
            raise VideoError(f"multiple must be at least 1, got {multiple}")
        for name, part in (("features", features), ("head", head)):
            if not callable(part):
                raise VideoError(f"{name} cannot be called: it is a {type(part).__name__}")
        self.multiple = multiple
        self._features = features
        self._head = head

    def features(self, image: Tensor) -> Features:
        """Return what the first callable does."""
        return self._features(image)

    def head(self, features: Features, size: tuple[int, int]) -> Detections:
        """Return what the second callable does; raises VideoError where that is no `Detections`."""
        found = self._head(features, size)
        if not isinstance(found, Detections):
            raise VideoError(f"the detector's head returned a {type(found).__name__}; expected Detections")
        return found
