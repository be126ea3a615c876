"""Which frames of a stream run the expensive network? At a fixed interval, or when enough has moved (VDS).

VDS (Mao et al., TECS 2022) takes the magnitude of the codec's motion vectors for a cheap measure of how much a frame
moved. The rule is our reconstruction: motion is summed since the last key, and where the sum reaches tau the frame is
a key. What tau is comes from `bale.video.calibration`, or is found on line by `bale.video.adaptive`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bale.errors import VideoError
from bale.video.frame import Frame


@dataclass(frozen=True)
class Choice:
    """What a policy says of a frame.

    is_key  the frame should have features of its own
    motion  how far it moved on average since the frame before, pixels; None where the policy does not ask
    """

    is_key: bool
    motion: float | None = None


class Chooser(Protocol):
    """A policy at work on one stream of frames of one size."""

    def choose(self, frame: Frame) -> Choice:
        """Say whether a frame is a key; asked once of each frame that has an image, in order. The first always is."""
        ...


class Policy(Protocol):
    """A rule for key frames, ready for any number of streams."""

    def start(self) -> Chooser:
        """Return a chooser that has seen nothing yet."""
        ...


RunningMeasure = Callable[[Frame], float]
"""A measure at work on one stream, called once of each frame that has an image, in order: by how many pixels the frame
moved on average since the frame of the call before; 0 for the first."""


class MotionMeasure(Protocol):
    """A way to tell how far a frame moved, ready for any number of streams."""

    def start(self) -> RunningMeasure:
        """Return a measure that has seen nothing yet."""
        ...


@dataclass(frozen=True)
class FixedInterval:
    """Every so many frames a key, as in Deep Feature Flow (published: 10). Frames that cannot be read count too.

    `every` need not be whole: with 2.5 keys are 0, 3, 5, 8, and so on.
    """

    every: float = 10

    def __post_init__(self) -> None:
        if not 1 <= self.every < math.inf:
            raise VideoError(f"FixedInterval(every): expected 1 or more frames, got {self.every}")

    def start(self) -> Chooser:
        return _Counting(self.every)


class _Counting:
    def __init__(self, every: float) -> None:
        self._every = every
        self._due: float | None = None  # the next key

    def choose(self, frame: Frame) -> Choice:
        if self._due is not None and frame.index < self._due:
            return Choice(False)
        if self._due is None or frame.index >= self._due + 1:  # the first one, or a key that could not be read
            self._due = frame.index
        self._due += self._every
        return Choice(True)


@dataclass(frozen=True)
class MotionPolicy:
    """A key when the motion since the last one sums up to `tau` (VDS, our reconstruction).

    tau      pixels
    measure  how far a frame moved, as the codec or a search of blocks tells
    at_most  the longest way from key to key, frames; None: however long nothing moves
    """

    tau: float
    measure: MotionMeasure
    at_most: int | None = None

    def __post_init__(self) -> None:
        if not self.tau > 0:
            raise VideoError(f"MotionPolicy(tau): expected more than 0 pixels, got {self.tau}")
        check_longest_gap("MotionPolicy", self.at_most)

    def start(self) -> Chooser:
        return _Summing(self)


class _Summing:
    def __init__(self, policy: MotionPolicy) -> None:
        self._measure = policy.measure.start()
        self._tau = policy.tau
        self._moved = MotionSinceKey(policy.at_most)

    def choose(self, frame: Frame) -> Choice:
        motion = self._measure(frame)
        return Choice(self._moved.reaches(self._tau, motion, frame.index), motion)


class MotionSinceKey:
    """How far frames moved since the last key, and whether that is far enough for another one."""

    def __init__(self, at_most: int | None) -> None:
        self._at_most = at_most
        self._key: int | None = None
        self._sum = 0.0

    def reaches(self, tau: float, motion: float, index: int) -> bool:
        """Add a frame's motion; where the sum reaches tau, or `at_most` frames have passed, it begins anew."""
        self._sum += motion
        waited = self._key is not None and self._at_most is not None and index - self._key >= self._at_most
        if self._key is not None and self._sum < tau and not waited:
            return False
        self._key, self._sum = index, 0.0
        return True


def check_longest_gap(where: str, at_most: int | None) -> None:
    """Raise `VideoError` for a longest gap that cannot be kept."""
    if at_most is not None and at_most < 1:
        raise VideoError(f"{where}(at_most): expected 1 or more frames, or None, got {at_most}")
