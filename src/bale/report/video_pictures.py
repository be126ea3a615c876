"""When was each frame's result there, which frames were keys, and how much moved? A stream's timeline, as a figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bale.report.quantities import percent
from bale.video.metrics.latency import Result, stream_stats

if TYPE_CHECKING:  # matplotlib takes half a second to import, which no other command should wait for
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE = (40 / 3, 7.5)  # inches; 1600 x 900 at 120 dots an inch, as `save_picture` has it
_FONT, _SMALL = 10, 8
_ALONE = 2000  # frames that are drawn one by one; of a longer stream, several share a column
_COLUMNS = 700  # of a longer stream, at most
_SPREAD = 20.0  # latencies of which the worst is so many times the median have a logarithmic axis
_COLOURS = {"key": "#D55E00", "carried": "#3B6FB6", "repeated": "#8473B5", "dropped": "#2B2B2B", "problem": "#C9A93F"}
_BUDGET, _PERIOD = "#B9524F", "0.35"


def draw_timeline(
    results: Sequence[Result], name: str = "", budget: float | None = None, period: float | None = None
) -> Figure:
    """Draw latency, keys and lost frames, staleness and motion over the frames of a stream, in their order.

    budget  seconds that a frame may take, drawn as a line
    period  seconds from frame to frame of the source, drawn as a line: what takes longer on average falls behind

    Of a stream longer than 2,000 frames, several share a column: their worst and mean latency, worst staleness and mean
    motion are drawn, and marks are the darker the more of them they stand for. Raises `VideoError` without results.
    """
    from matplotlib.figure import Figure

    stats = stream_stats(results)
    columns = _Columns(results)
    moved = any(result.motion is not None for result in results)
    figure = Figure(figsize=_SIZE, layout="constrained")
    ratios = [6, 1.2, 2, 2] if moved else [6, 1.2, 2]
    panels = figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios, squeeze=False)[:, 0]
    _draw_latency(panels[0], columns, budget, period)
    _draw_marks(panels[1], columns)
    _draw_staleness(panels[2], columns)
    if moved:
        _draw_motion(panels[3], columns)
    for axes in panels:
        _tidy(axes)
    panels[1].grid(visible=False)
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    panels[-1].set_xlabel("frame", fontsize=_FONT)
    panels[-1].set_xlim(columns.edges[0] - 0.5, columns.edges[-1] - 0.5)
    title = [f"{stats.frames:,} frames, {stats.keys:,} keys ({percent(stats.keys, stats.frames)})"]
    if stats.latency is not None:
        mean, p99, worst = (1e3 * each for each in (stats.latency.mean, stats.latency.p99, stats.latency.worst))
        title.append(f"latency mean {mean:,.1f} ms, p99 {p99:,.1f}, worst {worst:,.1f} (without the first frame)")
    title += [f"{stats.dropped:,} dropped"] if stats.dropped else []
    figure.suptitle((f"{name}: " if name else "") + "; ".join(title), fontsize=_FONT + 2, x=0.01, ha="left")
    return figure


class _Columns:
    """Results as arrays over frames, and how frames fall into the columns of the picture."""

    def __init__(self, results: Sequence[Result]) -> None:
        frames = len(results)
        first = results[0].frame.index
        self.kinds = np.array([result.kind for result in results])
        self.problem = np.array([bool(result.problem) and result.kind != "dropped" for result in results])
        used = {result.key_index for result in results}  # by a worker's time the frame itself has gone by, carried
        self.key = np.array([result.frame.index in used for result in results])
        late = [np.nan if result.kind == "dropped" else 1e3 * result.latency for result in results]
        self.latency = np.array(late)  # ms [frames]
        self.staleness = _numbers([result.staleness for result in results])
        self.motion = _numbers([result.motion for result in results])
        each = 1 if frames <= _ALONE else -(-frames // _COLUMNS)
        self.starts = np.arange(0, frames, each)
        self.edges = first + np.append(self.starts, frames)  # index of each column's first frame, and the end
        self.centres = (self.edges[:-1] + self.edges[1:] - 1) / 2
        self.shared = each > 1
        self.dot = 7 if frames <= 400 else 3  # points squared of a small one

    def of(self, values: np.ndarray, how: Callable[..., np.ndarray]) -> np.ndarray:
        """One number a column, what is NaN left out; NaN where there is nothing else."""
        known = ~np.isnan(values)
        if how is np.mean:
            total = np.add.reduceat(np.where(known, values, 0), self.starts)
            many = np.add.reduceat(known.astype(float), self.starts)
            return np.divide(total, many, out=np.full(len(total), np.nan), where=many > 0)
        worst = np.maximum.reduceat(np.where(known, values, -np.inf), self.starts)
        return np.where(np.isinf(worst), np.nan, worst)

    def share(self, marked: np.ndarray) -> np.ndarray:
        """The share of each column's frames that are marked."""
        return np.add.reduceat(marked.astype(float), self.starts) / np.diff(self.edges)


def _draw_latency(axes: Axes, columns: _Columns, budget: float | None, period: float | None) -> None:
    latency = columns.latency
    if columns.shared:
        worst, mean = columns.of(latency, np.max), columns.of(latency, np.mean)
        most = int(np.diff(columns.edges).max())
        label = f"worst of up to {most} frames"
        axes.plot(columns.centres, worst, color=_COLOURS["key"], linewidth=0.8, label=label)
        axes.plot(columns.centres, mean, color=_COLOURS["carried"], linewidth=1.2, label="their mean")
    else:
        axes.plot(columns.centres, latency, color="0.8", linewidth=0.7, zorder=1)
        for kind in ("carried", "repeated", "key"):
            of_kind = columns.kinds == kind
            if of_kind.any():
                look = {
                    "color": _COLOURS[kind],
                    "s": (2 if kind == "carried" else 4) * columns.dot,
                    "label": f"{kind} frame",
                    "zorder": 3,
                    "linewidth": 0,
                }
                axes.scatter(columns.centres[of_kind], latency[of_kind], **look)
    for seconds, colour, style, text in (
        (budget, _BUDGET, "--", "budget"),
        (period, _PERIOD, ":", "a frame comes every"),
    ):
        if seconds is not None:
            label = f"{text} {1e3 * seconds:,.1f} ms"
            axes.axhline(1e3 * seconds, color=colour, linestyle=style, linewidth=1.4, label=label, zorder=2)
    known = latency[~np.isnan(latency) & (latency > 0)]
    if len(known) and known.max() > _SPREAD * np.median(known):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:,g}")
        axes.set_ylim(bottom=max(known.min(), np.median(known) / 10) * 0.8)
        axes.set_ylabel("latency, ms (log)", fontsize=_FONT)
    else:
        axes.set_ylim(bottom=0)
        axes.set_ylabel("latency, ms", fontsize=_FONT)
    if axes.get_legend_handles_labels()[0]:  # of a stream without any result in time there is nothing to explain
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=5, frameon=False, fontsize=_SMALL)


def _draw_marks(axes: Axes, columns: _Columns) -> None:
    from matplotlib.colors import to_rgb

    marks = {"key": columns.key, "problem": columns.problem}
    marks |= {kind: columns.kinds == kind for kind in ("repeated", "dropped")}
    rows = [kind for kind, marked in marks.items() if marked.any() or kind == "key"]
    for place, kind in enumerate(rows):
        share = columns.share(marks[kind])
        there = np.flatnonzero(share)
        # Keys are many, and their density is of interest; a single one of the others must not vanish.
        strength = 1 / 3 + 2 / 3 * share if kind == "key" else np.ones(len(share))
        colours = [(*to_rgb(_COLOURS[kind]), strength[column]) for column in there]
        spans = [(columns.edges[column] - 0.5, columns.edges[column + 1] - columns.edges[column]) for column in there]
        line = 0 if kind == "key" else 1.2  # points, however narrow a frame is
        axes.broken_barh(spans, (place - 0.4, 0.8), facecolors=colours, edgecolors=colours, linewidth=line)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.4, -0.6)


def _draw_staleness(axes: Axes, columns: _Columns) -> None:
    from matplotlib.ticker import MaxNLocator

    stale = columns.of(columns.staleness, np.max)
    axes.stairs(np.nan_to_num(stale), columns.edges - 0.5, fill=True, color=_COLOURS["carried"], alpha=0.55)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.set_ylabel("staleness,\nframes", fontsize=_FONT)


def _draw_motion(axes: Axes, columns: _Columns) -> None:
    dots = (
        {} if columns.shared else {"marker": ".", "markersize": columns.dot**0.5}
    )  # a frame between two dropped ones has no line
    axes.plot(columns.centres, columns.of(columns.motion, np.mean), color="#5BA56A", linewidth=0.9, **dots)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("motion", fontsize=_FONT)


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _tidy(axes: Axes) -> None:
    axes.tick_params(labelsize=_SMALL, length=3)
    axes.grid(axis="y", color="0.92", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
