"""What must a detector expose, so that its features can be carried from frame to frame?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from torch import Tensor

from bale.video.detections import Detections

# Feature maps [1, channels, height, width], each over the whole (padded) frame, however a backbone hands them out.
Features = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
AnyFeatures = TypeVar("AnyFeatures", bound=Features)


class Detector(Protocol):
    """A detector in two parts: expensive features, and a head that is cheap beside them.

    `multiple`: frames are padded on the right and at the bottom (edge pixels repeated) until both sides are multiples
    of it, so that a map of stride s has exactly height / s x width / s places.
    """

    multiple: int

    def features(self, image: Tensor) -> Features:
        """Return feature maps of `image`, float32 [1, 3, height, width], red, green, blue, 0 to 1, padded."""
        ...

    def head(self, features: Features, size: tuple[int, int]) -> Detections:
        """Return what features show of a frame whose `size` is (height, width) before it was padded."""
        ...


def map_features(function: Callable[[Tensor], Tensor], features: AnyFeatures) -> AnyFeatures:
    """Return the features with each map replaced by `function` of it; tuples, lists and dicts stay what they are."""
    if isinstance(features, Tensor):
        return function(features)  # pyright: ignore[reportReturnType]
    if isinstance(features, Mapping):
        return type(features)((name, function(each)) for name, each in features.items())  # pyright: ignore
    return type(features)(function(each) for each in features)  # pyright: ignore
