"""Which line does a variant have, and which figures stand beside the paper's claims and the issue's goals?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np

from bale.video.metrics.average_precision import FramePrecision, FrameTruth
from bale.video.metrics.bootstrap import block_length, interval, paired
from benchmarks.command import Line
from benchmarks.video.runs import Pass, matches
from benchmarks.video.variants import Variant

Passes = Mapping[Variant, Sequence[Pass]]
_IOU = 0.5


def row(stream: str, variant: Variant, passes: Sequence[Pass], truth: Sequence[FrameTruth], costs: Line) -> Line:
    """The line of a variant: accuracy of its first pass, with the interval of blocks of frames; times of the median.

    costs  what detector and light path take for a frame alone, with one thread: "detector_ms", "light_ms"
    """
    first = passes[0]
    block = block_length(len(truth))
    ap50 = interval(FramePrecision(matches(first, truth), _IOU), len(truth), block)
    late = [each.latency() for each in passes]
    stale = [each.staleness for each in first.later]
    return {
        "stream": stream,
        "variant": variant.name,
        "flow": variant.flow,
        "ap50": round(ap50.value, 4),
        "ap50_low": round(ap50.low, 4),
        "ap50_high": round(ap50.high, 4),
        "mean_ms": _ms(median(each.mean for each in late)),
        "p99_ms": _ms(median(each.p99 for each in late)),
        "worst_ms": _ms(median(each.worst for each in late)),
        "first_ms": _ms(median(each.first for each in late)),
        "key_rate": round(first.key_rate, 4),
        "compute_share": round(median(each.spent() for each in passes) / (len(truth) * 1e-3 * costs["detector_ms"]), 4),
        "flow_ms": _ms(median(each.flow_seconds() for each in passes)),
        "staleness_mean": round(float(np.mean(stale)), 2),
        "staleness_worst": max(stale),
        "ap50_runs": [
            round(FramePrecision(matches(each, truth), _IOU)(np.ones((1, len(truth)))).item(), 4) for each in passes
        ],
        "ap": round(interval(FramePrecision(matches(first, truth)), len(truth), block).value, 4),
        "block": block,
        "runs": len(passes),
        **first.facts,
        **costs,
    }


def claims(stream: str, passes: Passes, truth: Sequence[FrameTruth], costs: Line) -> list[Line]:
    """Figures of pairs of variants, where both were run."""
    found = []
    for variant in passes:
        interval_of = {
            kind: Variant(f"{kind}-{variant.interval}", variant.flow) for kind in ("dff", "adff", "vds", "ssi")
        }
        base = passes.get(interval_of["dff"])
        if base is None:
            continue
        mine = passes[variant]
        if variant.kind == "adff":
            found.append(_slowest(variant, mine, base, costs))
        elif variant.kind == "vds":
            found.append(_better(variant, mine, base, truth))
        elif variant.kind == "ssi":
            found.append(_cheaper(variant, mine, base, truth))
    return [{"stream": stream, **each} for each in found]


def _slowest(variant: Variant, mine: Sequence[Pass], base: Sequence[Pass], costs: Line) -> Line:
    """ADFF: how much sooner is nearly every frame done? Published of the worst: 89 to 19 ms."""
    p99, worst = (
        [median(getattr(each.latency(), name) for each in side) for side in (base, mine)] for name in ("p99", "worst")
    )
    return {
        "figure": f"p99 latency, dff-{variant.interval} over {variant.name}",
        "flow": variant.flow,
        "ours": round(p99[0] / p99[1], 2),
        "worst": round(worst[0] / worst[1], 2),
        "claim": round(89 / 19, 2),
        "wanted": 4.0,
        "detector_over_light": round(costs["detector_ms"] / costs["light_by_flow_ms"][variant.flow], 1),
    }


def _better(variant: Variant, mine: Sequence[Pass], base: Sequence[Pass], truth: Sequence[FrameTruth]) -> Line:
    """VDS: how many points more than the fixed interval? Published: .6 of mAP at equal computation."""
    by = _difference(mine[0], base[0], truth)
    return {
        "figure": f"AP50 points, {variant.name} above dff-{variant.interval}",
        "flow": variant.flow,
        **by,
        "claim": 0.6,
        "wanted": "above 0 on the stream of variable motion",
        "key_rates": [round(mine[0].key_rate, 4), round(base[0].key_rate, 4)],
    }


def _cheaper(variant: Variant, mine: Sequence[Pass], base: Sequence[Pass], truth: Sequence[FrameTruth]) -> Line:
    """SSI: how much less time does the flow take, and what does that cost? Published: .2 ms, and .6 of mAP."""
    seconds = [median(each.flow_seconds() for each in side) for side in (base, mine)]
    return {
        "figure": f"flow time, dff-{variant.interval} over {variant.name}",
        "flow": variant.flow,
        "ours": round(seconds[0] / seconds[1], 2),
        "flow_ms": [_ms(each) for each in seconds],
        "points": _difference(mine[0], base[0], truth)["ours"],
        "claim": None,
        "wanted": 1.5,
    }


def _difference(first: Pass, second: Pass, truth: Sequence[FrameTruth]) -> Line:
    """In points: positive where the first is better, with the interval and p of a paired block bootstrap."""
    sides = [FramePrecision(matches(each, truth), _IOU) for each in (first, second)]
    by = paired(sides[0], sides[1], len(truth), block_length(len(truth)))
    within = by.difference
    return {
        "ours": round(100 * within.value, 2),
        "low": round(100 * within.low, 2),
        "high": round(100 * within.high, 2),
        "p": round(by.p, 4),
    }


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 2)
