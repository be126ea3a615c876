"""A process that computes key frames beside the stream: asynchronous Deep Feature Flow across two processes.

Dearer than a thread by the copies of an image and of features, and by seconds to start; but neither side waits for the
other's Python, and one that crashes or hangs is killed and replaced.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import wait as wait_for_any

from bale.errors import VideoError
from bale.video import worker_child
from bale.video.detector import Detector
from bale.video.shared_block import SharedBlock, places_of
from bale.video.worker import Answer, Clock, Done, Failed, Job, RunningWorker, check_worker


@dataclass(frozen=True)
class ProcessWorker:
    """Computes keys in a process of its own, which `multiprocessing` spawns.

    threads   of torch in that process
    timeout   seconds that a key may take; a process that takes longer is killed
    restarts  how often in a row, without a key between, a process that died or was killed is replaced; its key is
              asked again. After that the stream ends with a `VideoError`
    start_up  seconds that a process may take to start: to import torch, and to read the detector

    The detector is pickled once, as it is when the stream starts. As with any process that is spawned, a script that
    uses this has its code under `if __name__ == "__main__":`.
    """

    threads: int = 1
    timeout: float = 30.0
    restarts: int = 3
    start_up: float = 300.0

    def __post_init__(self) -> None:
        check_worker("ProcessWorker", self.threads, self.timeout)
        if self.restarts < 0:
            raise VideoError(f"ProcessWorker(restarts): expected 0 or more, got {self.restarts}")

    def start(self, detector: Detector) -> RunningWorker:
        return ProcessRun(self, detector)


_IN_A_MODULE = "take a ThreadWorker, or define its classes and functions at the top of a module"
_GUARDED = 'A script that uses a ProcessWorker has its code under `if __name__ == "__main__":`'


class ProcessRun:
    """A process worker of one stream; `clock` tells the seconds."""

    def __init__(self, config: ProcessWorker, detector: Detector, clock: Clock = time.monotonic) -> None:
        self.in_line, self.failures, self.restarts = False, 0, 0
        self._config, self._clock = config, clock
        self._detector = _pickled(detector)
        self._images, self._room = _Block(), _Block()
        self._job: Job | None = None
        self._in_a_row = 0  # failures since the last key
        self._child = _Child(self._detector, config.threads)
        self._deadline = clock() + config.start_up

    @property
    def pid(self) -> int | None:
        """The number of the process that now works."""
        return self._child.process.pid

    def submit(self, job: Job) -> None:
        self._job = job
        self._send(job)

    def poll(self) -> Answer | None:
        return self._answer(0.0)

    def wait(self) -> Answer:
        while True:
            answer = self._answer(max(self._deadline - self._clock(), 0.0))
            if answer is not None:
                return answer

    def close(self) -> None:
        self._job = None
        self._child.end()
        self._images.close()
        self._room.close()

    def _send(self, job: Job) -> None:
        places, size = places_of([job.image])
        block = self._images.at_least(size)
        block.write([job.image], places)
        if self._child.ready:
            self._deadline = self._clock() + self._config.timeout
        self._child.send((block.name, places, job.image.device))

    def _answer(self, seconds: float) -> Answer | None:
        """What the child has said, waiting up to so long; None also after a message that is no answer yet."""
        child = self._child
        wait_for_any([child.pipe, child.process.sentinel], seconds)
        try:
            message = child.pipe.recv() if child.pipe.poll(0) else None
        except (EOFError, OSError):
            return self._replace(f"died (exit code {child.exit_code()})")
        if message is not None:
            return self._understood(message)
        if not child.process.is_alive():
            return self._replace(f"died (exit code {child.exit_code()})")
        if self._clock() >= self._deadline and (self._job is not None or not child.ready):
            return self._replace("took longer than it may")
        return None

    def _understood(self, message: object) -> Answer | None:
        assert self._job is not None or isinstance(message, worker_child.Ready | worker_child.Unreadable)
        match message:
            case worker_child.Ready():
                self._child.ready = True
                self._deadline = self._clock() + self._config.timeout
            case worker_child.Unreadable(text):
                return self._give_up(f"cannot read the detector ({text}); {_IN_A_MODULE}")
            case worker_child.Room(size):
                self._child.send(self._room.at_least(size).name)
            case worker_child.Raised(text, pickled):
                self._job, self._in_a_row = None, 0
                return Failed(VideoError(text) if pickled is None else pickle.loads(pickled))
            case worker_child.Computed(form, places, took):
                assert self._job is not None
                device = self._job.image.device
                tensors = self._room.at_least(0).read(places, device)
                self._job, self._in_a_row = None, 0
                return Done(worker_child.unflatten(form, tensors), took)
            case _:
                raise AssertionError(f"a child said {message!r}")
        return None

    def _replace(self, what: str) -> Answer | None:
        """Another process takes over and gets the key again; an answer only where that is over."""
        was_ready, code = self._child.ready, self._child.process.exitcode
        self._in_a_row += 1
        if not was_ready and code is not None and code > 0:  # it ended itself, and so would the next one
            return self._give_up(f"{what} before it had its detector; what it said is on stderr. {_GUARDED}")
        if self._in_a_row > self._config.restarts:
            return self._give_up(f"{what}, {self._in_a_row} times in a row")
        self._child.end()
        self.failures += 1
        self.restarts += 1
        self._child = _Child(self._detector, self._config.threads)
        self._deadline = self._clock() + self._config.start_up
        if self._job is not None:
            self._send(self._job)
        return None

    def _give_up(self, what: str) -> Failed:
        self._child.end()
        self.failures += 1
        self._job = None
        return Failed(VideoError(f"the worker's process {what}"), fatal=True)


class _Child:
    """One process and the pipe to it."""

    def __init__(self, detector: bytes, threads: int) -> None:
        spawning = multiprocessing.get_context("spawn")
        self.pipe, far = spawning.Pipe()
        self.process = spawning.Process(
            target=worker_child.run, args=(far, detector, threads), name="bale key frames", daemon=True
        )
        with _without_ctrl_c():
            self.process.start()
        far.close()  # so that the pipe ends with the child
        self.ready = False

    def send(self, message: object) -> None:
        with suppress(OSError):  # it has died, which the next look at it shows
            self.pipe.send(message)

    def exit_code(self) -> int | None:
        self.process.join(1.0)  # its pipe ends a moment before it does
        return self.process.exitcode

    def end(self) -> None:
        """Kill it: it owns nothing, and what it computes is no longer wanted."""
        self.pipe.close()
        if self.process.is_alive():
            self.process.kill()
        self.process.join()


class _Block:
    """A block of shared memory that grows as needed."""

    def __init__(self) -> None:
        self._block: SharedBlock | None = None

    def at_least(self, size: int) -> SharedBlock:
        if self._block is None or self._block.size < size:
            self.close()
            self._block = SharedBlock(max(size, 1))
        return self._block

    def close(self) -> None:
        if self._block is not None:
            self._block.close()
            self._block = None


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Processes that start within never hear of Ctrl-C, which is for all of a terminal's: the parent answers it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows, whose children only ignore it once they run
        yield
        return
    resource_tracker.ensure_running()  # which would let the signal through again as it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # what came meanwhile comes now


def _pickled(detector: Detector) -> bytes:
    try:
        return pickle.dumps(detector)
    except Exception as error:
        raise VideoError(
            f"ProcessWorker: {type(detector).__name__} cannot be pickled ({error}), and so not be sent to a process; "
            f"{_IN_A_MODULE}"
        ) from error
