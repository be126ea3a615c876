"""However a stream ends, what it started is over: threads, processes, and what waits for it. Also under `asyncio`."""

import asyncio
import gc
import threading

import pytest
from benchmarks.video.toys import POISON, PoisonedImage, ShiftFlow, ToyDetector, toy_frame
from tests.video.made_streams import SteppedRun, assert_nothing_runs, assert_one_result_each, same, stream_threads

from bale.video.input_queue import InputQueue
from bale.video.keyframes import FixedInterval
from bale.video.stream import VideoDetector
from bale.video.worker_thread import ThreadWorker

BESIDE = {"worker": ThreadWorker(), "queue": InputQueue(2)}


def detector(**settings):
    return VideoDetector(ToyDetector(), ShiftFlow(), FixedInterval(3), **settings)


def frames(many):
    return (toy_frame(index) for index in range(many))


def endless():
    index = 0
    while True:
        yield toy_frame(index)
        index += 1


def test_leaving_a_loop_ends_the_stream():
    for result in detector(**BESIDE).stream(endless()):
        if result.frame.index == 5:
            break
    gc.collect()
    assert_nothing_runs()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_of_the_consumer_ends_the_stream(error):
    with pytest.raises(error), detector(**BESIDE).stream(endless()) as stream:
        for result in stream:
            if result.frame.index == 5:
                raise error
    assert_nothing_runs()
    with pytest.raises(StopIteration):
        next(stream)


def test_ctrl_c_within_a_frame_ends_the_stream():
    class Interrupted(ToyDetector):
        def head(self, features, size):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(VideoDetector(Interrupted(), ShiftFlow(), **BESIDE).stream(endless()))
    assert_nothing_runs()


def test_a_stream_that_nobody_asks_starts_nothing():
    stream = detector(**BESIDE).stream(endless())
    assert stream.counts.frames == 0
    assert not stream_threads()
    stream.close()


def test_the_end_of_the_frames_gives_up_keys_that_are_computed():
    class Never:
        def start(self, its_detector):
            self.run = SteppedRun(its_detector, [0] + [1000] * 9)
            return self.run

    worker = Never()
    stream = detector(worker=worker).stream(frames(8))
    results = list(stream)
    assert_one_result_each(list(frames(8)), results, stream.counts)
    assert stream.counts.keys_voided == 2 and worker.run.closed


@pytest.mark.parametrize("settings", [{}, BESIDE])
def test_asynchronous_results_are_those_of_the_plain_form(settings):
    async def source():
        for frame in frames(20):
            await asyncio.sleep(0)
            yield frame

    async def collect(of):
        stream = detector(**settings).astream(of)
        return [each async for each in stream], stream.counts

    plain = list(detector().stream(frames(20)))
    for of in (frames(20), source()):
        results, counts = asyncio.run(collect(of))
        assert_one_result_each(list(frames(20)), results, counts)
        if not settings:
            assert all(same(one.detections, other.detections) for one, other in zip(plain, results, strict=True))
    assert_nothing_runs()


def test_the_event_loop_runs_while_a_frame_is_worked_on():
    at_work, go_on = threading.Event(), threading.Event()

    class Slow(ToyDetector):
        def features(self, image):
            at_work.set()
            assert go_on.wait(10)  # for the event loop, which only gets there if it is not held
            return super().features(image)

    async def both():
        async def let_go():
            while not at_work.is_set():
                await asyncio.sleep(0)
            go_on.set()

        async with VideoDetector(Slow(), ShiftFlow()).astream(frames(1)) as stream:
            result, _ = await asyncio.gather(anext(stream), let_go())
            return result.kind

    assert asyncio.run(both()) == "key"
    assert_nothing_runs()


def test_a_slow_consumer_holds_the_asynchronous_source_back():
    handed_over = []

    def source():
        for frame in frames(10):
            handed_over.append(frame.index)
            yield frame

    async def consume():
        async for result in detector().astream(source()):
            for _ in range(20):
                await asyncio.sleep(0)
            assert handed_over[-1] == result.frame.index

    asyncio.run(consume())
    assert len(handed_over) == 10


@pytest.mark.parametrize("settings", [{}, BESIDE])
def test_cancelling_what_waits_for_a_frame_ends_the_stream(settings):
    async def silent_camera(asked):
        yield toy_frame(0)
        asked.set()  # by a thread, which now waits
        await asyncio.Event().wait()

    async def watch(asked, seen):
        async for result in detector(**settings).astream(silent_camera(asked)):
            assert result.frame.index == 0
            seen.set()

    async def cancel():
        asked, seen = asyncio.Event(), asyncio.Event()
        watching = asyncio.create_task(watch(asked, seen))
        await seen.wait()
        await asked.wait()
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching

    asyncio.run(cancel())
    assert_nothing_runs()


def test_an_error_reaches_who_awaits():
    class Raising(ToyDetector):
        def head(self, features, size):
            raise PoisonedImage(str(POISON))

    async def consume():
        return [each async for each in VideoDetector(Raising(), ShiftFlow()).astream(frames(3))]

    with pytest.raises(PoisonedImage):
        asyncio.run(consume())
    assert_nothing_runs()


def test_leaving_an_asynchronous_loop_ends_the_stream():
    async def consume():
        async for result in detector(**BESIDE).astream(endless()):
            if result.frame.index == 3:
                break

    asyncio.run(consume())
    assert_nothing_runs()
