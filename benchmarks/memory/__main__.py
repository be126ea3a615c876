"""How many bytes does a mini-batch move inside cells and between batches, in three layouts of memory?

    python -m benchmarks.memory [--workloads tree-lstm,...] [--batch 64] [--hidden 64] [--inference] [--json FILE|-]

Networks and samples are those of benchmarks.throughput; everything is counted from plans, nothing is computed. A line
per workload:

layouts         naive, execution order, planned (layouts.py), of each
  between       copies between batches, forward and backward: launches, and the bytes that they write and read
  inside        inside cells: launches of all kinds, how many of them copy, and the bytes that these write
times_fewer     the bytes written between batches in execution order, over those as planned, forward and backward
cells           per type the copies of a batch inside its cell, without and with a plan: forward and backward
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

import bale
from benchmarks import command
from benchmarks.memory.layouts import Between, calls, execution_order, inside, naive, planned
from benchmarks.throughput.workloads import WORKLOADS, make

Line = dict[str, Any]
LAYOUTS = ("naive", "execution order", "planned")
MB = 1e6


def measure(workload: str, batch: int, hidden: int, seed: int, training: bool) -> Line:
    task = make(workload, hidden, seed)
    batched = bale.batch(task.model, capture="eager")
    with torch.set_grad_enabled(training):
        call, in_order = calls(batched, next(task.mini_batches(batch, seed)).samples)
        between = dict(zip(LAYOUTS, (naive(in_order), execution_order(in_order), planned(call)), strict=True))
        layouts = {name: _layout(found, inside(call, name == "planned")) for name, found in between.items()}
    codes = [(t.name, code) for t, code in zip(call.graph.types, call.emitted, strict=True) if code is not None]
    return {
        "workload": workload,
        "data": task.pool.data,
        "batch": batch,
        "hidden": hidden,
        "seed": seed,
        "phase": "training" if training else "inference",
        "nodes": len(call.graph),
        "batches": len(call.schedule),
        "layouts": layouts,
        "times_fewer": round(between["execution order"].written / max(between["planned"].written, 1), 3),
        "cells": [
            {"type": name, "before": _copies(code.traffic.before), "after": _copies(code.traffic.after)}
            for name, code in codes
        ],
    }


def _layout(between: Between, inside: tuple[Any, Any]) -> Line:
    ways = ("forward", "backward")
    return {
        "between": {way: asdict(getattr(between, way)) for way in ways},
        "inside": dict(zip(ways, map(asdict, inside), strict=True)),
    }


def _copies(ways: Any) -> list[int]:
    return [ways.forward.copies, ways.backward.copies]


def table_of(lines: Sequence[Line]) -> Table:
    table = Table(
        title=f"MB written by copies, {lines[0]['phase']}, batch {lines[0]['batch']}, hidden {lines[0]['hidden']}",
        caption="forward + backward; in brackets how many copies there are",
    )
    table.add_column("workload", no_wrap=True)
    for heading in ("nodes", "batches", *(f"between: {name}" for name in LAYOUTS), "times fewer", "inside: naive",
                    "inside: planned"):  # fmt: skip
        table.add_column(heading, justify="right")
    for line in lines:
        layouts = [line["layouts"][name] for name in LAYOUTS]
        between = [_cell(layout["between"], "launches") for layout in layouts]
        within = [_cell(layout["inside"], "copies") for layout in (layouts[0], layouts[2])]
        fewer = f"{line['times_fewer']:.2f}"
        table.add_row(line["workload"], str(line["nodes"]), str(line["batches"]), *between, fewer, *within)
    return table


def _cell(ways: Line, count: str) -> str:
    sizes = " + ".join(f"{ways[way]['written'] / MB:.2f}" for way in ("forward", "backward"))
    return f"{sizes} ({ways['forward'][count] + ways['backward'][count]})"


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)
    wanted = track(args.workloads, "workloads", console=Console(stderr=True), transient=True)
    lines = [measure(name, args.batch, args.hidden, args.seed, not args.inference) for name in wanted]
    command.tell(lines, args.json, table_of, width=190)


def arguments() -> argparse.Namespace:
    parser = command.parser("memory", __doc__)
    known = command.some_of(str, WORKLOADS)
    parser.add_argument("--workloads", type=known, default=list(WORKLOADS), metavar="A,B,...")
    for name, default in (("batch", 64), ("hidden", 64), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--inference", action="store_true", help="without gradients")
    command.add_json(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
