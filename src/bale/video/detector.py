"""What must a detector expose, so that its features can be carried from frame to frame?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from torch import Tensor

from bale.errors import VideoError
from bale.video.detections import Detections

# Feature maps [1, channels, height, width], each over the whole (padded) frame, however a backbone hands them out.
Features = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
AnyFeatures = TypeVar("AnyFeatures", bound=Features)


class Detector(Protocol):
    """A detector in two parts: expensive features, and a head that is cheap beside them.

    `multiple`: frames are padded on the right and at the bottom (edge pixels repeated) until both sides are multiples
    of it, so that a map of stride s has exactly height / s x width / s places.

    Both parts may write to what they are given, which nobody looks at afterwards. Maps are handed out for good: a
    stream goes on using them while the next ones are computed, so a network that writes all into the same memory, as
    one with CUDA graphs does, has to return clones.
    """

    multiple: int

    def features(self, image: Tensor) -> Features:
        """Return feature maps of `image`, float32 [1, 3, height, width], red, green, blue, 0 to 1, padded."""
        ...

    # Any: a detector's own head takes what its own features are, a Tensor or a dict, and no other form.
    def head(self, features: Any, size: tuple[int, int]) -> Detections:
        """Return what features show of a frame whose `size` is (height, width) before it was padded."""
        ...


def map_features(function: Callable[[Tensor], Tensor], features: AnyFeatures) -> AnyFeatures:
    """Return the features with each map replaced by `function` of it; tuples, lists and dicts stay what they are.

    Raises `VideoError` where features are anything else.
    """
    if isinstance(features, Tensor):
        return function(features)  # pyright: ignore[reportReturnType]
    maps = features.values() if isinstance(features, Mapping) else features
    if not isinstance(features, Mapping | Sequence) or not all(isinstance(each, Tensor) for each in maps):
        raise VideoError(
            f"a detector's features: expected a tensor, or tensors in a tuple, list or dict, got {_told(features)}"
        )
    if isinstance(features, Mapping):
        return type(features)({name: function(each) for name, each in features.items()})  # pyright: ignore
    # A named tuple's class takes its fields one by one.
    made: Any = getattr(features, "_make", type(features))
    return made(function(each) for each in features)


def _told(features: object) -> str:
    kind = type(features).__name__
    if not isinstance(features, Mapping | Sequence):
        return kind
    maps = features.values() if isinstance(features, Mapping) else features
    return f"a {kind} of {', '.join(type(each).__name__ for each in maps)}"
