"""Accuracy beside latency: which variants find people, and how late are they?"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.command import Line

_COLOURS = {"dis": "#1f5f99", "flownet": "#d99a2b"}
_TICKS = [digit * 10**power for power in range(6) for digit in (1, 2, 5)]
_MARKS = {"dense": "s", "dff": "o", "adff": "^", "vds": "D", "mv": "P", "pmv": "X", "ssi": "v", "all": "*"}


def draw(lines: Sequence[Line]) -> Figure:
    """A panel for each stream, and a mark for each variant: AP50, with interval, over p99 latency.

    Beside a mark are its frames a key, if they are whole.
    """
    rows = [line for line in lines if "variant" in line]
    streams = list(dict.fromkeys(line["stream"] for line in rows))
    figure = Figure(figsize=(5.5 * len(streams), 5), layout="constrained")
    for axes, stream in zip(figure.subplots(1, len(streams), squeeze=False)[0], streams, strict=True):
        mine = [line for line in rows if line["stream"] == stream]
        for line in mine:
            kind, colour = line["variant"].partition("-")[0], _COLOURS[line["flow"]]
            span = [[line["ap50"] - line["ap50_low"]], [line["ap50_high"] - line["ap50"]]]
            axes.errorbar(line["p99_ms"], line["ap50"], span, color=colour, alpha=0.25, linewidth=1)
            axes.scatter(line["p99_ms"], line["ap50"], marker=_MARKS[kind], color=colour, s=45, zorder=3)
            interval = line["variant"].partition("-")[2]
            if "." in interval:  # there to be compared with, beside others: no room for so many numbers
                continue
            axes.annotate(interval, (line["p99_ms"], line["ap50"]), (5, 3), textcoords="offset points", fontsize=7)
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        axes.set_xticks([tick for tick in _TICKS if low <= tick <= high], minor=False)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.set_xlabel("p99 latency, ms")
        axes.set_ylabel("average precision at overlap .5")
        axes.set_title(f"{stream}, {mine[0]['rate']:g} frames a second", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.93", zorder=0)
    kinds = dict.fromkeys(line["variant"].partition("-")[0] for line in rows)
    handles = [Line2D([], [], marker=_MARKS[kind], color="0.4", linestyle="none", label=kind) for kind in kinds]
    flows = dict.fromkeys(line["flow"] for line in rows)
    handles += [Line2D([], [], color=_COLOURS[flow], linewidth=4, label=flow) for flow in flows]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure
