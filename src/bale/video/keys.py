"""Whose features does a frame use? One key is computed, one more may wait, and the newest that finished counts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from bale.errors import VideoError
from bale.video.detector import Detector, Features
from bale.video.result import StreamCounts
from bale.video.worker import Answer, Done, Failed, Job, RunningWorker, Worker


@dataclass(eq=False)
class View:
    """A frame as detector and flow see it.

    image     float32 [1, 3, height, width], padded
    prepared  what the flow's `prepare` made of it; None until a flow from or to this frame is asked
    """

    index: int
    image: Tensor
    prepared: Any = None


@dataclass(frozen=True, eq=False)
class Key:
    """A frame with features of its own."""

    view: View
    features: Features

    @property
    def index(self) -> int:
        return self.view.index


class Keys:
    """The keys of a stream: asked of a worker, and taken over as they finish.

    A key that fails leaves the older features in use, and is asked for again on the next frame, until `max_failures`
    in a row have failed; with no older features there is nothing to go on with, and the first failure raises.
    """

    def __init__(self, detector: Detector, worker: Worker, max_failures: int) -> None:
        self.newest: Key | None = None
        self.retry = False  # a key failed, and none that was asked later is on its way
        self._counts = StreamCounts()
        self._detector, self._config, self._max_failures = detector, worker, max_failures
        self._started: RunningWorker | None = None
        self._running: View | None = None
        self._waiting: View | None = None
        self._void = False  # what runs is of a resolution that is over
        self._failures = 0  # in a row
        self._problems: list[str] = []

    @property
    def counts(self) -> StreamCounts:
        """Those of keys and workers."""
        counts, worker = replace(self._counts, keys_pending=self._pending), self._started
        if worker is None:
            return counts
        return replace(counts, worker_failures=worker.failures, worker_restarts=worker.restarts)

    @property
    def in_line(self) -> bool:
        """Whether asking computes the features."""
        return self._worker.in_line

    def start(self) -> None:
        """Start the worker."""
        self._started = self._config.start(self._detector)

    def close(self) -> None:
        """End the worker, and give up what it computes."""
        self.forget()
        self._running = None
        if self._started is not None:
            self._started.close()

    @property
    def _worker(self) -> RunningWorker:
        assert self._started is not None, "keys are asked of a worker that was not started"
        return self._started

    @property
    def _pending(self) -> int:
        return int(self._running is not None and not self._void) + int(self._waiting is not None)

    def ask(self, view: View) -> None:
        """Want features of this frame: at once where nothing is computed, else next, in place of what waits."""
        self.retry = False
        self._count(keys_asked=1)
        if self._running is None:
            self._submit(view)
            return
        self._count(keys_superseded=int(self._waiting is not None))
        self._waiting = view

    def collect(self) -> None:
        """Take over what has finished, without waiting.

        Raises `VideoError` where the features failed of too many keys in a row, or of one that was waited for.
        """
        while self._running is not None and (answer := self._worker.poll()) is not None:
            self._settle(answer)

    def wait(self) -> Key:
        """Return the key that was asked last, when it has finished; raises as `collect` does."""
        while self._running is not None:
            self._settle(self._worker.wait())
        assert self.newest is not None
        return self.newest

    def forget(self) -> None:
        """The resolution has changed: no features that there are or that are computed fit any more."""
        self._count(keys_voided=self._pending)
        self._void = self._running is not None
        self.newest, self._waiting, self.retry = None, None, False

    def take_problem(self) -> str:
        """What went wrong since the last call."""
        problem, self._problems = "; ".join(self._problems), []
        return problem

    def _submit(self, view: View) -> None:
        self._running, self._void = view, False
        # A copy, as a detector may normalise it in place: flow is estimated from the frame itself, perhaps meanwhile.
        self._worker.submit(Job(view.index, view.image.clone()))

    def _settle(self, answer: Answer) -> None:
        view, void = self._running, self._void
        assert view is not None
        self._running, self._void = None, False
        if isinstance(answer, Done):
            self._failures = 0
            if not void:
                self.newest = Key(view, answer.features)
                self._count(keys_finished=1, key_seconds=answer.seconds)
        else:
            self._fail(view, answer, void)
        if self._waiting is not None:
            view, self._waiting = self._waiting, None
            self._submit(view)

    def _fail(self, view: View, failed: Failed, void: bool) -> None:
        self._failures += 1
        self._count(keys_failed=int(not void))
        cause = f"{type(failed.error).__name__}: {failed.error}"
        what = f"frame {view.index}: the features of {type(self._detector).__name__} failed ({cause})"
        if failed.fatal:
            raise VideoError(what) from failed.error
        if self._failures >= self._max_failures:
            raise VideoError(f"{what}, the last of {self._failures} keys in a row that did") from failed.error
        if void:
            return
        if self.newest is None:
            raise VideoError(f"{what}, and there are none of an earlier frame to go on with") from failed.error
        self._problems.append(f"{what}; those of frame {self.newest.index} go on")
        self.retry = self._waiting is None

    def _count(self, **more: float) -> None:
        self._counts = self._counts.plus(**more)
