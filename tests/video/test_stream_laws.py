"""Whatever keys, delays, failures and frames come: one result each, in order, from the features that it names?"""

from collections import OrderedDict
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
import torch
from benchmarks.video.toys import ShiftFlow, ToyDetector, toy_frame
from hypothesis import given
from hypothesis import strategies as st
from tests.video.made_streams import KeysAt, SteppedWorker, assert_nothing_runs, assert_one_result_each, same

from bale.errors import VideoError
from bale.video.detections import Detections
from bale.video.detectors.split import SplitDetector
from bale.video.frame import Frame
from bale.video.images import image_tensor
from bale.video.keyframes import FixedInterval, MotionPolicy
from bale.video.propagate import propagate
from bale.video.stream import VideoDetector
from bale.video.worker import InstantWorker
from bale.video.worker_thread import ThreadWorker

SIZES = ((10, 14), (8, 8))
DETECTOR, FLOW = ToyDetector(), ShiftFlow()


@st.composite
def streams(draw, faults=True):
    """Frames that are lost, of one size or another, or make the detector raise, once there are features to go on."""
    frames, size = [], None
    for index in range(draw(st.integers(1, 14))):
        kind = draw(st.sampled_from(("fine", "fine", "fine", "lost", "other size", "poison"))) if faults else "fine"
        if kind == "lost":
            frames.append(Frame(index, index / 25, None, problem="torn"))
            continue
        before = size
        size = SIZES[1] if kind == "other size" else SIZES[0]
        frames.append(toy_frame(index, size, poison=kind == "poison" and size == before))
    return frames


def keys(frames=14):
    return st.frozensets(st.integers(0, frames - 1)).map(KeysAt)


def run(frames, **settings):
    stream = VideoDetector(DETECTOR, FLOW, **settings).stream(frames)
    results = list(stream)
    return results, stream.counts


def tensor(frame):
    return image_tensor(frame.image, DETECTOR.multiple, "cpu")


def by_hand(frame: Frame, key: Frame) -> Detections:
    """What a frame's boxes are, from the features of `key`, without any stream."""
    image, of_key = tensor(frame), tensor(key)
    features = DETECTOR.features(of_key)
    if frame is not key:
        flow = FLOW.flow(FLOW.prepare(image), FLOW.prepare(of_key), None)
        features = propagate(features, flow, (image.shape[2], image.shape[3]))
    return DETECTOR.head(features, frame.image.shape[:2])


@given(streams(), keys(), st.lists(st.integers(-1, 6), max_size=14))
def test_every_frame_has_a_result_in_order_from_the_features_it_names(frames, policy, polls):
    # The first key must come, and so must the first of a resolution: a worker that dies of those ends the stream.
    if any(each < 0 for each in polls) and len({frame.size for frame in frames} - {None}) > 1:
        polls = [max(each, 0) for each in polls]
    polls = [max(each, 0) if job == 0 else each for job, each in enumerate(polls)]
    results, counts = run(frames, policy=policy, worker=SteppedWorker(polls), max_failures=100)
    assert_one_result_each(frames, results, counts)
    last = Detections.none()
    for frame, result in zip(frames, results, strict=True):
        if frame.image is None:
            assert result.kind == "repeated" and same(result.detections, last) and "torn" in result.problem
        else:
            assert same(result.detections, by_hand(frame, frames[result.key_index]))
            assert frames[result.key_index].size == frame.size
        last = result.detections
    sizes = [frame.size for frame in frames if frame.image is not None]
    assert counts.resolution_changes == sum(one != other for one, other in pairwise(sizes))


@given(streams(), keys())
def test_an_instant_worker_is_a_plain_loop(frames, policy):
    plain, counts = run(frames, policy=policy, max_failures=100)
    instant, same_counts = run(frames, policy=policy, worker=InstantWorker(), max_failures=100)
    stepped, _ = run(frames, policy=policy, worker=SteppedWorker(), max_failures=100)
    assert counts.keys_superseded == same_counts.keys_superseded == 0
    for results in (instant, stepped):
        for one, other in zip(plain, results, strict=True):
            assert same(one.detections, other.detections)
            assert (one.kind, one.key_index, one.problem) == (other.kind, other.key_index, other.problem)


@given(streams(faults=False), keys())
def test_without_faults_the_newest_wanted_key_is_used(frames, policy):
    results, _ = run(frames, policy=policy)
    key = 0
    for frame, result in zip(frames, results, strict=True):
        key = frame.index if frame.index in policy.indices else key
        assert result.key_index == key


@given(streams(faults=False))
def test_interval_one_is_the_detector_on_every_frame(frames):
    results, counts = run(frames, policy=FixedInterval(1))
    assert counts.keys_finished == len(frames)
    for frame, result in zip(frames, results, strict=True):
        with torch.inference_mode():
            alone = DETECTOR.head(DETECTOR.features(tensor(frame)), frame.image.shape[:2])
        assert same(result.detections, alone) and result.kind == "key"


def test_a_thread_finds_what_it_says_whenever_it_is_ready():
    frames = [toy_frame(index) for index in range(60)]
    results, counts = run(frames, policy=FixedInterval(4), worker=ThreadWorker())
    assert_one_result_each(frames, results, counts)
    for frame, result in zip(frames, results, strict=True):
        assert same(result.detections, by_hand(frame, frames[result.key_index]))
    assert_nothing_runs()


class InPlace(ToyDetector):
    """`ToyDetector` whose parts write to what they are given."""

    def features(self, image):
        return super().features(image.mul_(2).mul_(0.5))

    def head(self, features, size):
        return super().head(features.sub_(1).relu_(), size)


@pytest.mark.parametrize("worker", [None, ThreadWorker()])
def test_a_detector_may_write_to_what_it_is_given(worker):
    class Spoiling(InPlace):
        def features(self, image):
            features = super().features(image)
            image.zero_()
            return features

    frames = [toy_frame(index) for index in range(8)]
    policy = KeysAt(frozenset({4}))
    results = list(VideoDetector(Spoiling(), FLOW, policy, worker=worker).stream(frames))
    for frame, result in zip(frames, results, strict=True):
        image, of_key = tensor(frame), tensor(frames[result.key_index])
        features = DETECTOR.features(of_key)
        if result.kind == "carried":
            features = propagate(features, FLOW.flow(FLOW.prepare(image), FLOW.prepare(of_key), None), image.shape[2:])
        assert same(result.detections, InPlace().head(features, frame.image.shape[:2]))


class Named(NamedTuple):
    fine: torch.Tensor
    coarse: torch.Tensor


@pytest.mark.parametrize(
    "form",
    [
        lambda fine, coarse: (fine, coarse),
        lambda fine, coarse: [fine, coarse],
        Named,
        lambda fine, coarse: {"fine": fine, "coarse": coarse},
        lambda fine, coarse: OrderedDict(fine=fine, coarse=coarse),
        lambda fine, coarse: (fine.half(), coarse),
        lambda fine, coarse: (fine.bfloat16(), coarse),
    ],
)
def test_features_have_any_form_and_keep_it(form):
    seen = []

    def features(image):
        fine = DETECTOR.features(image)
        return form(fine, torch.nn.functional.avg_pool2d(fine, 2))

    def head(features, size):
        seen.append(features)
        fine, _ = features.values() if isinstance(features, dict) else features
        return DETECTOR.head(fine.float(), size)

    frames = [toy_frame(index, (16, 24)) for index in range(4)]
    results = list(VideoDetector(SplitDetector(features, head, 8), FLOW, FixedInterval(2)).stream(frames))
    expected = form(torch.zeros(1, 4, 4, 6), torch.zeros(1, 4, 2, 3))
    for each in seen:
        assert type(each) is type(expected)
        ours, its = (list(some.values() if isinstance(some, dict) else some) for some in (expected, each))
        assert [(map.shape, map.dtype) for map in its] == [(map.shape, map.dtype) for map in ours]
    if its[0].dtype == torch.float32:
        plain = list(
            VideoDetector(SplitDetector(DETECTOR.features, DETECTOR.head, 8), FLOW, FixedInterval(2)).stream(frames)
        )
        assert all(same(one.detections, other.detections) for one, other in zip(plain, results, strict=True))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (None, "tensors in a tuple, list or dict, got NoneType"),
        ([torch.zeros(1, 4, 4, 4), 16], "got a list of Tensor, int"),
        ({"maps": [torch.zeros(1, 4, 4, 4)]}, "got a dict of list"),
        (torch.zeros(4, 4, 4), r"expected maps \[1, channels, rows, columns\], got one of \[4, 4, 4\]"),
    ],
)
def test_features_of_another_kind_are_named(features, message):
    detector = SplitDetector(lambda image: features, DETECTOR.head, 4)
    with pytest.raises(VideoError, match=message):
        list(VideoDetector(detector, FLOW).stream([toy_frame(0)]))


def test_a_wish_that_waits_gives_way_to_a_newer_one():
    frames = [toy_frame(index) for index in range(9)]
    results, counts = run(frames, policy=KeysAt(frozenset({1, 2, 3, 4})), worker=SteppedWorker((0, 7, 2)))
    # The worker is asked twice on a frame that is wanted as a key, else once; meanwhile 2, 3 and 4 come, and 4 stays.
    assert [each.key_index for each in results] == [0, 0, 0, 0, 0, 1, 1, 4, 4]
    assert (counts.keys_asked, counts.keys_finished, counts.keys_superseded) == (5, 3, 2)


def test_two_streams_of_one_detector_know_nothing_of_each_other():
    detector = VideoDetector(DETECTOR, FLOW, FixedInterval(3))
    first, second = [toy_frame(index) for index in range(7)], [toy_frame(index + 2, SIZES[1]) for index in range(7)]
    alone = [list(detector.stream(frames)) for frames in (first, second)]
    for one, other, together in zip(
        *alone, zip(detector.stream(first), detector.stream(second), strict=True), strict=True
    ):
        for mine, its in zip((one, other), together, strict=True):
            assert same(mine.detections, its.detections) and mine.key_index == its.key_index


def test_images_become_frames_and_are_padded_by_their_edges():
    images = [toy_frame(index).image for index in range(3)]
    results = list(VideoDetector(DETECTOR, FLOW).stream(images))
    assert [each.frame.index for each in results] == [0, 1, 2]
    padded = image_tensor(images[0], 8, "cpu")
    assert padded.shape == (1, 3, 16, 16) and padded.is_contiguous()
    expected = np.pad(images[0], ((0, 6), (0, 2), (0, 0)), mode="edge").transpose(2, 0, 1)[None] / np.float32(255)
    assert np.array_equal(padded.numpy(), expected.astype(np.float32))


@pytest.mark.parametrize("image", [toy_frame(0).image[::-1], np.asfortranarray(toy_frame(0).image)])
def test_an_image_may_lie_in_memory_as_it_likes(image):
    image.flags.writeable = False
    assert torch.equal(image_tensor(image, 4, "cpu"), image_tensor(image.copy(), 4, "cpu"))


def test_motion_that_a_policy_measures_is_in_the_results():
    class Told:
        def start(self):
            return lambda frame: frame.index * 0.5

    frames = [toy_frame(index) for index in range(6)]
    results, _ = run(frames, policy=MotionPolicy(3.0, Told()))
    assert [each.motion for each in results] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert [each.kind for each in results] == ["key", "carried", "carried", "key", "carried", "key"]
    assert [each.staleness for each in results] == [0, 1, 2, 0, 1, 0]
    assert all(each.motion is None for each in run(frames)[0])
