"""Which line does a variant have, and which figures stand beside the paper's claims and the issue's goals?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np

from bale.video.metrics.average_precision import FramePrecision, average_precision
from bale.video.metrics.bootstrap import Statistic, block_length, interval, paired
from benchmarks.command import Line
from benchmarks.video.material import Stream
from benchmarks.video.runs import Pass, matches
from benchmarks.video.variants import Variant, as_often

Passes = Mapping[Variant, Sequence[Pass]]
_IOU = 0.5


def row(stream: Stream, variant: Variant, passes: Sequence[Pass], costs: Line) -> Line:
    """The line of a variant: accuracy of its first pass, with the interval of blocks of frames; times of the median.

    costs  of detector and light path, as `alone` gives them
    """
    first = passes[0]
    ap50 = interval(_precision(stream, first), *_frames_and_block(stream))
    late = [each.latency() for each in passes]
    stale = [each.staleness for each in first.later]
    every_frame = 1e-3 * costs["threads_ms"][str(first.facts["threads"])] * len(stream.truth)
    found = [matches(each, stream.truth) for each in passes]
    return {
        "stream": stream.name,
        "variant": variant.name,
        "flow": variant.flow,
        "ap50": round(ap50.value, 4),
        "ap50_low": round(ap50.low, 4),
        "ap50_high": round(ap50.high, 4),
        "mean_ms": _ms(median(each.mean for each in late)),
        "p99_ms": _ms(median(each.p99 for each in late)),
        "worst_ms": _ms(median(each.worst for each in late)),
        "first_ms": _ms(median(each.first for each in late)),
        "start_up": round((len(first.frames) - len(first.later)) / len(first.clips), 2),
        "key_rate": round(first.key_rate, 4),
        "compute_share": round(median(each.spent() for each in passes) / every_frame, 4),
        "flow_ms": _ms(median(each.flow_seconds() for each in passes)),
        "staleness_mean": round(float(np.mean(stale)), 2),
        "staleness_worst": max(stale),
        "ap50_runs": [round(average_precision(each, _IOU), 4) for each in found],
        "ap": round(average_precision(found[0]), 4),
        "block": ap50.block,
        "runs": len(passes),
        "detector_ms": costs["detector_ms"],
        "light_ms": costs["light_by_flow_ms"][variant.flow],
        **first.facts,
    }


def claims(stream: Stream, passes: Passes, costs: Line) -> list[Line]:
    """Figures of pairs of variants, where both were run."""
    found = []
    for variant, mine in passes.items():
        even = Variant(f"dff-{variant.interval:g}", variant.flow)
        if variant.by_motion:
            even = as_often(variant, mine[0].keys, stream)
        base = passes.get(even)
        if base is None:
            continue
        if variant.kind == "adff":
            found.append(_slowest(variant, mine, base, costs))
        elif variant.by_motion:
            found.append(_better(variant, mine, even, base, stream))
        elif variant.kind == "ssi":
            found.append(_cheaper(variant, mine, base, stream))
    return [{"stream": stream.name, **each} for each in found]


def _slowest(variant: Variant, mine: Sequence[Pass], base: Sequence[Pass], costs: Line) -> Line:
    """ADFF: how much sooner is nearly every frame done? Published of the worst: 89 to 19 ms."""
    p99, worst = (
        [median(getattr(each.latency(), name) for each in side) for side in (base, mine)] for name in ("p99", "worst")
    )
    return {
        "figure": f"p99 latency, dff-{variant.interval:g} over {variant.name}",
        "flow": variant.flow,
        "ours": round(p99[0] / p99[1], 2),
        "worst": round(worst[0] / worst[1], 2),
        "claim": round(89 / 19, 2),
        "wanted": 4.0,
        "detector_over_light": round(costs["detector_ms"] / costs["light_by_flow_ms"][variant.flow], 1),
    }


def _better(variant: Variant, mine: Sequence[Pass], even: Variant, base: Sequence[Pass], stream: Stream) -> Line:
    """VDS: how many points more than a fixed interval with as many keys? Published: .6 of mAP at equal computation."""
    by = _difference(mine[0], base[0], stream)
    return {
        "figure": f"AP50 points, {variant.name} above {even.name}",
        "flow": variant.flow,
        **by,
        "claim": 0.6,
        "wanted": "above 0 on the stream of variable motion",
        "key_rates": [round(mine[0].key_rate, 4), round(base[0].key_rate, 4)],
    }


def _cheaper(variant: Variant, mine: Sequence[Pass], base: Sequence[Pass], stream: Stream) -> Line:
    """SSI: how much less time does the flow take, and what does that cost? Published: .2 ms, and .6 of mAP."""
    seconds = [median(each.flow_seconds() for each in side) for side in (base, mine)]
    return {
        "figure": f"flow time, dff-{variant.interval:g} over {variant.name}",
        "flow": variant.flow,
        "ours": round(seconds[0] / seconds[1], 2),
        "flow_ms": [_ms(each) for each in seconds],
        "points": _difference(mine[0], base[0], stream)["ours"],
        "claim": None,
        "wanted": 1.5,
    }


def _difference(first: Pass, second: Pass, stream: Stream) -> Line:
    """In points: positive where the first is better, with the interval and p of a paired block bootstrap."""
    by = paired(_precision(stream, first), _precision(stream, second), *_frames_and_block(stream))
    within = by.difference
    return {
        "ours": round(100 * within.value, 2),
        "low": round(100 * within.low, 2),
        "high": round(100 * within.high, 2),
        "p": round(by.p, 4),
    }


def _precision(stream: Stream, done: Pass) -> Statistic:
    """Average precision by how often a sample has each frame of the *film*: its copies in several clips go with it."""
    precision = FramePrecision(matches(done, stream.truth), _IOU)
    places = np.array(stream.sources) - min(stream.sources)
    return lambda counts: precision(counts[:, places])


def _frames_and_block(stream: Stream) -> tuple[int, int]:
    """How many frames of the film there are, and how many are drawn together."""
    frames = max(stream.sources) - min(stream.sources) + 1
    return frames, block_length(frames)


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 2)
