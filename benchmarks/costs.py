"""Does a schedule of least cost run faster than one of fewest batches?

    python -m benchmarks.costs [--networks deep-programs,...] [--hidden N] [--batch 8,16] [--json FILE|-]

Costs are measured on one mini-batch (bale.measure_costs); then "auto" and the portfolio with these costs schedule
others that nothing was measured on. Networks are those of benchmarks.throughput, and three in which one type is dearer,
its cell --layers layers deeper: a gate of dag-lstm (deep-dag), the same on chains of random gates (deep-programs), and
an inner cell of two-type (deep-two-type). Inference, one thread. A line per network and size of mini-batch, of which
each number is a sum over the held-out mini-batches:

dearest       the highest per_batch over the lowest, of the types that have more batches than their bound with "auto"
bound_us      the microseconds that the bound of each type costs
batches, predicted_us, schedule_ms, execute_ms
              by policy; milliseconds are medians of repeats that alternate between the policies

As measured (4 held-out mini-batches, AMD EPYC, one thread of a machine with other work, torch 2.13; equal schedules
differ by 10 % and more in time there). On the twelve workloads it wins nothing (hidden 64, batch 64): ten are at the
bound of each type, and in dag-lstm (191 batches, bound 141) and two-type (128, bound 111) prices differ by less than a
fifth, so that nothing cheaper is found. Where one cell is 16 layers deeper (hidden 256, 21 repeats; auto / costs):

network        batch  dearest  batches    predicted ms   execute ms     schedule ms
deep-programs      8     20.5  176 / 210   39.9 /  34.3   79.6 /  69.0   6.9 / 11.0
deep-programs     16     28.3  206 / 257   29.6 /  22.5   84.1 /  76.3   8.0 / 12.0
deep-dag           8      5.2  125 / 125   37.2 /  37.2   59.3 /  57.4   6.3 /  8.6
deep-dag          16      9.4  155 / 164   24.2 /  23.0  101.0 /  93.6   7.1 / 10.9
deep-two-type      8      3.7   90 /  90   70.2 /  66.4   76.7 /  74.1   2.7 /  6.3
deep-two-type     16      4.2  102 / 102  111.9 / 106.5  261.8 / 258.4   3.1 / 17.1

So it pays, scheduling included, where a type is about 20 times as dear as others and many of its batches are above the
bound; below that, the further search takes what it saves, or more.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import Tensor, nn

import bale
from bale.batching.engine import graph_of
from bale.batching.graph import Graph
from bale.batching.schedule import Schedule, lower_bound_by_type
from bale.batching.schedule.costs import cost_of
from bale.data import CIRCUIT_KINDS, Dag
from benchmarks import command
from benchmarks.race.machine import processor
from benchmarks.throughput.pools import GENERATED, Pool
from benchmarks.throughput.task import Task
from benchmarks.throughput.workloads import WORKLOADS, make

Line = dict[str, Any]

# network -> the workload that it is made of, and the list of cells whose last becomes deep
DEEP = {
    "deep-programs": ("dag-lstm", "nodes"),
    "deep-dag": ("dag-lstm", "nodes"),
    "deep-two-type": ("two-type", "inner"),
}
PROGRAMS, SHORTEST, LONGEST = 512, 10, 20  # how many, and the instructions of one
FIRST_GATE = 2  # of the kinds of circuits, after the two inputs
NETWORKS = [*DEEP, *WORKLOADS]
SEED, HELD_OUT = 0, 4


class Deep(nn.Module):
    """A cell behind more layers: the first of its states passes them before the cell sees it."""

    def __init__(self, cell: nn.Module, hidden: int, layers: int) -> None:
        super().__init__()
        self.cell = cell
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers))

    def forward(self, first: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
        """Take the states that the cell takes, each [hidden]; return what it returns."""
        for layer in self.layers:
            first = layer(first).tanh()
        return self.cell(first, *others)


def network(name: str, hidden: int, layers: int) -> Task:
    """A workload, or one of those with a deep cell."""
    if name not in DEEP:
        return make(name, hidden, SEED)
    workload, cells = DEEP[name]
    task = make(workload, hidden, SEED)
    model = copy.deepcopy(task.model)
    torch.manual_seed(SEED)
    of_kinds = model.get_submodule(cells)
    assert isinstance(of_kinds, nn.ModuleList)
    of_kinds[-1] = Deep(of_kinds[-1], hidden, layers)
    pool = programs(task.pool.sizes) if name == "deep-programs" else task.pool
    return replace(task, name=name, model=model, pool=pool)


def programs(sizes: dict[str, int]) -> Pool:
    """Chains of random instructions: each reads what the last made. They want unlike types at every step."""
    rng = np.random.default_rng(SEED)
    instructions = np.arange(FIRST_GATE, len(CIRCUIT_KINDS))
    samples = []
    for length in rng.integers(SHORTEST, LONGEST + 1, PROGRAMS).tolist():
        kinds = (0, *rng.choice(instructions, length).tolist())
        samples.append((Dag(kinds, ((), *((node,) for node in range(length)))), 0))
    return Pool(GENERATED, samples, sizes)


def measure(task: Task, size: int, layers: int, repeats: int) -> Line:
    first, *held_out = islice(task.mini_batches(size, SEED), 1 + HELD_OUT)
    costs = bale.measure_costs(task.model, first.samples)
    policies = {"auto": bale.Portfolio(), "costs": bale.Portfolio(costs=costs)}
    ways = {name: bale.batch(task.model, policy=policy, check="off") for name, policy in policies.items()}
    auto = ways["auto"]
    graphs = [graph_of(auto.inner, each.samples, {}, auto.settings, auto.registry) for each in held_out]
    made = {name: [policy(graph) for graph in graphs] for name, policy in policies.items()}
    stages = [seconds(ways, each.samples, repeats) for each in held_out]
    above = np.concatenate([waste(costs, *pair) for pair in zip(graphs, made["auto"], strict=True)])
    bounds = [cost_of(lower_bound_by_type(graph), costs.of(graph)) for graph in graphs]

    def milliseconds(stage: str) -> dict[str, float]:
        return {name: round(1e3 * sum(each[name][stage] for each in stages), 3) for name in ways}

    return {
        "network": task.name,
        "data": task.pool.data,
        "hidden": task.hidden,
        "layers": layers if task.name in DEEP else 0,
        "batch": size,
        "held_out": len(held_out),
        "nodes": sum(len(graph) for graph in graphs),
        "dearest": round(float(above.max() / max(above.min(), 1e-3)), 2) if above.size else 1.0,
        "bound": sum(int(lower_bound_by_type(graph).sum()) for graph in graphs),
        "bound_us": round(sum(bounds), 1),
        "batches": {name: sum(map(len, schedules)) for name, schedules in made.items()},
        "predicted_us": {
            name: round(sum(costs.schedule(*pair) for pair in zip(graphs, schedules, strict=True)), 1)
            for name, schedules in made.items()
        },
        "schedule_ms": milliseconds("schedule"),
        "execute_ms": milliseconds("execute"),
        "repeats": repeats,
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def waste(costs: bale.Costs, graph: Graph, schedule: Schedule) -> np.ndarray:
    """The per_batch of each type that has more batches than it needs at least."""
    batches = np.bincount(schedule.batch_type, minlength=len(graph.types))
    return costs.of(graph)[batches > lower_bound_by_type(graph)]


def seconds(ways: dict[str, bale.Batched], samples: list[Any], repeats: int) -> dict[str, dict[str, float]]:
    """By way and stage, the median over repeats; the ways take turns, each first in every other round."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    names = list(ways)
    with torch.no_grad():
        for _ in range(3):  # cells are captured at their second call
            for way in ways.values():
                way(samples)
        for _ in range(repeats):
            for name in names:
                ways[name](samples)
                stats = ways[name].last
                assert stats is not None
                found[name].append(stats.seconds)
            names.reverse()
    return {
        name: {stage: float(np.median([run[stage] for run in runs])) for stage in runs[0]}
        for name, runs in found.items()
    }


def table_of(lines: Sequence[Line]) -> Table:
    table = Table(title="auto and the portfolio with costs, sums over held-out mini-batches")
    for heading in ("network", "batch"):
        table.add_column(heading, no_wrap=True)
    for heading in ("dearest", "bound", "bound us", "batches", "predicted us", "schedule ms", "execute ms"):
        table.add_column(heading, justify="right")
    for line in lines:
        pairs = [
            " / ".join(f"{line[field][name]:.{digits}f}" for name in ("auto", "costs"))
            for field, digits in (("batches", 0), ("predicted_us", 0), ("schedule_ms", 2), ("execute_ms", 2))
        ]
        table.add_row(
            line["network"], str(line["batch"]), f"{line['dearest']:.1f}", str(line["bound"]),
            f"{line['bound_us']:.0f}", *pairs,
        )  # fmt: skip
    return table


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)
    lines = []
    for name in args.networks:
        task = network(name, args.hidden, args.layers)
        for size in args.batch:
            lines.append(measure(task, size, args.layers, args.repeats))
            if args.json == "-":
                sys.stdout.write(json.dumps(lines[-1]) + "\n")
                sys.stdout.flush()
    if args.json != "-":
        command.tell(lines, args.json, table_of, width=140)


def arguments() -> argparse.Namespace:
    parser = command.parser("costs", __doc__)
    known, sizes = command.some_of(str, NETWORKS), command.some_of(command.at_least(1))
    parser.add_argument("--networks", type=known, default=NETWORKS, metavar="A,B,...")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=16, help="of a deep cell")
    parser.add_argument("--batch", type=sizes, default=[8, 16], metavar="N,M,...")
    parser.add_argument("--repeats", type=int, default=9)
    command.add_json(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
