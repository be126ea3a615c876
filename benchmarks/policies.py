"""How few batches does each policy need, on mini-batches that nothing was learned from?

    python -m benchmarks.policies [--workloads lattice-lstm,...] [--batch 8,64,256] [--json FILE|-] [--table]

Networks and samples are those of benchmarks.throughput; forwards are traced, nothing is computed. A line per workload
and size of mini-batch:

nodes, bound, batches  means over the held-out mini-batches
batches                by policy. fsm-base, fsm-max and fsm-sort are ED-Batch's encodings, learned as its public code
                       does (on the graph as it is, without the value of the state after the horizon); fsm-share is what
                       bale.learn_policy makes. Each is learned on one mini-batch of that size
learn_s, unseen        by learned policy: seconds to learn; states met in a held-out mini-batch and not in the table
schedule_us            by policy: microseconds per node, the median over the held-out mini-batches

With --json FILE the lines that the file has already are not measured again, and Ctrl-C leaves what is done.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import bale
from bale.batching.engine import graph_of
from bale.batching.graph import Graph
from bale.batching.schedule import POLICIES, Encoding, Schedule, lower_bound
from bale.batching.schedule.learn import learn
from bale.batching.schedule.qlearning import QLearning
from benchmarks.throughput.workloads import WORKLOADS, make

Line = dict[str, Any]

FAMILIES = {
    "tree": ("tree-lstm", "tree-gru", "mv-rnn", "two-type"),
    "chain": ("bilstm", "char-bilstm", "nmt"),
    "lattice": ("lattice-lstm", "lattice-gru"),
}
FAMILY = {workload: family for family, workloads in FAMILIES.items() for workload in workloads}
HELD_OUT = {8: 16, 64: 6, 256: 3}  # mini-batches; a few of any other size
HIDDEN = 8  # no schedule depends on it
AS_PUBLISHED = QLearning(bootstrap=False, patience=1000)


def measure(workload: str, size: int, seed: int) -> Line:
    task = make(workload, HIDDEN, seed)
    batched = bale.batch(task.model)
    count = 1 + HELD_OUT.get(size, 4)
    mini_batches = islice(task.mini_batches(size, seed), count)  # no sample in two of them, while there are enough
    graphs = [graph_of(batched.inner, each.samples, {}, batched.settings, batched.registry) for each in mini_batches]
    policies, seconds = learned(graphs[0], seed)
    held_out = graphs[1:]
    made = {name: [timed(policy, graph) for graph in held_out] for name, policy in (POLICIES | policies).items()}
    return {
        "workload": workload,
        "family": FAMILY.get(workload, "other"),
        "data": task.pool.data,
        "batch": size,
        "held_out": len(held_out),
        "nodes": mean(len(graph) for graph in held_out),
        "types": max(len(graph.types) for graph in held_out),
        "bound": mean(lower_bound(graph) for graph in held_out),
        "batches": {name: mean(len(schedule) for schedule, _ in of_all) for name, of_all in made.items()},
        "learn_s": seconds,
        "unseen": {name: mean(schedule.unseen for schedule, _ in made[name]) for name in policies},
        "schedule_us": {
            name: round(1e6 * float(np.median([t for _, t in of_all])), 3) for name, of_all in made.items()
        },
    }


def learned(graph: Graph, seed: int) -> tuple[dict[str, bale.Policy], dict[str, float]]:
    """A policy of every encoding, and how long each took to learn."""
    policies, seconds = {}, {}
    for encoding in Encoding:
        ours = encoding == Encoding.SHARE
        begin = time.perf_counter()
        policy = learn([graph], encoding, None if ours else AS_PUBLISHED, backward=None if ours else False, seed=seed)
        seconds[f"fsm-{encoding}"] = round(time.perf_counter() - begin, 3)
        policies[f"fsm-{encoding}"] = policy
    return policies, seconds


def timed(policy: Callable[[Graph], Schedule], graph: Graph) -> tuple[Schedule, float]:
    """The schedule, and the seconds per node that it took, of a graph that no policy has looked at yet."""
    graph = Graph(*(getattr(graph, name) for name in Graph.__dataclass_fields__))
    begin = time.perf_counter()
    schedule = policy(graph)
    return schedule, (time.perf_counter() - begin) / max(1, len(graph))


def mean(numbers: Any) -> float:
    return round(float(np.mean(list(numbers))), 2)


def table_of(lines: Sequence[Line]) -> Table:
    table = Table(title="batches per mini-batch, held out")
    names = list(lines[0]["batches"]) if lines else []
    for heading in ("workload", "batch"):
        table.add_column(heading, no_wrap=True)
    for heading in ("nodes", "types", "bound", *names, "auto / bound", "fsm-share / bound", "learn s"):
        table.add_column(heading, justify="right")
    for line in lines:
        ratios = [f"{line['batches'][name] / line['bound']:.3f}" for name in ("auto", "fsm-share")]
        counts = [f"{count:.1f}" for count in line["batches"].values()]
        table.add_row(
            line["workload"], str(line["batch"]), f"{line['nodes']:.0f}", str(line["types"]), f"{line['bound']:.1f}",
            *counts, *ratios, f"{line['learn_s']['fsm-share']:.2f}",
        )  # fmt: skip
    return table


def main() -> int:
    args = arguments()
    file = None if args.json in (None, "-") else Path(args.json)
    known = file.read_text(encoding="utf-8").splitlines() if file is not None and file.exists() else []
    lines: list[Line] = [json.loads(text) for text in known if text.strip()]
    done = {(line["workload"], line["batch"]) for line in lines}
    wanted = [(w, b) for w in args.workloads for b in args.batch]
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    learned(Graph.of([0, 1, 0], [[], [0], [1]]), 0)  # compiles
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            for workload, size in progress.track(wanted, description="workloads"):
                if (workload, size) in done:
                    continue
                lines.append(measure(workload, size, args.seed))
                text = json.dumps(lines[-1]) + "\n"
                if file is not None:
                    with file.open("a", encoding="utf-8") as opened:
                        opened.write(text)
                elif args.json == "-":
                    sys.stdout.write(text)
                    sys.stdout.flush()
    except KeyboardInterrupt:
        console.print(f"stopped: {len(lines)} lines are done")
        return 130
    if args.table or args.json is None:
        Console(stderr=args.json == "-", width=200).print(table_of(lines))
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.policies",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workloads", type=lambda text: text.split(","), default=list(WORKLOADS), metavar="A,B,...")
    parser.add_argument(
        "--batch", type=lambda text: [int(size) for size in text.split(",")], default=[8, 64, 256], metavar="N,M,..."
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="a JSON line per workload and size; - for standard output")
    parser.add_argument("--table", action="store_true", help="a table, also where --json is given")
    args = parser.parse_args()
    if unknown := [name for name in args.workloads if name not in WORKLOADS]:
        parser.error(f"unknown workloads {', '.join(unknown)}; known are {', '.join(WORKLOADS)}")
    return args


if __name__ == "__main__":
    sys.exit(main())
