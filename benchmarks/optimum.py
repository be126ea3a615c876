"""How far is each policy from the fewest batches there can be?

    python -m benchmarks.optimum [--graphs 100] [--seed 0] [--json -]

For each family of small graphs (benchmarks/small_graphs.py) a line per policy, and one for the lower bound:

batches, optimum    means over the graphs
gap_mean, ...       batches over the optimum, less one: mean, median, 90th percentile, greatest; the bound's is below 0
optimal             the share of graphs on which it is the optimum
unproved            graphs left out, since the search came to `--limit` states
search_ms           the median of the time that the optimum took
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.table import Table

from bale.batching.graph import Graph
from bale.batching.schedule import POLICIES, lower_bound, make_schedule
from bale.batching.schedule.exact import optimum
from benchmarks import command
from benchmarks.small_graphs import FAMILIES, small_graphs

Line = dict[str, Any]
GAPS = {"gap_mean": "mean", "gap_p50": "p50", "gap_p90": "p90", "gap_max": "max"}


def lines_of(family: str, graphs: Sequence[Graph], limit: int) -> list[Line]:
    """A line for the bound, and one per policy."""
    optimum(graphs[0], limit=limit)  # compiles
    found, seconds = [], []
    for graph in graphs:
        begin = time.perf_counter()
        found.append(optimum(graph, limit=limit))
        seconds.append(time.perf_counter() - begin)
    proved = [graph for graph, best in zip(graphs, found, strict=True) if best.proved]
    fewest = np.array([best.bound for best in found if best.proved])
    counts = {"(bound)": [lower_bound(graph) for graph in proved]}
    counts |= {policy: [len(make_schedule(graph, policy)) for graph in proved] for policy in POLICIES}
    conditions = {
        "graphs": len(graphs),
        "unproved": len(graphs) - len(proved),
        "nodes": round(float(np.mean([len(graph) for graph in graphs])), 1),
        "search_ms": round(1e3 * float(np.median(seconds)), 3),
    }
    return [
        {"family": family, "policy": policy, **_gaps(np.array(batches), fewest), **conditions}
        for policy, batches in counts.items()
    ]


def _gaps(batches: np.ndarray, fewest: np.ndarray) -> Line:
    """Of one policy over all graphs; nulls where no optimum is known."""
    if fewest.size == 0:
        return dict.fromkeys(("batches", "optimum", *GAPS, "optimal"))
    gap = batches / fewest - 1
    values = (gap.mean(), *np.percentile(gap, (50, 90)), max(gap, key=abs))
    return {
        "batches": round(float(batches.mean()), 2),
        "optimum": round(float(fewest.mean()), 2),
        **{name: round(float(value), 4) for name, value in zip(GAPS, values, strict=True)},
        "optimal": round(float(np.mean(gap == 0)), 3),
    }


def table_of(lines: Sequence[Line]) -> Table:
    table = Table(title="batches over the optimum, %", caption="graphs: where the optimum was proved, of all")
    for heading in ("family", "policy"):
        table.add_column(heading, no_wrap=True)
    for heading in ("graphs", "nodes", "optimum", "batches", *GAPS.values(), "optimal %", "search ms"):
        table.add_column(heading, justify="right")
    for line in lines:
        graphs = f"{line['graphs'] - line['unproved']}/{line['graphs']}"
        numbers = [_number(line[name]) for name in ("nodes", "optimum", "batches")]
        percent = [_number(line[name], 100) for name in (*GAPS, "optimal")]
        last_of_family = line["policy"] == list(POLICIES)[-1]
        table.add_row(
            line["family"], line["policy"], graphs, *numbers, *percent, _number(line["search_ms"]),
            end_section=last_of_family,
        )  # fmt: skip
    return table


def _number(value: float | None, scale: float = 1.0) -> str:
    return "-" if value is None else f"{scale * value:.1f}"


def main() -> None:
    args = arguments()
    lines = [
        line
        for family in args.families
        for line in lines_of(family, small_graphs(family, args.graphs, args.seed), args.limit)
    ]
    command.tell(lines, args.json, table_of, width=120)


def arguments() -> argparse.Namespace:
    parser = command.parser("optimum", __doc__)
    parser.add_argument("--families", nargs="+", choices=tuple(FAMILIES), default=list(FAMILIES), metavar="FAMILY")
    parser.add_argument("--graphs", type=command.at_least(1), default=100, help="of each family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=command.at_least(1), default=1 << 21, help="states of one search")
    command.add_json(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
