"""How late did boxes come, how old were the features behind them, and what share of the computation was spent?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np

from bale.errors import VideoError
from bale.video.detections import Detections
from bale.video.frame import Frame

WAITING = ("wait",)  # stages in which a frame waits for others' work, and does none
_FEATURES, _HEAD = "features", "head"  # the stages of which a detector consists


class Result(Protocol):
    """What statistics ask of a frame's result; `bale.video.result.FrameResult` is one."""

    @property
    def frame(self) -> Frame: ...
    @property
    def detections(self) -> Detections: ...
    @property
    def kind(self) -> str: ...
    @property
    def key_index(self) -> int | None: ...
    @property
    def staleness(self) -> int | None: ...
    @property
    def motion(self) -> float | None: ...
    @property
    def arrived(self) -> float: ...
    @property
    def finished(self) -> float: ...
    @property
    def latency(self) -> float: ...
    @property
    def seconds(self) -> Mapping[str, float]: ...
    @property
    def problem(self) -> str: ...


class Counts(Protocol):
    """What statistics ask of a stream's counts; `bale.video.result.StreamCounts` are some."""

    @property
    def keys_finished(self) -> int: ...
    @property
    def key_seconds(self) -> float: ...


AnyResult = TypeVar("AnyResult", bound=Any)


def without_image(result: AnyResult) -> AnyResult:
    """Return a result, a dataclass, without the pixels and blocks of its frame.

    So thousands of them can be kept: a frame of 1280 x 720 pixels is 2.8 MB.
    """
    return replace(result, frame=replace(result.frame, image=None, motion=None))


@dataclass(frozen=True)
class LatencyStats:
    """Seconds from a frame's arrival to its boxes.

    frames  how many the figures below are of: all but the first
    mean, median
    p99     the least latency that 99 % of the frames do not exceed (nearest rank: of 200 frames, the third longest)
    worst
    first   the first frame's, which has nothing to be carried from and pays for every allocation; apart from the rest
    """

    frames: int
    mean: float
    median: float
    p99: float
    worst: float
    first: float

    @staticmethod
    def of(latencies: Sequence[float] | np.ndarray) -> LatencyStats:
        """Return the statistics of latencies in the order of their frames; of a single frame, all are its own.

        Raises `VideoError` where there are none.
        """
        if not len(latencies):
            raise VideoError("latency: expected at least one frame that was not dropped")
        every = np.asarray(latencies, np.float64)
        rest = every[1:] if len(every) > 1 else every
        median, p99 = np.quantile(rest, [0.5, 0.99], method="inverted_cdf")
        return LatencyStats(
            len(rest), float(rest.mean()), float(median), float(p99), float(rest.max()), float(every[0])
        )


@dataclass(frozen=True)
class ComputeShare:
    """What was spent on a stream, and what the detector alone would spend on every frame, in the same unit."""

    spent: float
    every_frame: float

    @property
    def share(self) -> float:
        """Spent as a share of what the detector would spend; above 1 where all the saving cost more than it saved."""
        return self.spent / self.every_frame


@dataclass(frozen=True)
class StreamStats:
    """What became of a stream.

    frames           results, of whichever kind
    kinds            how many of each kind there were
    keys             frames whose features were computed
    problems         results that say what went wrong, other than that they were dropped
    boxes            detections of all frames
    rate             results a second, from the first arrival to the last result; 0 where no time passed
    latency          of frames that were not dropped; None where all were
    staleness_mean   frames between a frame and the one whose features it used; NaN where none had features
    staleness_worst
    seconds          time by stage, summed over frames
    compute          seconds of work against the detector on every frame; None where no key frame says what it costs
    """

    frames: int
    kinds: Mapping[str, int]
    keys: int
    problems: int
    boxes: int
    rate: float
    latency: LatencyStats | None
    staleness_mean: float
    staleness_worst: int
    seconds: Mapping[str, float]
    compute: ComputeShare | None

    @property
    def key_rate(self) -> float:
        """Frames whose features were computed, as a share of all."""
        return self.keys / self.frames

    @property
    def dropped(self) -> int:
        """Frames that a full queue gave up."""
        return self.kinds.get("dropped", 0)


def stream_stats(
    results: Sequence[Result], counts: Counts | None = None, detector_seconds: float | None = None
) -> StreamStats:
    """Return the statistics of a stream's results, in the order of frames.

    counts            what the stream counted: keys that a worker finished, and its seconds, which no frame's own
                      stages have; None: keys are the frames whose features were used, seconds the frames' own
    detector_seconds  what the detector alone takes for a frame; None: what features and head took in this run, which
                      beside a busy worker is longer than alone

    Time is of the clock, so of two workers it is the sum, and waiting (`WAITING`) is no work.
    Raises `VideoError` where there are no results.
    """
    if not results:
        raise VideoError("statistics: expected at least one result")
    kinds = Counter(result.kind for result in results)
    kept = [result for result in results if result.kind != "dropped"]
    stale = [result.staleness for result in kept if result.staleness is not None]
    seconds: Counter[str] = Counter()
    for result in results:
        seconds.update(result.seconds)
    keys = len({result.key_index for result in results} - {None}) if counts is None else counts.keys_finished
    span = max(result.finished for result in results) - results[0].arrived
    return StreamStats(
        frames=len(results),
        kinds=dict(kinds),
        keys=keys,
        problems=sum(bool(result.problem) for result in kept),
        boxes=sum(len(result.detections) for result in results),
        rate=len(results) / span if span > 0 else 0.0,
        latency=LatencyStats.of([result.latency for result in kept]) if kept else None,
        staleness_mean=float(np.mean(stale)) if stale else float("nan"),
        staleness_worst=max(stale, default=0),
        seconds=dict(seconds),
        compute=_compute(results, seconds, counts, detector_seconds),
    )


def compute_share(spent: float, detector: float, frames: int) -> ComputeShare:
    """Return what was `spent` on `frames` against `detector` for each of them: multiplications, seconds or joules.

    Raises `VideoError` where the detector costs nothing or there are no frames.
    """
    if detector <= 0 or frames < 1:
        raise VideoError(f"compute share: expected a detector that costs more than 0, frames; got {detector}, {frames}")
    return ComputeShare(spent, detector * frames)


def _compute(
    results: Sequence[Result], seconds: Mapping[str, float], counts: Counts | None, detector: float | None
) -> ComputeShare | None:
    features = seconds.get(_FEATURES, 0.0) if counts is None else counts.key_seconds
    if detector is None:
        # The median: a first key frame also allocates, and a frame beside a garbage collection is no rule.
        heads = [result.seconds[_HEAD] for result in results if _HEAD in result.seconds]
        each = [result.seconds[_FEATURES] for result in results if _FEATURES in result.seconds]
        if not each and counts is not None and counts.keys_finished:
            each = [counts.key_seconds / counts.keys_finished]
        if not each or not heads:
            return None
        detector = float(np.median(each) + np.median(heads))
    if detector <= 0:
        return None
    rest = sum(value for stage, value in seconds.items() if stage not in (*WAITING, _FEATURES))
    return compute_share(features + rest, detector, len(results))
