"""Do thousands of frames, with faults as they come, each have a result, in order, and leave nothing behind?"""

import gc

import pytest
from benchmarks.video.soak import Watch, soak
from benchmarks.video.toys import ShiftFlow, ToyDetector, faulty_frames
from tests.video.made_streams import SteppedWorker, assert_nothing_runs, assert_one_result_each

from bale.video.images import numbered
from bale.video.input_queue import InputQueue
from bale.video.keyframes import FixedInterval
from bale.video.stream import VideoDetector
from bale.video.worker_thread import ThreadWorker

FRAMES = 2000
DELAYS = [job * 7 % 11 for job in range(FRAMES)]


@pytest.mark.parametrize(
    "settings",
    [
        {"worker": SteppedWorker(DELAYS)},
        {"worker": ThreadWorker(), "queue": InputQueue(4)},
    ],
)
def test_a_long_stream_with_faults(settings):
    detector = VideoDetector(ToyDetector(), ShiftFlow(), FixedInterval(5), max_failures=10, **settings)
    stream = detector.stream(faulty_frames(FRAMES, 1, slow=False))
    results = list(stream)
    assert_one_result_each(list(numbered(faulty_frames(FRAMES, 1, slow=False))), results, stream.counts)
    counts = stream.counts
    assert counts.unreadable > 10 and counts.resolution_changes > 0
    assert_nothing_runs()


def test_a_stream_keeps_no_frames():
    detector = VideoDetector(
        ToyDetector(), ShiftFlow(), FixedInterval(5), worker=SteppedWorker(DELAYS), max_failures=10
    )
    kept = []
    for result in detector.stream(faulty_frames(600, 2, slow=False)):
        if result.frame.index in (199, 599):
            gc.collect()
            kept.append(len(gc.get_objects()))
    assert kept[1] - kept[0] < 100


def test_the_benchmark_sees_what_it_looks_for():
    line = soak("in-line", 300, 0, lambda: 1e6)
    assert [line[name] for name in ("lost", "reordered", "unexplained", "growth_mb", "left")] == [0] * 5
    watch = Watch()
    results = list(VideoDetector(ToyDetector(), ShiftFlow()).stream(faulty_frames(12, 0)))
    for index in (0, 1, 5, 3, 4):
        watch.look(results[index])
    assert watch.lost(12) == 7 and watch.reordered == 1
