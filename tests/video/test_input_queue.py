"""Are frames that wait for the detector handed on in order, and those that do not fit blocked or dropped as asked?"""

import threading

import numpy as np
import pytest
from benchmarks.video.toys import ShiftFlow, ToyDetector, toy_frame
from tests.video.made_streams import assert_nothing_runs, assert_one_result_each

from bale.errors import VideoError
from bale.video.frame import Frame
from bale.video.input_queue import InputQueue
from bale.video.keyframes import FixedInterval
from bale.video.pace import paced
from bale.video.stream import VideoDetector


def detector(**settings):
    return VideoDetector(ToyDetector(), ShiftFlow(), FixedInterval(3), **settings)


def test_a_queue_that_blocks_loses_nothing():
    frames = [toy_frame(index) for index in range(40)]
    stream = detector(queue=InputQueue(2)).stream(frames)
    results = list(stream)
    assert_one_result_each(frames, results, stream.counts)
    assert all(each.kind in ("key", "carried") for each in results)
    assert_nothing_runs()


def test_a_queue_that_blocks_holds_the_source_back():
    handed_over = []

    def source():
        for index in range(40):
            handed_over.append(index)
            yield toy_frame(index)

    with detector(queue=InputQueue(3)).stream(source()) as stream:
        for result in stream:
            # One was taken out, three wait, and one more is in the reader's hands.
            assert len(handed_over) <= result.frame.index + 5
    assert_nothing_runs()


def test_the_oldest_that_waits_gives_way_and_has_a_result_nonetheless():
    """The source runs on to frame 9 while the consumer is at frame 0: of a queue of three the last three are left."""
    first_taken, all_handed_over = threading.Event(), threading.Event()

    def source():
        yield toy_frame(0)
        first_taken.wait()
        yield from (toy_frame(index) for index in range(1, 10))
        all_handed_over.set()

    results = []
    with detector(queue=InputQueue(3, "drop-oldest")).stream(source()) as stream:
        for result in stream:
            results.append(result)
            first_taken.set()
            all_handed_over.wait()
        assert_one_result_each([toy_frame(index) for index in range(10)], results, stream.counts)
    kinds = [each.kind for each in results]
    assert kinds == ["key"] + ["dropped"] * 6 + ["key", "carried", "carried"]
    dropped = results[1]
    assert dropped.frame.image is None and dropped.key_index == 0 and "outran" in dropped.problem
    assert_nothing_runs()


def test_a_queue_that_overflows_again_drops_again():
    """Twice the source hands over four or five frames while nobody takes one: each time the last two are left."""
    go_on, handed_over = [threading.Event() for _ in range(2)], [threading.Event() for _ in range(2)]

    def source():
        for part, indices in enumerate((range(5), range(5, 9))):
            go_on[part].wait()
            yield from (toy_frame(index) for index in indices)
            handed_over[part].set()

    arrivals = InputQueue(2, "drop-oldest").start(source())
    taken = []
    for part, many in enumerate((5, 4)):
        go_on[part].set()
        handed_over[part].wait()
        taken += [arrivals.next() for _ in range(many)]
    assert [each.frame.index for each in taken] == list(range(9))
    assert [each.frame.index for each in taken if not each.dropped] == [3, 4, 7, 8]
    assert arrivals.next() is None
    arrivals.close()


@pytest.mark.parametrize("queue", [None, InputQueue(2)])
def test_an_error_of_the_source_comes_after_the_frames_before_it(queue):
    def source():
        yield from (toy_frame(index) for index in range(5))
        raise OSError("the cable is loose")

    results = []
    with pytest.raises(OSError, match="the cable is loose") as raised:
        results.extend(detector(queue=queue).stream(source()))
    assert [each.frame.index for each in results] == [0, 1, 2, 3, 4]
    assert any("after frame 4" in note for note in raised.value.__notes__)
    assert_nothing_runs()


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (np.zeros((4, 4), np.uint8), r"frame 2: expected .* got uint8 \[4, 4\]"),
        (np.zeros((4, 4, 3), np.float32), r"frame 2: .*got float32 \[4, 4, 3\]"),
        (np.zeros((4, 4, 4), np.uint8), r"frame 2: .*got uint8 \[4, 4, 4\]"),
        (np.zeros((0, 4, 3), np.uint8), r"frame 2: .*got uint8 \[0, 4, 3\]"),
        (None, "frame 2: .*got NoneType"),
        (toy_frame(1), "frame 1 came after frame 1"),
        (Frame(5, 0.2, np.zeros((4, 4), np.uint8)), "frame 5: expected"),
    ],
)
def test_what_is_no_frame_is_named(item, expected):
    with pytest.raises(VideoError, match=expected):
        list(detector().stream([toy_frame(0), toy_frame(1), item]))


def test_pace_waits_for_each_frame_and_never_longer():
    now, slept = [100.0], []

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    frames = [Frame(index, time, None) for index, time in enumerate((3.0, 3.5, 3.75, 4.0))]
    seen = []
    for frame in paced(frames, clock=lambda: now[0], sleep=sleep):
        seen.append(now[0] - 100)
        now[0] += 0.375 if frame.index == 1 else 0.0  # the consumer is late once
    assert seen == [0, 0.5, 0.875, 1.0] and slept == [0.5, 0.125]
    now[0] = 0.0
    assert [now[0] for _ in paced(frames, 4, clock=lambda: now[0], sleep=sleep)] == [0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize(
    "make",
    [lambda: InputQueue(0), lambda: InputQueue(1, "newest"), lambda: list(paced([], 0.0))],
)
def test_settings_of_the_input_that_mean_nothing_are_named(make):
    with pytest.raises(VideoError, match=r"\(\w+\): "):
        make()
