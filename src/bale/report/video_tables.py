"""How does a stream's run read, to a person and to a program, alone and beside other runs?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isnan
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bale.report.grids import Facts, fact_grid, plain_table, warned
from bale.report.quantities import percent
from bale.video.metrics.bootstrap import Interval
from bale.video.metrics.latency import LatencyStats, StreamStats

FORMAT = 1
_KINDS = ("key", "carried", "repeated", "dropped")


@dataclass(frozen=True)
class Variant:
    """One way to run a stream, and what came of it.

    stats           of its results
    precision       average precision, mean of the thresholds .5 to .95
    precision_half  at the threshold .5
    """

    stats: StreamStats
    precision: Interval | None = None
    precision_half: Interval | None = None


def stream_dict(stats: StreamStats) -> dict[str, Any]:
    """Return the statistics as JSON can hold them: times in seconds, shares from 0 to 1, what is not known null."""
    compute = stats.compute
    return {
        "format": FORMAT,
        "frames": stats.frames,
        "kinds": {kind: stats.kinds.get(kind, 0) for kind in _KINDS},
        "keys": stats.keys,
        "key_rate": stats.key_rate,
        "problems": stats.problems,
        "boxes": stats.boxes,
        "frames_per_second": stats.rate,
        "latency": None if stats.latency is None else asdict(stats.latency),
        "staleness": {
            "mean": None if isnan(stats.staleness_mean) else stats.staleness_mean,
            "worst": stats.staleness_worst,
        },
        "seconds": dict(stats.seconds),
        "compute": None if compute is None else {**asdict(compute), "share": compute.share},
    }


def stream_table(stats: StreamStats, facts: Facts = (), warnings: Sequence[str] = ()) -> RenderableType:
    """Return the statistics for a rich console, below `facts` of what was run."""
    rows = [*facts, ("frames", _frames(stats)), ("keys", f"{stats.keys:,}, {percent(stats.keys, stats.frames)}")]
    if stats.latency is not None:
        rows.append(("latency", _latency(stats.latency)))
    if not isnan(stats.staleness_mean):
        rows.append(("staleness", f"{stats.staleness_mean:.1f} frames, worst {stats.staleness_worst:,}"))
    if stats.compute is not None:
        share = percent(stats.compute.share, 1)
        detector = f"{1e3 * stats.compute.every_frame / stats.frames:,.1f} ms for each frame"
        rows.append(("work", f"{share} of what the detector alone would take, {detector}"))
    rows.append(("boxes", f"{stats.boxes:,}, {stats.boxes / stats.frames:.1f} a frame"))
    parts: list[RenderableType] = [fact_grid(rows)]
    if stats.seconds:
        parts += [Text(), _stages(stats)]
    return Group(*parts, *warned(warnings))


def variants_table(variants: Mapping[str, Variant]) -> RenderableType:
    """Return several runs side by side, one a row; precision in percent, its interval below it."""
    measured = any(variant.precision_half or variant.precision for variant in variants.values())
    headings = ["variant", *(("AP .5", "AP .5:.95") if measured else ())]
    table = plain_table([*headings, "mean ms", "p99", "worst", "keys", "stale", "most", "work", "dropped"])
    for name, variant in variants.items():
        stats, latency = variant.stats, variant.stats.latency
        times = ("",) * 3 if latency is None else (_ms(latency.mean), _ms(latency.p99), _ms(latency.worst))
        stale = "" if isnan(stats.staleness_mean) else f"{stats.staleness_mean:.1f}"
        share = "" if stats.compute is None else percent(stats.compute.share, 1)
        precision = (_interval(variant.precision_half), _interval(variant.precision)) if measured else ()
        rate = percent(stats.keys, stats.frames)
        row = (name, *precision, *times, rate, stale, f"{stats.staleness_worst:,}", share, f"{stats.dropped:,}")
        table.add_row(*row)
    return table


def _frames(stats: StreamStats) -> str:
    parts = [f"{stats.kinds[kind]:,} {kind}" for kind in _KINDS if stats.kinds.get(kind)]
    text = f"{stats.frames:,}: {', '.join(parts)}"
    text += f"; {stats.rate:,.1f} a second" if stats.rate else ""
    return text + (f"; {stats.problems:,} with a problem" if stats.problems else "")


def _latency(latency: LatencyStats) -> str:
    return (
        f"mean {_ms(latency.mean)} ms, median {_ms(latency.median)}, p99 {_ms(latency.p99)}, "
        f"worst {_ms(latency.worst)}; the first frame {_ms(latency.first)}"
    )


def _stages(stats: StreamStats) -> Table:
    table = plain_table(["stage", "ms a frame", "share"])
    total = sum(stats.seconds.values())
    for stage, seconds in sorted(stats.seconds.items(), key=lambda item: -item[1]):
        table.add_row(stage, f"{1e3 * seconds / stats.frames:,.2f}", percent(seconds, total))
    return table


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f"{100 * interval.value:.1f}\n{100 * interval.low:.1f}-{100 * interval.high:.1f}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.1f}"
