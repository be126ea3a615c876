"""What happens when a worker's key raises, hangs, or its process dies: counted, told, gone on with, or the end?"""

import multiprocessing
import os
import signal
import threading

import pytest
import torch
from benchmarks.video.toys import PoisonedImage, ShiftFlow, ToyDetector, toy_frame
from tests.video.made_streams import KeysAt, SteppedWorker, assert_nothing_runs, assert_one_result_each

from bale.errors import VideoError
from bale.video.images import image_tensor
from bale.video.keyframes import FixedInterval
from bale.video.shared_block import SharedBlock, places_of
from bale.video.stream import VideoDetector
from bale.video.worker import Done, Failed, Job
from bale.video.worker_child import flatten, unflatten
from bale.video.worker_process import ProcessRun, ProcessWorker
from bale.video.worker_thread import ThreadRun, ThreadWorker


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Hanging(ToyDetector):
    """Waits for an event on its first image."""

    def __init__(self):
        super().__init__()
        self.first, self.let_go = True, threading.Event()

    def features(self, image):
        if self.first:
            self.first = False
            self.let_go.wait()
        return super().features(image)


class StoppingProcess(ToyDetector):
    """Stops its own process on one image, unless a note says that it has done so."""

    def __init__(self, note):
        super().__init__()
        self.note = note

    def features(self, image):
        if image.shape == STOPPING.image.shape and not self.note.exists():
            self.note.touch()
            os.kill(os.getpid(), signal.SIGSTOP)
        return super().features(image)


def job(index=0, **settings):
    return Job(index, image_tensor(toy_frame(index, **settings).image, 4, "cpu"))


STOPPING = job(9, size=(100, 4))


def run(frames, detector=None, **settings):
    stream = VideoDetector(detector or ToyDetector(), ShiftFlow(), **settings).stream(frames)
    results = list(stream)
    return results, stream.counts


@pytest.mark.parametrize("worker", [None, SteppedWorker()])
def test_a_key_that_raises_leaves_the_older_features_and_the_next_frame_is_asked(worker):
    frames = [toy_frame(index, poison=index == 3) for index in range(6)]
    results, counts = run(frames, policy=FixedInterval(3), worker=worker)
    assert_one_result_each(frames, results, counts)
    assert counts.keys_failed == 1
    assert [each.key_index for each in results] == [0, 0, 0, 0, 4, 4]
    (told,) = [each for each in results if each.problem]
    assert told.frame.index == 3
    for part in ("frame 3", "PoisonedImage", "frame 0 go on"):
        assert part in told.problem


def test_a_key_that_raises_is_not_asked_again_where_a_newer_one_waits():
    frames = [toy_frame(index, poison=index == 1) for index in range(7)]
    results, counts = run(frames, policy=KeysAt(frozenset({1, 2})), worker=SteppedWorker((0, 3, 2)))
    assert [each.key_index for each in results] == [0, 0, 0, 0, 0, 2, 2]
    assert (counts.keys_asked, counts.keys_failed, counts.keys_finished) == (3, 1, 2)


@pytest.mark.parametrize("poison", [False, True])
def test_keys_of_a_resolution_that_is_over_are_void_even_where_they_fail(poison):
    frames = [toy_frame(index, poison=poison and index == 1) for index in range(4)]
    frames += [toy_frame(index, (8, 8)) for index in range(4, 6)]
    results, counts = run(frames, policy=KeysAt(frozenset({1, 2})), worker=SteppedWorker((0, 99)))
    assert [each.key_index for each in results] == [0, 0, 0, 0, 4, 4]
    assert not any(each.problem for each in results)
    assert (counts.keys_asked, counts.keys_finished, counts.keys_voided) == (4, 2, 2)
    assert counts.keys_failed == counts.keys_superseded == 0


def test_keys_that_fail_in_a_row_end_the_stream_with_their_cause():
    frames = [toy_frame(index, poison=index >= 2) for index in range(9)]
    results = []
    with pytest.raises(
        VideoError, match=r"frame 4: the features of ToyDetector failed .* of 3 keys in a row that did"
    ) as raised:
        results.extend(VideoDetector(ToyDetector(), ShiftFlow(), KeysAt(frozenset({2}))).stream(frames))
    assert [each.frame.index for each in results] == [0, 1, 2, 3]
    assert isinstance(raised.value.__cause__, PoisonedImage)


@pytest.mark.parametrize("worker", [None, ThreadWorker()])
def test_with_no_features_to_go_on_with_a_failure_is_the_end(worker):
    with pytest.raises(VideoError, match=r"frame 0: .*none of an earlier frame"):
        run([toy_frame(0, poison=True)], worker=worker)
    with pytest.raises(VideoError, match=r"frame 1: .*none of an earlier frame"):
        run([toy_frame(0), toy_frame(1, (8, 8), poison=True)], worker=worker)
    assert_nothing_runs()


def test_what_another_part_raises_is_its_own_and_says_on_which_frame():
    class NoHead(ToyDetector):
        def head(self, features, size):
            raise ZeroDivisionError("no head")

    with pytest.raises(ZeroDivisionError, match="no head") as raised:
        run([toy_frame(7)], NoHead())
    assert raised.value.__notes__ == ["raised by the head of NoHead, on frame 7 of the stream"]


def test_a_detector_that_trains_or_does_not_say_its_multiple_is_refused():
    with pytest.raises(VideoError, match=r"call \.eval\(\)"):
        run([], ToyDetector().train())
    with pytest.raises(VideoError, match=r"Linear\.multiple: expected"):
        VideoDetector(torch.nn.Linear(1, 1), ShiftFlow())
    with pytest.raises(VideoError, match="max_failures"):
        VideoDetector(ToyDetector(), ShiftFlow(), max_failures=0)


def test_a_thread_that_hangs_is_left_alone_and_what_it_still_finds_is_ignored():
    clock, detector = Clock(), Hanging()
    worker = ThreadRun(ThreadWorker(timeout=5), detector, clock)
    worker.submit(job(0))
    assert worker.poll() is None
    clock.now = 5.0
    failed = worker.poll()
    assert isinstance(failed, Failed) and not failed.fatal and "within 5 s" in str(failed.error)
    assert (worker.failures, worker.restarts) == (1, 1)
    worker.submit(job(1))
    detector.let_go.set()
    done = worker.wait()
    assert isinstance(done, Done) and torch.equal(done.features, detector.features(job(1).image))
    worker.close()
    assert_nothing_runs()


def test_a_workers_threads_are_its_own():
    seen = []

    class Counting(ToyDetector):
        def features(self, image):
            seen.append(torch.get_num_threads())
            return super().features(image)

    before = torch.get_num_threads()
    worker = ThreadRun(ThreadWorker(threads=before + 2), Counting())
    worker.submit(job())
    assert torch.get_num_threads() == before
    worker.wait()
    assert torch.get_num_threads() == before and seen == [before + 2]
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert seen[1] == before
    worker.close()


def test_a_process_computes_the_same_bits_and_is_replaced_when_it_dies_or_hangs(tmp_path):
    clock, plain, note = Clock(), ToyDetector(), tmp_path / "stopped"
    worker = ProcessRun(ProcessWorker(timeout=5, restarts=1), StoppingProcess(note), clock)

    def features_of(asked):
        worker.submit(asked)
        done = worker.wait()
        assert isinstance(done, Done) and torch.equal(done.features, plain.features(asked.image))

    os.kill(worker.pid, signal.SIGINT)  # as a terminal's Ctrl-C does while the process still imports torch
    features_of(job(0))
    assert worker.failures == 0
    worker.submit(job(1, poison=True))
    failed = worker.wait()
    assert isinstance(failed, Failed) and not failed.fatal and isinstance(failed.error, PoisonedImage)

    os.kill(worker.pid, signal.SIGKILL)
    features_of(job(2, size=(30, 40)))  # in larger blocks of memory than the frames before
    assert (worker.failures, worker.restarts) == (1, 1)

    worker.submit(STOPPING)
    while not note.exists():
        assert worker.poll() is None
    clock.now += 5.0
    done = worker.wait()  # of the third process, which finds the note
    assert isinstance(done, Done) and (worker.failures, worker.restarts) == (2, 2)

    os.kill(worker.pid, signal.SIGKILL)
    worker.submit(job(3))
    while worker.restarts < 3:
        assert worker.poll() is None
    os.kill(worker.pid, signal.SIGKILL)
    failed = worker.wait()
    assert isinstance(failed, Failed) and failed.fatal and "died (exit code -9), 2 times in a row" in str(failed.error)
    worker.close()
    worker.close()
    assert not multiprocessing.active_children()


def test_a_process_that_cannot_have_its_detector_is_not_started_again(monkeypatch):
    """As in a notebook, whose classes no other process can import."""
    monkeypatch.setattr(torch.nn, "OfANotebook", type("OfANotebook", (ToyDetector,), {}), raising=False)
    torch.nn.OfANotebook.__module__ = "torch.nn"
    with pytest.raises(VideoError, match=r"process cannot read the detector \(AttributeError.*take a ThreadWorker"):
        run([toy_frame(0)], torch.nn.OfANotebook(), worker=ProcessWorker())
    assert not multiprocessing.active_children()


def test_features_of_any_form_pass_through_a_block():
    features = {
        "fine": torch.randn(1, 2, 3, 5),
        "none": torch.zeros(1, 0, 2, 2),
        "half": torch.randn(1, 3, 1, 1).half(),
    }
    for form in (features, list(features.values()), tuple(features.values()), features["fine"]):
        tensors, pickled = flatten(form)
        places, size = places_of(tensors)
        mine = SharedBlock(size)
        its = SharedBlock(0, mine.name)
        mine.write(tensors, places)
        back = unflatten(pickled, its.read(places, torch.device("cpu")))
        its.close()
        mine.close()
        assert type(back) is type(form)
        for one, other in zip(flatten(back)[0], tensors, strict=True):
            assert torch.equal(one, other) and one.dtype == other.dtype


def test_a_detector_that_cannot_be_pickled_is_named():
    class Local(ToyDetector):
        pass

    with pytest.raises(VideoError, match=r"Local cannot be pickled .*take a ThreadWorker"):
        run([toy_frame(0)], Local(), worker=ProcessWorker())


@pytest.mark.parametrize(
    "make", [lambda: ThreadWorker(0), lambda: ThreadWorker(timeout=0), lambda: ProcessWorker(restarts=-1)]
)
def test_settings_of_workers_that_mean_nothing_are_named(make):
    with pytest.raises(VideoError, match=r"\(\w+\): "):
        make()
