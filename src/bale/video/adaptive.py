"""How is tau found while the stream runs, for a key rate that is wanted?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bale.errors import VideoError
from bale.video.calibration import check_rate
from bale.video.frame import Frame
from bale.video.keyframes import (
    Choice,
    Chooser,
    MotionMeasure,
    MotionSinceKey,
    check_longest_gap,
)


@dataclass(frozen=True)
class AdaptiveMotionPolicy:
    """`MotionPolicy` with a tau that follows the motion, so that on average `key_rate` of the frames are keys.

    key_rate  keys / frames that are wanted, above 0 and at most 1
    measure   how far a frame moved, as the codec or a search of blocks tells
    at_most   the longest way from key to key, frames; None: however long nothing moves
    gain      by how much log(tau) rises at a key; every frame lowers it by gain x key_rate
    tau       that of the first frames, such as `calibrate_tau` gives; None: it is found on the way
    warm_up   without a tau, frames at the begin for which it is the mean motion / key_rate
    memory    frames over which motion is averaged, of those that moved at all
    span      tau stays within this factor of the mean motion / key_rate, either way

    An integral controller in the logarithm, of our own: while no bound is met, keys = key_rate x frames +
    log(tau now / tau before) / gain, so the rate is exact up to a constant number of keys. The bounds take tau along
    where motion becomes another, and keep it from falling without end while nothing moves, which would make every frame
    a key once something does.
    """

    key_rate: float
    measure: MotionMeasure
    at_most: int | None = None
    gain: float = 0.1
    tau: float | None = None
    warm_up: int = 10
    memory: int = 100
    span: float = 16.0

    def __post_init__(self) -> None:
        check_rate("AdaptiveMotionPolicy", self.key_rate)
        check_longest_gap("AdaptiveMotionPolicy", self.at_most)
        if not 0 < self.gain < math.inf:
            raise VideoError(f"AdaptiveMotionPolicy(gain): expected more than 0, got {self.gain}")
        if self.tau is not None and not 0 < self.tau < math.inf:
            raise VideoError(f"AdaptiveMotionPolicy(tau): expected more than 0, got {self.tau}")
        for name in ("warm_up", "memory"):
            if getattr(self, name) < 1:
                raise VideoError(f"AdaptiveMotionPolicy({name}): expected 1 or more frames, got {getattr(self, name)}")
        if not 1 < self.span < math.inf:
            raise VideoError(f"AdaptiveMotionPolicy(span): expected more than 1, got {self.span}")

    def start(self) -> Chooser:
        return _Adapting(self)


class _Adapting:
    def __init__(self, policy: AdaptiveMotionPolicy) -> None:
        self._policy = policy
        self._measure = policy.measure.start()
        self._moved = MotionSinceKey(policy.at_most)
        self._frames = 0  # before this one
        self._moving = 0  # of them, those that moved
        self._mean = 0.0  # pixels; of the last of these
        self._warm_up = policy.warm_up if policy.tau is None else -1  # the last frame of it
        self._log_tau = -math.inf if policy.tau is None else math.log(policy.tau)

    def choose(self, frame: Frame) -> Choice:
        motion = self._measure(frame)
        if motion > 0:
            self._moving += 1
            self._mean += (motion - self._mean) / min(self._moving, self._policy.memory)
        is_key = self._moved.reaches(self._tau(), motion, frame.index)
        if self._frames > max(0, self._warm_up):  # that the first frame is a key says nothing of tau
            self._log_tau += self._policy.gain * (is_key - self._policy.key_rate)
        self._frames += 1
        return Choice(is_key, motion)

    def _tau(self) -> float:
        if self._moving == 0:
            return math.inf
        usual = math.log(self._mean / self._policy.key_rate)
        if self._frames <= self._warm_up or math.isinf(self._log_tau):
            self._log_tau = usual
        room = math.log(self._policy.span)
        self._log_tau = min(max(self._log_tau, usual - room), usual + room)
        return math.exp(self._log_tau)
