"""What comes out of a stream: one result for each frame, and what has been counted so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from bale.video.detections import Detections
from bale.video.frame import Frame

Kind = Literal["key", "carried", "repeated", "dropped"]

STAGES = ("choose", "prepare", "features", "ask", "wait", "flow", "warp", "head")
"""Of a frame's seconds: the policy and the mask of what moved; padding and what the flow needs of a frame; the key
network where it runs in line; handing a key to a worker and taking features back; waiting for a worker; flow; carrying
features; the head. On a CUDA device work is timed as it is launched, and waited for in the head's seconds."""


@dataclass(frozen=True, eq=False)
class FrameResult:
    """What was found on one frame, from which features, and how long it took.

    frame       the frame; without its image where it was dropped
    detections  boxes, on the CPU
    kind        "key": from features of this very frame; "carried": from those of an earlier one, carried here;
                "repeated": the frame could not be read, boxes are the last frame's; "dropped": the input outran the
                machine, boxes are the last frame's
    key_index   the frame whose features the boxes are from; None where there are none yet
    motion      how far the frame moved since the one before, pixels on average; None where the policy does not ask
    arrived     when the source handed the frame over, seconds of `time.perf_counter`
    finished    when its boxes were there, on the same clock
    seconds     time by stage, of `STAGES`; stages that did not run are left out
    problem     what went wrong on the way to this result; empty where nothing did
    """

    frame: Frame
    detections: Detections
    kind: Kind
    key_index: int | None
    motion: float | None
    arrived: float
    finished: float
    seconds: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""

    @property
    def staleness(self) -> int | None:
        """Frames between this one and the one whose features it used; None without features."""
        return None if self.key_index is None else self.frame.index - self.key_index

    @property
    def latency(self) -> float:
        """Seconds from arrival to result."""
        return self.finished - self.arrived


@dataclass(frozen=True)
class StreamCounts:
    """What happened on a stream so far.

    frames              results given
    unreadable          frames without an image
    dropped             frames that a full queue gave up
    resolution_changes  frames of another size than the one before; everything begins anew there
    keys_asked          frames whose features were asked for: all of the five below, or still waited for
    keys_finished       ... came
    keys_failed         ... raised, or took longer than allowed
    keys_superseded     ... gave way to a newer frame before they were begun
    keys_voided         ... were of another resolution by the time they would have been used
    keys_pending        ... are computed or wait to be, now
    worker_failures     times a worker died or hung
    worker_restarts     times another one took over
    key_seconds         time spent in the features of finished keys, wherever they ran
    """

    frames: int = 0
    unreadable: int = 0
    dropped: int = 0
    resolution_changes: int = 0
    keys_asked: int = 0
    keys_finished: int = 0
    keys_failed: int = 0
    keys_superseded: int = 0
    keys_voided: int = 0
    keys_pending: int = 0
    worker_failures: int = 0
    worker_restarts: int = 0
    key_seconds: float = 0.0

    def plus(self, **more: float) -> StreamCounts:
        """Return the counts with these added."""
        return replace(self, **{name: getattr(self, name) + value for name, value in more.items()})
