"""What does a PQ-tree's reduction cost for each element of its subset?

    python -m benchmarks.pqtree [--leaves 100 1000 10000 100000] [--elements 1000000] [--json -]

A line per family of subsets and number of leaves; subsets are drawn until they have `--elements` elements in all, and
given in random order:

short        intervals of a hidden order, of 2 to 64 leaves, each size as likely as twice the size
intervals    the same, of 2 to all leaves
nested       the hidden order's first leaves, of random sizes: a tree that is deep
conflicts    `short`, but every second one is as many leaves of any place, few of which fit

us_per_element    the median over the repeats of processor time for all reductions, over the elements
accepted          how many of the subsets could be made consecutive; the rest changed nothing
q_nodes, depth    of the tree that comes of it

Every tree is compared before it is timed: it must accept the hidden order (but for `conflicts`), and each accepted
subset must be consecutive in the tree's frontier. Garbage collection is off while the clock runs.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.table import Table

from bale.batching.memory.pqtree import PQTree
from benchmarks import command

Line = dict[str, Any]
FAMILIES = ("short", "intervals", "nested", "conflicts")
SHORT = 64  # leaves of a short interval, at most


def draw(family: str, hidden: np.ndarray, elements: int, rng: np.random.Generator) -> list[list[int]]:
    """Subsets of the leaves `hidden` with that many elements in all, or a few more."""
    leaves = hidden.size
    most = min(SHORT, leaves) if family in ("short", "conflicts") else leaves
    subsets: list[list[int]] = []
    while elements > 0:
        size = round(2 * (most / 2) ** rng.random())
        if family == "nested":
            size = int(rng.integers(2, leaves + 1))
        if family == "conflicts" and len(subsets) % 2:
            subset = rng.choice(leaves, size, replace=False)
        else:
            begin = 0 if family == "nested" else rng.integers(leaves - size + 1)
            subset = rng.permutation(hidden[begin : begin + size])
        subsets.append(subset.tolist())
        elements -= size
    return subsets


def lines_of(family: str, sizes: Sequence[int], elements: int, repeats: int, seed: int) -> list[Line]:
    lines = []
    for leaves in sizes:
        rng = np.random.default_rng(seed)
        hidden = rng.permutation(leaves)
        subsets = draw(family, hidden, elements, rng)
        tree = PQTree(range(leaves))
        accepted = [subset for subset in subsets if tree.reduce(subset)]
        prove(tree, accepted, None if family == "conflicts" else hidden.tolist())
        seconds = statistics.median(timed(leaves, subsets) for _ in range(repeats))
        count = sum(map(len, subsets))
        q_nodes, depth = shape_of(tree)
        lines.append(
            {
                "family": family,
                "leaves": leaves,
                "subsets": len(subsets),
                "accepted": len(accepted),
                "elements": count,
                "us_per_element": round(1e6 * seconds / count, 3),
                "seconds": round(seconds, 3),
                "q_nodes": q_nodes,
                "depth": depth,
                "repeats": repeats,
                "python": sys.version.split()[0],
            }
        )
    return lines


def prove(tree: PQTree[int], accepted: Sequence[Sequence[int]], hidden: list[int] | None) -> None:
    place = np.empty(len(tree), np.int64)
    place[tree.frontier()] = np.arange(len(tree))
    for subset in accepted:
        if np.ptp(place[list(subset)]) != len(subset) - 1:
            raise SystemExit(f"a subset of {len(subset)} leaves was accepted and is not consecutive")
    if hidden is not None and not tree.accepts(hidden):
        raise SystemExit("the hidden order, in which all subsets are consecutive, is not one of the tree's")


def timed(leaves: int, subsets: Sequence[Sequence[int]]) -> float:
    """Processor seconds of all reductions of a new tree."""
    tree = PQTree(range(leaves))
    gc.collect()
    gc.disable()
    try:
        begin = time.process_time()
        for subset in subsets:
            tree.reduce(subset)
        return time.process_time() - begin
    finally:
        gc.enable()


def shape_of(tree: PQTree[int]) -> tuple[int, int]:
    """How many Q nodes, and the most inner nodes above a leaf."""
    q_nodes, depth, level = 0, -1, [tree.root]
    while level:
        q_nodes += sum(node.kind == "Q" for node in level)
        depth += 1
        level = [child for node in level for child in node.children]
    return q_nodes, depth


def table_of(lines: Sequence[Line]) -> Table:
    table = Table(title="reductions of a PQ-tree")
    table.add_column("family", no_wrap=True)
    columns = ("leaves", "subsets", "accepted", "elements", "q_nodes", "depth", "seconds", "us_per_element")
    for column in columns:
        table.add_column(column.replace("us_per_element", "us / element").replace("_", " "), justify="right")
    for line, following in zip(lines, (*lines[1:], None), strict=True):
        end_section = following is not None and following["family"] != line["family"]
        table.add_row(line["family"], *(f"{line[column]:,}" for column in columns), end_section=end_section)
    return table


def main() -> None:
    args = arguments()
    lines = [
        line
        for family in args.families
        for line in lines_of(family, args.leaves, args.elements, args.repeats, args.seed)
    ]
    command.tell(lines, args.json, table_of, width=120)


def arguments() -> argparse.Namespace:
    parser = command.parser("pqtree", __doc__)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES), metavar="FAMILY")
    parser.add_argument("--leaves", nargs="+", type=command.at_least(2), default=[100, 1_000, 10_000, 100_000])
    parser.add_argument("--elements", type=command.at_least(1), default=1_000_000, help="of the subsets of one tree")
    parser.add_argument("--repeats", type=command.at_least(1), default=3)
    parser.add_argument("--seed", type=int, default=0)
    command.add_json(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
