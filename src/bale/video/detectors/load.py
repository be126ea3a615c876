"""Which detector does a name stand for, as a command line gives it?"""

from __future__ import annotations

import importlib
from typing import Any

from bale.errors import VideoError
from bale.video.detector import Detector
from bale.video.detectors.centerface import CenterFace
from bale.video.detectors.store import read_detector

_EXPECTED = "expected faces, lite0:FILE, sprites:FILE or MODULE:FUNCTION"
_FILES = ("lite0", "sprites")  # kinds of detectors whose weights come from a file


def load_detector(name: str, size: tuple[int, int]) -> Detector:
    """Return the detector that `name` stands for, to be used on frames of `size` (height, width).

    "faces" is CenterFace; "lite0:FILE" and "sprites:FILE" are what `save_detector` has written; "MODULE:FUNCTION" is
    what the function, found as `import` finds the module, returns when called with nothing.

    Raises VideoError, which says what was expected, for all else and where any of this fails.
    """
    kind, colon, rest = name.partition(":")
    if name == "faces":
        return CenterFace.for_frames(size)
    if not colon or not rest or not kind:
        raise VideoError(f"detector {name!r} is unknown; {_EXPECTED}")
    if kind in _FILES:
        return read_detector(rest, kind)
    return _made_by(name, kind, rest)


def _made_by(name: str, module: str, function: str) -> Detector:
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise VideoError(f"detector {name!r}: {error}; {_EXPECTED}") from error
    if not callable(make):
        raise VideoError(f"detector {name!r}: {function} is a {type(make).__name__}, no function")
    detector: Any = make()
    lacking = [each for each in ("multiple", "features", "head") if not hasattr(detector, each)]
    if lacking:
        raise VideoError(f"detector {name!r}: {function} returned a {type(detector).__name__} without {lacking[0]}")
    return detector
