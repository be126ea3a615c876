"""Which ways of running a detector over a stream are raced against each other?

`dense`: the detector on every frame. `dff-K`: a key every K frames, in line; K need not be whole. `adff-K`: the same
keys, beside the stream. `vds-K`: keys where flow explains frames badly, about one in K. `mv-K`: the same by the codec's
motion vectors, relative to the camera; `pmv-K`: by their plain magnitude, as published. `ssi-K`: dff-K, the network of
flow only where something moved. `all-K`: adff, vds and ssi together.

A tau is calibrated on the frames of the training, and follows the rate of keys that is asked for while a stream runs.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from bale.errors import BaleError
from bale.video.adaptive import AdaptiveMotionPolicy
from bale.video.calibration import calibrate_tau
from bale.video.detector import Detector
from bale.video.flow.dis import DisFlow
from bale.video.flow.estimator import FlowEstimator
from bale.video.flow.flownet import FlowNetS
from bale.video.flow.learned import FlowNetFlow
from bale.video.input_queue import InputQueue
from bale.video.keyframes import FixedInterval, Policy
from bale.video.sparse.flow import SparseFlowNetFlow
from bale.video.sparse.network import SparseConfig
from bale.video.sparse.where import MovingBlocks
from bale.video.stream import VideoDetector
from bale.video.worker_thread import ThreadWorker
from benchmarks.video.material import MEASURES, Stream

INTERVALS = (2, 3, 5, 10)
WITH_PARTS = (5, 10)  # at which each part is added to Deep Feature Flow
VARIANTS = (
    "dense",
    *(f"dff-{k}" for k in INTERVALS),
    *(f"{p}-{k}" for k in WITH_PARTS for p in ("adff", "vds", "mv", "pmv", "ssi", "all")),
)
FLOWS = ("flownet", "dis")
_FASTER = ("adff", "ssi", "all")

# Vectors of an old codec are noise where nothing moves, so the masks are of pixels; one margin is enough. Chosen on
# frames 200 to 499: without the margin AP50 falls by 2 (a key in 5) to 7 points (in 10).
_MASK = MovingBlocks(dilate=1, source="pixels", threshold=8.0)
_SPARSE = SparseConfig(grow="mask", dilate=0)
_GAIN = 0.2  # of the policy that keeps the rate: chosen on the frames of the training
# Frames that may wait: none is ever dropped or held back, so latency says what a stream suffers.
_WHOLE_STREAM = 100_000


@dataclass(frozen=True)
class Variant:
    """One way, and the flow that it carries features by."""

    name: str
    flow: str

    @property
    def kind(self) -> str:
        return self.name.partition("-")[0]

    @property
    def interval(self) -> float:
        """Frames a key, on average; of `dense` 1."""
        return float(self.name.partition("-")[2] or 1)

    @property
    def by_motion(self) -> bool:
        """Whether motion chooses its keys, and it is compared with as many at a fixed interval."""
        return self.kind in MEASURES

    @property
    def beside(self) -> bool:
        """Whether keys are computed beside the stream."""
        return self.kind in ("adff", "all")


def variants(names: Sequence[str], flows: Sequence[str]) -> list[Variant]:
    """Each way with each flow, but parts of a flow network only with that, and motion vectors only with DIS.

    Raises BaleError for an unknown one.
    """
    chosen = []
    for name in names:
        if not re.fullmatch(r"dense|(dff|adff|vds|mv|pmv|ssi|all)-[1-9]\d*(\.\d+)?", name):
            kinds = "dff, adff, vds, mv, pmv, ssi or all"
            raise BaleError(f"{name}: expected dense, or {kinds} with an interval, such as vds-5")
        kind = name.partition("-")[0]
        if kind == "dense":
            suited = flows[:1]  # it carries nothing
        elif kind in ("ssi", "all"):
            suited = [flow for flow in flows if flow == "flownet"]
        elif kind in ("mv", "pmv"):
            suited = [flow for flow in flows if flow == "dis"]
        else:
            suited = flows
        chosen += [Variant(name, flow) for flow in suited]
    return chosen


def timed(ways: Sequence[Variant]) -> set[Variant]:
    """Return those whose times are compared, and which are run again: for what the others find, one run will do."""
    faster = {way for way in ways if way.kind in _FASTER}
    plain = {Variant(f"dff-{way.interval:g}", way.flow) for way in faster}
    return faster | plain & set(ways)


def as_often(variant: Variant, keys: int, stream: Stream) -> Variant:
    """Return the longest fixed interval, in hundredths of a frame, with no fewer keys on `stream` than these."""
    lengths = [len(clip.frames) for clip in stream.clips]
    # The longest of all: a key for each clip, which is the least.
    choices = range(100, 100 * max(lengths) + 1)
    often = bisect_right(choices, -keys, key=lambda each: -sum(100 * (length - 1) // each + 1 for length in lengths))
    return Variant(f"dff-{choices[often - 1] / 100:g}", variant.flow)


def video_detector(
    variant: Variant, detector: Detector, network: FlowNetS, stream: Stream, *, pace: bool
) -> VideoDetector:
    """Return the detector of a variant. Its frames' threads are torch's own number; a worker has one.

    `pace`: whether frames will arrive at a pace. Else each arrives when it is wanted: read ahead, all would arrive at
    once, and the last would have waited for all others.
    """
    sparse = variant.kind in ("ssi", "all")
    flow: FlowEstimator = DisFlow() if variant.flow == "dis" else FlowNetFlow(network)
    return VideoDetector(
        detector,
        SparseFlowNetFlow(network, config=_SPARSE) if sparse else flow,
        _policy(variant, stream),
        worker=ThreadWorker() if variant.beside else None,
        queue=InputQueue(_WHOLE_STREAM) if pace else None,
        sparse=_MASK if sparse else None,
    )


def _policy(variant: Variant, stream: Stream) -> Policy:
    kind = "vds" if variant.kind == "all" else variant.kind
    if kind not in MEASURES:
        return FixedInterval(variant.interval)
    # Clips of the training one behind the other; their first frames have moved by nothing.
    motions = [motion for clip in stream.motions[kind] for motion in clip]
    rate = 1 / variant.interval
    return AdaptiveMotionPolicy(rate, MEASURES[kind], tau=calibrate_tau(motions, rate), gain=_GAIN)
