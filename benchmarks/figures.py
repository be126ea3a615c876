"""Draw the pictures of docs/policies.md and docs/memory.md.

python -m benchmarks.policies --json policies.jsonl
python -m benchmarks.optimum --json optimum.jsonl
python -m benchmarks.figures policies.jsonl optimum.jsonl docs/pictures

python -m benchmarks.scale --json scale.jsonl
python -m benchmarks.figures scale.jsonl docs/pictures
"""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

import bale
from bale.batching.engine import graph_of
from bale.batching.schedule import make_schedule
from bale.report import draw_policy, draw_schedule
from benchmarks.throughput.workloads import make

Line = dict[str, Any]

COLOURS = {
    "depth": "#b0b0b0",
    "agenda": "#8c8c8c",
    "sufficient": "#d99a2b",
    "fsm-base": "#c6b3dd",
    "fsm-max": "#a084c4",
    "fsm-sort": "#6f4fa0",
    "fsm-share": "#2e7d4f",
    "height": "#66a3d2",
    "beam": "#9fc5e8",
    "auto": "#1f5f99",
}


def batches_over_bound(lines: list[Line], size: int = 64) -> Figure:
    """A row per workload, a mark per policy: how many times the lower bound its batches are."""
    chosen = [line for line in lines if line["batch"] == size]
    figure = Figure(figsize=(9, 0.5 + 0.34 * len(chosen)), layout="constrained")
    axes = figure.add_subplot()
    for row, line in enumerate(chosen):
        axes.axhline(row, color="0.9", linewidth=0.8, zorder=0)
        for policy, colour in COLOURS.items():
            ratio = line["batches"][policy] / line["bound"]
            mark = "|" if policy == "auto" else "o"
            axes.scatter(ratio, row, s=150 if policy == "auto" else 34, marker=mark, color=colour, zorder=3,
                         label=policy if not row else None, linewidths=3 if policy == "auto" else 0)  # fmt: skip
    axes.set_yticks(range(len(chosen)), [line["workload"] for line in chosen])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xticks([1, 1.5, 2, 3, 4], ["1", "1.5", "2", "3", "4"])
    axes.minorticks_off()
    axes.set_xlabel(f"batches over the lower bound, mini-batches of {size} held-out samples")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    figure.legend(loc="outside right center", frameon=False)
    return figure


def gaps(lines: list[Line]) -> Figure:
    """A panel per family of small graphs, a bar per policy: mean, 90th percentile and greatest gap to the optimum."""
    families = list(dict.fromkeys(line["family"] for line in lines))
    figure = Figure(figsize=(2.3 * len(families), 2.8), layout="constrained")
    panels = figure.subplots(1, len(families), sharey=True)
    for axes, family in zip(np.atleast_1d(panels), families, strict=True):
        chosen = [line for line in lines if line["family"] == family and line["policy"] in COLOURS]
        for row, line in enumerate(chosen):
            mean, ninth, most = (100 * line[name] for name in ("gap_mean", "gap_p90", "gap_max"))
            axes.plot([mean, most], [row, row], color="0.8", linewidth=1, zorder=0)
            axes.barh(row, mean, color=COLOURS[line["policy"]], height=0.62)
            axes.scatter([ninth], [row], marker="|", color="0.3", s=60)
            axes.scatter([most], [row], marker=".", color="0.3", s=24)
        axes.set_yticks(range(len(chosen)), [line["policy"] for line in chosen])
        axes.set_title(f"{family}\n({chosen[0]['graphs']} graphs)", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    np.atleast_1d(panels)[0].invert_yaxis()
    figure.supxlabel("batches above the optimum, %: bar mean, tick 90th percentile, dot greatest", fontsize=9)
    return figure


STAGES = {"trace": "#1f5f99", "schedule": "#d99a2b", "memory": "#6f4fa0", "execute": "#2e7d4f", "backward": "#b5483a"}


def scale(lines: list[Line]) -> Figure:
    """A panel per family of mini-batches: seconds of each stage of a training step, by nodes; both axes logarithmic."""
    training = [line for line in lines if line["phase"] == "training"]
    families = list(dict.fromkeys(line["family"] for line in training))
    figure = Figure(figsize=(3.1 * len(families), 3.2), layout="constrained")
    panels = figure.subplots(1, len(families), sharey=True)
    for axes, family in zip(np.atleast_1d(panels), families, strict=True):
        chosen = [line for line in training if line["family"] == family]
        nodes = np.array([line["nodes"] for line in chosen])
        for stage, colour in STAGES.items():
            seconds = nodes * [line["us_per_node"][stage] for line in chosen] / 1e6
            axes.loglog(nodes, seconds, color=colour, marker="o", markersize=3.5, linewidth=1.2, label=stage)
        for each in (1e-7, 1e-6, 1e-5):  # seconds per node: what is linear runs along these
            axes.loglog(nodes, each * nodes, color="0.85", linewidth=0.8, zorder=0)
        axes.set_title(family, fontsize=10)
        axes.set_xlabel("nodes")
        axes.spines[["top", "right"]].set_visible(False)
    np.atleast_1d(panels)[0].set_ylabel("seconds")
    handles, labels = np.atleast_1d(panels)[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    return figure


def schedules_and_machine() -> dict[str, Figure]:
    """Eight lattices by depth and by auto, and the machine that is learned on 64 others."""
    task = make("lattice-lstm", 8, 0)
    batched = bale.batch(task.model)
    *_, few = islice(task.mini_batches(8, 1), 1)
    graph = graph_of(batched.inner, few.samples, {}, batched.settings, batched.registry)
    policy = bale.learn_policy(batched, next(iter(task.mini_batches(64, 0))).samples)
    return {
        "schedule-depth": draw_schedule(graph, make_schedule(graph, "depth")),
        "schedule-auto": draw_schedule(graph, make_schedule(graph, "auto")),
        "machine": draw_policy(policy),
    }


def main() -> None:
    *paths, target = sys.argv[1:] or [""]
    if len(paths) not in (1, 2):
        sys.exit(__doc__)
    files = [[json.loads(text) for text in Path(path).read_text().splitlines()] for path in paths]
    folder = Path(target)
    folder.mkdir(parents=True, exist_ok=True)
    matplotlib.rcParams["svg.hashsalt"] = "bale"  # or the same picture is another file every time
    if len(files) == 1:
        figures = {"scale": scale(files[0])}
    else:
        figures = {"batches": batches_over_bound(files[0]), "gaps": gaps(files[1]), **schedules_and_machine()}
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
