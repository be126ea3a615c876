"""Who computes a key frame's features? What a stream asks of a worker, and the plainest one, which does it at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from bale.errors import VideoError
from bale.video.detector import Detector, Features, map_features

Clock = Callable[[], float]


@dataclass(frozen=True, eq=False)
class Job:
    """A key frame: its index in the stream, and its image as the detector takes it."""

    index: int
    image: Tensor


@dataclass(frozen=True, eq=False)
class Done:
    """Features of a key frame, on the image's device, and the seconds that they took."""

    features: Features
    seconds: float


@dataclass(frozen=True, eq=False)
class Failed:
    """Why a key frame has no features. `fatal`: the worker will not do another one."""

    error: Exception
    fatal: bool = False


Answer = Done | Failed


class RunningWorker(Protocol):
    """A worker at work on one stream, one job at a time. `submit`, `poll` and `wait` are called in inference mode.

    in_line   features are computed within `submit`
    failures  how often it died or hung
    restarts  how often another thread or process took over
    """

    in_line: bool
    failures: int
    restarts: int

    def submit(self, job: Job) -> None:
        """Begin a job; the one before has been answered."""
        ...

    def poll(self) -> Answer | None:
        """Return the answer to the job, once; None where there is none yet. Never waits."""
        ...

    def wait(self) -> Answer:
        """Return the answer to the job as soon as there is one; a worker that hangs fails in the end."""
        ...

    def close(self) -> None:
        """Give up what is under way and end. May be called twice."""
        ...


class Worker(Protocol):
    """Where key frames are computed, ready for any number of streams."""

    def start(self, detector: Detector) -> RunningWorker:
        """Return a worker that computes `detector.features`, for one stream."""
        ...


@dataclass(frozen=True)
class InstantWorker:
    """Computes a key when it is asked, in line: a stream with it is plain, sequential Deep Feature Flow."""

    def start(self, detector: Detector) -> RunningWorker:
        return _Instant(detector)


class _Instant:
    def __init__(self, detector: Detector) -> None:
        self.in_line, self.failures, self.restarts = True, 0, 0
        self._detector = detector
        self._answer: Answer | None = None

    def submit(self, job: Job) -> None:
        self._answer = answer_of(self._detector, job.image)

    def poll(self) -> Answer | None:
        answer, self._answer = self._answer, None
        return answer

    def wait(self) -> Answer:
        answer = self.poll()
        assert answer is not None, "waited for a job that was not submitted"
        return answer

    def close(self) -> None:
        self._answer = None


def answer_of(detector: Detector, image: Tensor) -> Answer:
    """Return the features of an image, or why there are none."""
    begin = time.perf_counter()
    try:
        with torch.inference_mode():
            features = map_features(_checked, detector.features(image))
    except Exception as error:
        return Failed(error)
    return Done(features, time.perf_counter() - begin)


def _checked(each: Tensor) -> Tensor:
    if each.ndim != 4 or each.shape[0] != 1:
        raise VideoError(
            f"a detector's features: expected maps [1, channels, rows, columns], got one of {list(each.shape)}"
        )
    return each


def check_worker(where: str, threads: int, timeout: float) -> None:
    """Raise `VideoError` for settings with which no worker could work."""
    if threads < 1:
        raise VideoError(f"{where}(threads): expected 1 or more, got {threads}")
    if not timeout > 0:
        raise VideoError(f"{where}(timeout): expected more than 0 seconds, got {timeout}")
