"""Which tau gives the key rate that is wanted, and which key rate keeps a latency budget?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bale.errors import VideoError
from bale.video.keyframes import MotionSinceKey, check_longest_gap


def calibrate_tau(motions: Sequence[float], key_rate: float, at_most: int | None = None) -> float:
    """Return the tau, in pixels, with which `MotionPolicy` chooses keys on these frames at a rate nearest the asked.

    motions   how far each frame moved since the one before it, pixels; the first frame's does not matter
    key_rate  keys / frames, the first key included, above 0 and at most 1
    at_most   the policy's longest gap, frames

    The number of keys falls in steps as tau rises, as each key comes no earlier; so both ends of the step that is
    nearest are found by bisection, and tau is their middle, where small errors of measurement matter least.
    O(frames x 100). Raises `VideoError` for motion that is not a number of 0 or more, and where nothing moves.
    """
    check_rate("calibrate_tau", key_rate)
    check_longest_gap("calibrate_tau", at_most)
    for index, motion in enumerate(motions):
        if not 0 <= motion < math.inf:
            raise VideoError(f"calibrate_tau(motions): frame {index}: expected 0 or more pixels, got {motion}")
    if not sum(motions[1:]) > 0:
        raise VideoError("calibrate_tau(motions): nothing moves, so no tau is better than another")

    wanted = key_rate * len(motions)
    edge = _last_tau_with(math.ceil(wanted), motions, at_most)  # beyond it there are fewer keys than wanted
    around = {_keys(tau, motions, at_most) for tau in (edge, math.nextafter(edge, math.inf)) if tau > 0}
    nearest = min(around, key=lambda keys: abs(keys - wanted))
    begin = _last_tau_with(nearest + 1, motions, at_most)
    end = _last_tau_with(nearest, motions, at_most)
    if math.isfinite(end):
        return (begin + end) / 2
    return 2 * begin if begin else math.fsum(motions)


def rate_for_latency(budget_s: float, key_s: float, light_s: float) -> float:
    """Return the key rate, above 0 and at most 1, at which a frame takes `budget_s` on average, one after the other.

    key_s    seconds that a key frame takes
    light_s  seconds that any other frame takes

    Raises `VideoError` for a budget that even frames without a key do not keep, and for times that are not positive.
    """
    for name, seconds in (("budget_s", budget_s), ("key_s", key_s), ("light_s", light_s)):
        if not 0 < seconds < math.inf:
            raise VideoError(f"rate_for_latency({name}): expected more than 0 seconds, got {seconds}")
    if budget_s >= max(key_s, light_s):
        return 1.0
    if budget_s <= light_s:
        raise VideoError(
            f"rate_for_latency(budget_s): {budget_s} s leave no time for keys, as each other frame takes {light_s} s"
        )
    return (budget_s - light_s) / (key_s - light_s)


def _last_tau_with(keys: int, motions: Sequence[float], at_most: int | None) -> float:
    """The largest tau that gives at least so many keys; 0 where none does, infinity where any does."""
    low, high = 0.0, 2 * math.fsum(motions)  # high is more than any sum comes to
    if _keys(high, motions, at_most) >= keys:
        return math.inf
    if _keys(math.nextafter(0, 1), motions, at_most) < keys:
        return 0.0
    while (middle := (low + high) / 2) not in (low, high):
        if _keys(middle, motions, at_most) >= keys:
            low = middle
        else:
            high = middle
    return low


def _keys(tau: float, motions: Sequence[float], at_most: int | None) -> int:
    moved = MotionSinceKey(at_most)
    return sum(moved.reaches(tau, motion, index) for index, motion in enumerate(motions))


def check_rate(where: str, key_rate: float) -> None:
    """Raise `VideoError` for a rate that no choice of keys has."""
    if not 0 < key_rate <= 1:
        raise VideoError(f"{where}(key_rate): expected keys / frames, above 0 and at most 1, got {key_rate}")
