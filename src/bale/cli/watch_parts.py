"""Which detector, flow, policy and worker do the options of `bale watch` stand for?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bale.errors import VideoError

if TYPE_CHECKING:  # PyAV, OpenCV and torch's networks are imported once the options are known to make sense
    from bale.video.film.read import FilmInfo
    from bale.video.flow.estimator import FlowEstimator
    from bale.video.frame import Frame
    from bale.video.keyframes import Policy
    from bale.video.stream import VideoDetector

KEY_RATE, EVERY = 0.1, 10  # Deep Feature Flow's one key in ten
MEASURES = ("codec", "blocks", "dis", "flow-error")
POLICIES = ("vds", "interval")
_LOOKED_AT = 12  # frames in which a film's motion vectors must turn up
_TIMED, _TIMED_EVERY = 16, 4  # frames that are timed for a latency budget, every fourth a key


@dataclass(frozen=True)
class Options:
    """What `bale watch` was asked for; what was not given is None."""

    source: str
    detector: str = "faces"
    policy: str = "vds"
    every: int | None = None
    key_rate: float | None = None
    tau: float | None = None
    latency_budget: float | None = None  # seconds
    measure: str | None = None
    flow: str = "dis"
    worker: str | None = None
    sparse: bool = False
    realtime: bool = False
    when_full: str | None = None
    threads: int | None = None
    limit: int | None = None


@dataclass(frozen=True, eq=False)
class Parts:
    """A stream that is ready to run.

    info      of the film or folder
    watcher   the detector with its flow, policy and worker
    names     of the detector's classes; None where it does not say
    motion    whether the codec's motion vectors are asked for
    keys      how key frames are chosen, for people
    """

    info: FilmInfo
    watcher: VideoDetector
    names: tuple[str, ...] | None
    motion: bool
    keys: str


def check_options(options: Options) -> None:
    """Raise `VideoError`, before a film is opened, for options that mean nothing, or nothing together."""
    for name, value, known in (
        ("policy", options.policy, POLICIES),
        ("measure", options.measure, (None, *MEASURES)),
        ("worker", options.worker, (None, "thread", "process")),
        ("when-full", options.when_full, (None, "block", "drop-oldest")),
    ):
        if value not in known:
            raise VideoError(f"--{name}: expected {' or '.join(each for each in known if each)}, got {value!r}")
    kind, _, file = options.flow.partition(":")
    if options.flow not in ("dis", "none") and (kind != "flownet" or not file):
        raise VideoError(f"--flow: expected dis, flownet:FILE or none, got {options.flow!r}")
    for name, value in (("every", options.every), ("threads", options.threads), ("limit", options.limit)):
        if value is not None and value < 1:
            raise VideoError(f"--{name} must be at least 1, got {value}")
    if options.key_rate is not None and not 0 < options.key_rate <= 1:
        raise VideoError(f"--key-rate: expected keys a frame, above 0 and at most 1, got {options.key_rate:g}")
    for name, value in (("tau", options.tau), ("latency-budget", options.latency_budget)):
        if value is not None and not 0 < value < np.inf:
            raise VideoError(f"--{name} must be above 0, got {value:g}")
    _check_together(options)


def _check_together(options: Options) -> None:
    targets = {"key-rate": options.key_rate, "tau": options.tau, "latency-budget": options.latency_budget}
    chosen = [name for name, value in targets.items() if value is not None]
    if options.policy == "interval":
        wrong = [*chosen, *(["measure"] if options.measure is not None else [])]
        if wrong:
            raise VideoError(f"--{wrong[0]} is for --policy vds; with --policy interval give --every")
    elif options.every is not None:
        raise VideoError("--every is for --policy interval; with --policy vds give --key-rate, --tau or a budget")
    if len(chosen) > 1:
        raise VideoError(f"--{chosen[0]} and --{chosen[1]} both say when a key comes; give one of them")
    if options.latency_budget is not None and options.worker is not None:
        raise VideoError(
            "--latency-budget finds how many keys a stream can afford in line; with --async no frame waits for one"
        )
    if options.when_full is not None and not options.realtime:
        raise VideoError("--when-full is for --realtime: without it frames are read as they are wanted")
    if options.sparse and not options.flow.startswith("flownet:"):
        raise VideoError(f"--sparse computes parts of a flow network; give --flow flownet:FILE, not {options.flow}")


def build(options: Options) -> Parts:
    """Return the parts of a stream; raises `VideoError` for what cannot be found, read or run."""
    from bale.video.detectors.load import load_detector
    from bale.video.film.source import stream_info
    from bale.video.stream import VideoDetector

    info = stream_info(options.source)
    detector: Any = load_detector(options.detector, (info.height, info.width))
    flow = _flow(options, info)
    vectors = _wants_vectors(options) and _has_vectors(options.source)
    mask = _mask(vectors) if options.sparse else None
    policy, keys = _policy(options, vectors, VideoDetector(detector, flow, sparse=mask))
    watcher = VideoDetector(detector, flow, policy, worker=_worker(options), queue=_queue(options), sparse=mask)
    names = getattr(detector, "names", None)
    return Parts(info, watcher, None if names is None else tuple(names), vectors, keys)


@contextmanager
def importing_from_here() -> Iterator[None]:
    """Find modules where one is, which is not where an installed command looks; so do processes started within."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def frames_of(options: Options, motion: bool) -> Iterator[Frame]:
    """The frames that are to be watched, at a camera's pace where that was asked for."""
    from bale.video.film.source import open_stream
    from bale.video.pace import paced

    frames = islice(open_stream(options.source, motion=motion), options.limit)
    return paced(frames) if options.realtime else frames


def _flow(options: Options, info: FilmInfo) -> FlowEstimator:
    from bale.video.flow.dis import SMALLEST, DisFlow, NoFlow

    if options.flow == "dis":
        shorter = min(info.width, info.height)
        if shorter < SMALLEST:
            raise VideoError(
                f"--flow dis needs frames of {SMALLEST} x {SMALLEST} pixels or more, and those of {options.source} are "
                f"{info.width} x {info.height}; give --flow none"
            )
        return DisFlow() if shorter >= SMALLEST / DisFlow().scale else DisFlow(scale=1)
    if options.flow == "none":
        return NoFlow()
    from bale.video.flow.learned import FlowNetFlow
    from bale.video.flow.weights import load_flownet

    network = load_flownet(options.flow.partition(":")[2])
    if not options.sparse:
        return FlowNetFlow(network)
    from bale.video.sparse.flow import SparseFlowNetFlow
    from bale.video.sparse.network import SparseConfig

    # What is exact computes nearly all of a network that sees so far; whoever asks for parts wants the saving.
    return SparseFlowNetFlow(network, config=SparseConfig(grow="mask"))


def _mask(vectors: bool) -> Any:
    from bale.video.sparse.where import MovingBlocks

    return MovingBlocks(source="codec" if vectors else "pixels")


def _worker(options: Options) -> Any:
    from bale.video.worker_process import ProcessWorker
    from bale.video.worker_thread import ThreadWorker

    kinds = {"thread": ThreadWorker, "process": ProcessWorker}
    return None if options.worker is None else kinds[options.worker](threads=options.threads or 1)


def _queue(options: Options) -> Any:
    from bale.video.input_queue import InputQueue

    # A camera does not wait: what it sees next is worth more than what it saw.
    return InputQueue(when_full=options.when_full or "drop-oldest") if options.realtime else None  # pyright: ignore


def _wants_vectors(options: Options) -> bool:
    """Whether the codec's motion vectors are of use: to choose keys, or to know what moved."""
    return options.sparse or (options.policy == "vds" and options.measure in (None, "codec"))


def _has_vectors(source: str) -> bool:
    from bale.video.film.source import open_stream

    with closing(open_stream(source, motion=True)) as frames:  # pyright: ignore
        return any(frame.motion is not None for frame in islice(frames, _LOOKED_AT))


def _policy(options: Options, vectors: bool, timed: VideoDetector) -> tuple[Policy, str]:
    from bale.video.adaptive import AdaptiveMotionPolicy
    from bale.video.keyframes import FixedInterval, MotionPolicy
    from bale.video.motion import BlockMatching, CodecMotion, DisMotion, FlowError

    if options.policy == "interval":
        every = options.every or EVERY
        return FixedInterval(every), "every frame" if every == 1 else f"one in {every} frames"
    measure = options.measure or ("codec" if vectors else "blocks")
    if measure == "codec" and not vectors:
        raise VideoError(
            f"--measure codec: {options.source} has no motion vectors in its first {_LOOKED_AT} frames; use blocks"
        )
    kinds: Any = {"codec": CodecMotion, "blocks": BlockMatching, "dis": DisMotion, "flow-error": FlowError}
    how = kinds[measure]()
    said = {"codec": "the codec's vectors", "blocks": "matched blocks"}.get(measure, "DIS flow")
    unit, what = ("grey levels", "errors of flow") if measure == "flow-error" else ("pixels", "motion")
    if options.tau is not None:
        return MotionPolicy(options.tau, how), f"after {options.tau:g} {unit} of {what}, by {said}"
    rate = options.key_rate or KEY_RATE
    for_what = ""
    if options.latency_budget is not None:
        rate = _affordable(options, timed)
        for_what = f", what {1e3 * options.latency_budget:g} ms a frame allow"
    return AdaptiveMotionPolicy(rate, how), f"{rate:.1%} of frames{for_what}, by {what}: {said}"


def _affordable(options: Options, detector: VideoDetector) -> float:
    """Time the first frames, every fourth a key, and return the key rate that keeps the budget on average."""
    from bale.video.calibration import rate_for_latency
    from bale.video.film.source import open_stream
    from bale.video.keyframes import FixedInterval

    times: dict[str, list[float]] = {"key": [], "carried": []}
    timed = replace(detector, policy=FixedInterval(_TIMED_EVERY))
    with closing(timed.stream(islice(open_stream(options.source), _TIMED))) as results:
        for place, result in enumerate(results):
            if place and result.kind in times:  # the first also allocates
                times[result.kind].append(result.latency)
    if not times["key"] or not times["carried"]:
        raise VideoError(f"--latency-budget: {options.source} is too short to time a key and another frame")
    assert options.latency_budget is not None  # else nobody asks
    return rate_for_latency(options.latency_budget, *(float(np.median(each)) for each in times.values()))
