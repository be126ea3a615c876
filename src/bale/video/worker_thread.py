"""A thread that computes key frames beside the stream: asynchronous Deep Feature Flow in one process.

torch leaves Python's lock while it computes, so both sides run at once. On a CUDA device the thread has a stream of its
own, and events order it against the frames' stream.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from queue import SimpleQueue

import torch
from torch import Tensor

from bale.errors import VideoError
from bale.video.detector import Detector, map_features
from bale.video.worker import Answer, Clock, Done, Failed, Job, RunningWorker, answer_of, check_worker


@dataclass(frozen=True)
class ThreadWorker:
    """Computes keys in a thread of this process.

    threads  of torch within the detector's operations; they are the worker's own, those of others stay as they are.
             Where both sides together have more than there are cores, the frames wait for each other's threads: on two
             cores one each, so `torch.set_num_threads(1)` for the frames
    timeout  seconds that a key may take

    A thread that takes longer cannot be stopped: it is left alone, what it still finds is ignored, and a new one takes
    over.
    """

    threads: int = 1
    timeout: float = 30.0

    def __post_init__(self) -> None:
        check_worker("ThreadWorker", self.threads, self.timeout)

    def start(self, detector: Detector) -> RunningWorker:
        return ThreadRun(self, detector)


class ThreadRun:
    """A thread worker of one stream; `clock` tells the seconds."""

    def __init__(self, config: ThreadWorker, detector: Detector, clock: Clock = time.monotonic) -> None:
        self.in_line, self.failures, self.restarts = False, 0, 0
        self._config, self._detector, self._clock = config, detector, clock
        self._thread = _Thread(config.threads, detector)
        self._deadline = 0.0

    def submit(self, job: Job) -> None:
        self._deadline = self._clock() + self._config.timeout
        self._thread.jobs.put((job, _recorded_event(job.image)))

    def poll(self) -> Answer | None:
        return self._answer(0.0)

    def wait(self) -> Answer:
        while True:
            answer = self._answer(max(self._deadline - self._clock(), 0.0))
            if answer is not None:
                return answer

    def close(self) -> None:
        self._thread.jobs.put(None)
        self._thread.join(self._config.timeout)  # a job under way cannot be stopped, only waited for

    def _answer(self, seconds: float) -> Answer | None:
        thread = self._thread
        if thread.answered.wait(seconds):
            thread.answered.clear()
            answer, thread.answer = thread.answer, None
            assert answer is not None
            return _of_this_stream(answer)
        if self._clock() < self._deadline:
            return None
        thread.jobs.put(None)  # should it ever come back, it ends
        self._thread = _Thread(self._config.threads, self._detector)
        self.failures += 1
        self.restarts += 1
        return Failed(VideoError(f"the worker's thread gave no features within {self._config.timeout} s"))


class _Thread:
    """One thread, and the place where it leaves its answer."""

    def __init__(self, threads: int, detector: Detector) -> None:
        self.jobs: SimpleQueue[tuple[Job, torch.cuda.Event | None] | None] = SimpleQueue()
        self.answered = threading.Event()
        self.answer: Answer | None = None
        self._detector = detector
        self._stream: torch.cuda.Stream | None = None
        self._threads = threads
        self._begun = threading.Event()
        # A daemon, so that one that hangs does not keep Python from ending.
        self._thread = threading.Thread(target=self._run, name="bale key frames", daemon=True)
        others = torch.get_num_threads()  # of this thread, which takes the number over at its first use of it
        self._thread.start()
        self._begun.wait()
        torch.set_num_threads(others)  # of this thread, and of those that start from now on

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def _run(self) -> None:
        torch.get_num_threads()  # likewise: a first use after the next line would undo it
        torch.set_num_threads(self._threads)  # of this thread, and of those that start, until it is set back
        self._begun.set()
        while (next_one := self.jobs.get()) is not None:
            job, ready = next_one
            self.answer = answer_of(self._detector, job.image) if ready is None else self._on_gpu(job.image, ready)
            del next_one, job, ready  # or the image would live until the next one comes
            self.answered.set()

    def _on_gpu(self, image: Tensor, ready: torch.cuda.Event) -> Answer:
        if self._stream is None:
            self._stream = torch.cuda.Stream(image.device)
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(ready)
            image.record_stream(self._stream)  # its memory is not given to another tensor before this stream is past
            begin = time.perf_counter()
            answer = answer_of(self._detector, image)
            try:
                self._stream.synchronize()  # finished means computed, not launched; this leaves Python's lock too
            except Exception as error:
                return Failed(error)
        return answer if isinstance(answer, Failed) else Done(answer.features, time.perf_counter() - begin)


def _recorded_event(image: Tensor) -> torch.cuda.Event | None:
    """On a CUDA device an event that comes when the image is complete; None elsewhere."""
    if image.device.type != "cuda":
        return None
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(image.device))
    return event


def _of_this_stream(answer: Answer) -> Answer:
    """Tell the allocator that features made on the worker's CUDA stream are used on this thread's."""

    def use(each: Tensor) -> Tensor:
        if each.device.type == "cuda":
            each.record_stream(torch.cuda.current_stream(each.device))
        return each

    if isinstance(answer, Done):
        map_features(use, answer.features)
    return answer
