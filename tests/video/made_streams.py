"""Policies, workers and results whose every move a test decides: nothing here sleeps or looks at a clock."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bale.video.detections import Detections
from bale.video.frame import Frame
from bale.video.keyframes import Choice
from bale.video.result import STAGES, FrameResult, StreamCounts
from bale.video.worker import Answer, Failed, Job, answer_of


@dataclass(frozen=True)
class KeysAt:
    """A policy that wants keys at given indices."""

    indices: frozenset[int]

    def start(self):
        return self

    def choose(self, frame: Frame) -> Choice:
        return Choice(frame.index in self.indices)


@dataclass(frozen=True)
class SteppedWorker:
    """A worker whose n-th key is ready when it has been asked for it so many times; -1: it dies of it instead."""

    polls: Sequence[int] = ()

    def start(self, detector):
        return SteppedRun(detector, self.polls)


class SteppedRun:
    in_line = False

    def __init__(self, detector, polls) -> None:
        self.failures = self.restarts = 0
        self._detector, self._polls = detector, deque(polls)
        self._answer: Answer | None = None
        self._left = 0
        self.closed = False

    def submit(self, job: Job) -> None:
        assert self._answer is None, "a second job at a time"
        self._left = self._polls.popleft() if self._polls else 0
        self._answer = answer_of(self._detector, job.image)
        if self._left < 0:
            self.failures += 1
            self.restarts += 1
            self._answer = Failed(RuntimeError("died"))

    def poll(self) -> Answer | None:
        if self._left > 0:
            self._left -= 1
            return None
        return self.wait() if self._answer is not None else None

    def wait(self) -> Answer:
        answer, self._answer, self._left = self._answer, None, 0
        assert answer is not None
        return answer

    def close(self) -> None:
        self.closed = True


def same(one: Detections, other: Detections) -> bool:
    """Bit for bit."""
    return all(
        torch.equal(mine, its)
        for mine, its in ((one.boxes, other.boxes), (one.scores, other.scores), (one.labels, other.labels))
    )


def assert_one_result_each(frames: Sequence[Frame], results: Sequence[FrameResult], counts: StreamCounts) -> None:
    """What holds of every stream that ran to its end, whatever happened on the way."""
    assert [each.frame.index for each in results] == [each.index for each in frames]
    used = [each.key_index for each in results if each.key_index is not None]
    assert used == sorted(used)
    for each in results:
        assert each.staleness is None or each.staleness >= 0
        assert each.kind != "key" or each.staleness == 0
        assert each.kind != "carried" or each.staleness > 0
        assert each.finished >= each.arrived and set(each.seconds) <= set(STAGES)
    assert counts.frames == len(frames)
    assert counts.unreadable == sum(each.kind == "repeated" for each in results)
    assert counts.dropped == sum(each.kind == "dropped" for each in results)
    settled = counts.keys_finished + counts.keys_failed + counts.keys_superseded + counts.keys_voided
    assert counts.keys_asked == settled and counts.keys_pending == 0


def assert_nothing_runs() -> None:
    """No thread that bale started is left, but for those that are just ending."""
    for thread in stream_threads():
        thread.join(10)
        assert not thread.is_alive(), thread.name


def stream_threads() -> list[threading.Thread]:
    """Threads of streams; other tests of the same process may have left a pool for kernels."""
    names = ("bale stream", "bale frames", "bale key frames")
    return [thread for thread in threading.enumerate() if thread.name.startswith(names)]
