"""What becomes of frames between their source and the detector? They are read as wanted, or ahead, in a queue."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from bale.errors import VideoError
from bale.video.frame import Frame


@dataclass(frozen=True, eq=False)
class Arrival:
    """A frame, when the source handed it over (seconds of `time.perf_counter`), and whether the queue gave it up."""

    frame: Frame
    time: float
    dropped: bool = False


class Arrivals(Protocol):
    """Frames on their way from a source."""

    def next(self) -> Arrival | None:
        """Return the next frame, waiting for it; None after the last one. Raises what the source raised, in turn."""
        ...

    def close(self) -> None:
        """Read no more."""
        ...


class Pulled:
    """Frames that are read when they are wanted: the source waits, so none is ever too many."""

    def __init__(self, frames: Iterator[Frame]) -> None:
        self._frames = frames

    def next(self) -> Arrival | None:
        frame = next(self._frames, None)
        return None if frame is None else Arrival(frame, time.perf_counter())

    def close(self) -> None:
        return None


@dataclass(frozen=True)
class InputQueue:
    """A thread reads the source ahead, up to `size` frames.

    when_full  "block": the source waits. "drop-oldest": the oldest frame that waits gives way to the newest, and has a
               result nonetheless, of the kind "dropped"; what is kept of it is a note, not its image
    patience   seconds that closing waits for a source that is in the middle of a frame; then it is left alone
    """

    size: int = 4
    when_full: Literal["block", "drop-oldest"] = "block"
    patience: float = 5.0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise VideoError(f"InputQueue(size): expected 1 or more frames, got {self.size}")
        if self.when_full not in ("block", "drop-oldest"):
            raise VideoError(f'InputQueue(when_full): expected "block" or "drop-oldest", got {self.when_full!r}')

    def start(self, frames: Iterator[Frame]) -> Arrivals:
        """Begin to read."""
        return _Queued(self, frames)


class _Queued:
    def __init__(self, config: InputQueue, frames: Iterator[Frame]) -> None:
        self._config = config
        self._arrivals: deque[Arrival] = deque()
        self._dropped = 0  # those at the left, which only have a note left in the queue
        self._error: BaseException | None = None
        self._over = False
        self._closed = False
        self._change = threading.Condition()
        # A daemon, so that a source that never comes back does not keep Python from ending.
        self._reader = threading.Thread(target=self._read, args=(frames,), name="bale frames", daemon=True)
        self._reader.start()

    def next(self) -> Arrival | None:
        with self._change:
            while not self._arrivals and not self._over:
                self._change.wait()
            if not self._arrivals:
                if self._error is not None:
                    raise self._error
                return None
            arrival = self._arrivals.popleft()
            self._dropped -= arrival.dropped
            self._change.notify_all()
            return arrival

    def close(self) -> None:
        with self._change:
            self._closed = True
            self._change.notify_all()
        self._reader.join(self._config.patience)

    def _read(self, frames: Iterator[Frame]) -> None:
        error = None
        try:
            for frame in frames:
                if not self._put(Arrival(frame, time.perf_counter())):
                    break
        except BaseException as raised:
            error = raised
        with self._change:
            self._error, self._over = error, True
            self._change.notify_all()

    def _put(self, arrival: Arrival) -> bool:
        """Queue a frame, or return False where no more are wanted."""
        with self._change:
            full = len(self._arrivals) - self._dropped >= self._config.size
            if full and self._config.when_full == "drop-oldest":
                oldest = self._arrivals[self._dropped]
                lost = replace(oldest.frame, image=None, motion=None, problem="dropped: the input outran the machine")
                self._arrivals[self._dropped] = replace(oldest, frame=lost, dropped=True)
                self._dropped += 1
            while not self._closed and len(self._arrivals) - self._dropped >= self._config.size:
                self._change.wait()
            if self._closed:
                return False
            self._arrivals.append(arrival)
            self._change.notify_all()
            return True
