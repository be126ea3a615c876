"""Are keys where a policy's rule puts them, and is tau what gives the rate that was asked?"""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bale.errors import VideoError
from bale.video.adaptive import AdaptiveMotionPolicy
from bale.video.calibration import calibrate_tau, rate_for_latency
from bale.video.frame import Frame
from bale.video.keyframes import FixedInterval, MotionPolicy


class Told:
    """A measure that is told what it finds."""

    def __init__(self, motions):
        self.motions = motions

    def start(self):
        return lambda frame: self.motions[frame.index]


def keys_of(policy, frames):
    chooser = policy.start()
    return [index for index in range(frames) if chooser.choose(Frame(index, 0.0, None)).is_key]


@st.composite
def motions(draw):
    return [0.0] + draw(st.lists(st.sampled_from((0.0, 0.25, 1.0, 3.5)) | st.floats(0, 9), min_size=1, max_size=60))


def test_fixed_intervals_count_frames_that_cannot_be_read():
    chooser = FixedInterval(4).start()
    asked = [0, 1, 2, 3, 5, 6, 7, 8, 9, 14]
    assert [i for i in asked if chooser.choose(Frame(i, 0.0, None)).is_key] == [0, 5, 9, 14]


@given(st.floats(1, 12), st.integers(1, 90))
def test_a_fixed_interval_need_not_be_whole(every, frames):
    keys = keys_of(FixedInterval(every), frames)
    assert len(keys) == pytest.approx(frames / every, abs=1) and keys[0] == 0
    assert {later - earlier for earlier, later in pairwise(keys)} <= {math.floor(every), math.ceil(every)}


@given(motions(), st.floats(0.1, 20), st.none() | st.integers(1, 9))
def test_a_key_is_where_motion_since_the_last_reaches_tau(moved, tau, at_most):
    keys = keys_of(MotionPolicy(tau, Told(moved), at_most), len(moved))
    assert keys[0] == 0
    last, total = 0, 0.0
    for index in range(1, len(moved)):
        total += moved[index]
        is_key = total >= tau or (at_most is not None and index - last >= at_most)
        assert is_key == (index in keys)
        if is_key:
            last, total = index, 0.0


@given(motions().filter(lambda moved: sum(moved) > 1e-3), st.floats(0.01, 1), st.none() | st.integers(2, 9))
def test_no_tau_comes_nearer_to_the_rate_than_the_calibrated_one(moved, rate, at_most):
    def distance(tau):
        return abs(len(keys_of(MotionPolicy(tau, Told(moved), at_most), len(moved))) - rate * len(moved))

    sums = {math.fsum(moved[i:j]) for i in range(1, len(moved)) for j in range(i + 1, len(moved) + 1)}
    candidates = [each * (1 + nudge) for each in sums for nudge in (-1e-9, 1e-9) if each > 0]
    found = distance(calibrate_tau(moved, rate, at_most))
    # Every number of keys that some tau gives has one right below or above the sum of some frames in a row.
    assert found <= min(map(distance, candidates[:: max(len(candidates) // 80, 1)])) + 1e-9


def test_calibration_is_in_the_middle_of_its_step():
    moved = [0.0] + [1.0] * 99
    tau = calibrate_tau(moved, 0.1)
    # Every tau above 9 and up to 11 gives ten keys: each tenth frame, or each eleventh.
    assert tau == pytest.approx(10) and len(keys_of(MotionPolicy(tau, Told(moved)), 100)) == 10


@pytest.mark.parametrize(
    ("moved", "rate"), [([0.0, 0.0, 0.0], 0.5), ([0.0, -1.0], 0.5), ([0.0, math.nan], 0.5), ([0, 1.0], 0)]
)
def test_calibration_refuses_what_has_no_answer(moved, rate):
    with pytest.raises(VideoError, match="calibrate_tau"):
        calibrate_tau(moved, rate)


@given(st.floats(0.001, 1), st.floats(0.001, 1), st.floats(0.001, 1))
def test_a_rate_keeps_its_budget_on_average(budget, key, light):
    try:
        rate = rate_for_latency(budget, key, light)
    except VideoError:
        assert budget <= light
        return
    assert 0 < rate <= 1
    assert rate * key + (1 - rate) * light <= budget * (1 + 1e-9)
    assert rate == 1 or rate * key + (1 - rate) * light == pytest.approx(budget)


@given(st.floats(0.02, 0.5), st.floats(0.01, 50), st.integers(0, 2**16))
def test_the_adaptive_rate_is_exact_up_to_a_number_of_keys_on_motion_of_one_kind(rate, mean, seed):
    frames = 1500
    moved = np.random.default_rng(seed).gamma(2, mean / 2, frames).tolist()
    policy = AdaptiveMotionPolicy(rate, Told(moved))
    keys = len(keys_of(policy, frames))
    # log(tau) keeps within a factor 4 here; warm-up's keys come on top.
    assert abs(keys - rate * frames) <= math.log(4) / policy.gain + policy.warm_up
    second_half = [each for each in keys_of(policy, frames) if each >= frames // 2]
    assert abs(len(second_half) / (frames // 2) - rate) <= 0.15 * rate + 5 / (frames // 2)


def test_while_it_warms_up_tau_is_the_mean_motion_by_the_rate():
    """The first frames move little, and would make the controller's tau small for those after them."""
    moved = [0.0] + [1.0] * 4 + [8.0] * 8
    mean, total, expected = 0.0, 0.0, [0]
    for index, each in enumerate(moved[1:], 1):
        mean, total = mean + (each - mean) / index, total + each
        if total >= mean / 0.25:
            total, expected = 0.0, [*expected, index]
    assert keys_of(AdaptiveMotionPolicy(0.25, Told(moved), warm_up=len(moved)), len(moved)) == expected


def test_a_tau_that_is_given_holds_from_the_first_frame():
    moved = [0.0] + [1.0] * 600
    policy = AdaptiveMotionPolicy(0.2, Told(moved), tau=5.0, gain=1e-6)
    assert keys_of(policy, 50) == keys_of(MotionPolicy(5.0, Told(moved)), 50) == list(range(0, 50, 5))
    # One that is wrong is mended on the way.
    keys = keys_of(AdaptiveMotionPolicy(0.2, Told(moved), tau=9.0, gain=0.2), len(moved))
    assert 7 <= keys[1] <= 9 and abs(sum(each > 300 for each in keys) - 60) <= 2


@pytest.mark.parametrize("factor", [4.0, 0.25, 100.0, 0.01])
def test_the_adaptive_policy_follows_motion_that_changes(factor):
    moved = [0.0] + [1.0] * 1000 + [factor] * 1000
    keys = keys_of(AdaptiveMotionPolicy(0.1, Told(moved)), len(moved))
    assert abs(sum(each > 1500 for each in keys) - 50) <= 8


def test_a_still_scene_does_not_make_tau_fall_without_end():
    moved = [0.0] + [1.0] * 300 + [0.0] * 5000 + [1.0] * 300
    policy = AdaptiveMotionPolicy(0.1, Told(moved))
    keys = keys_of(policy, len(moved))
    assert sum(300 < each <= 5300 for each in keys) <= 1
    # Wanted are 30 of the last 300 frames; tau comes back from its bound within a few more.
    assert sum(each > 5300 for each in keys) <= 30 + math.log(policy.span) / policy.gain + 5
    assert keys_of(AdaptiveMotionPolicy(0.1, Told([0.0] * 50)), 50) == [0]
    assert keys_of(AdaptiveMotionPolicy(0.1, Told([0.0] * 50), at_most=20), 50) == [0, 20, 40]


@pytest.mark.parametrize(
    "make",
    [
        lambda: FixedInterval(0),
        lambda: FixedInterval(math.inf),
        lambda: MotionPolicy(0.0, Told([])),
        lambda: MotionPolicy(1.0, Told([]), at_most=0),
        lambda: AdaptiveMotionPolicy(1.5, Told([])),
        lambda: AdaptiveMotionPolicy(0.5, Told([]), gain=0),
        lambda: AdaptiveMotionPolicy(0.5, Told([]), span=1),
        lambda: AdaptiveMotionPolicy(0.5, Told([]), tau=0),
        lambda: AdaptiveMotionPolicy(0.5, Told([]), warm_up=0),
        lambda: AdaptiveMotionPolicy(0.5, Told([]), memory=0),
        lambda: rate_for_latency(0.01, 0.1, 0.02),
        lambda: rate_for_latency(-1, 0.1, 0.02),
    ],
)
def test_settings_that_mean_nothing_are_named(make):
    with pytest.raises(VideoError, match=r"\(\w+\): "):
        make()
