"""Measure inference and training of bale, a mini-batch batched by hand, DyNet and the products alone, cell by cell.

    python -m benchmarks.throughput --json results.jsonl --table
    python -m benchmarks.throughput --workloads tree-lstm,bilstm --hidden 64 --batch 8,64 --phase inference

A cell is a workload, a width of its states, a size of mini-batch and a phase. With --json FILE a cell that the file has
already is not measured again, and Ctrl-C leaves what is done; --table sums up all that the file has then. See
benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import command
from benchmarks.race.turns import Mismatch
from benchmarks.throughput.cell import PHASES, Cell, grid
from benchmarks.throughput.results import Results, to_text
from benchmarks.throughput.run import CONTESTANTS, Race, TooLarge
from benchmarks.throughput.summary import show
from benchmarks.throughput.workloads import WORKLOADS

Value = TypeVar("Value", int, str)


def measure(cells: Sequence[Cell], results: Results, args: argparse.Namespace, console: Console) -> bool:
    """Measure the cells that are not done; tell whether all of them could be measured."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    all_well = True
    with Progress(*columns, console=console, transient=True) as progress:
        of_cells, of_rounds = progress.add_task("cells", total=len(cells)), progress.add_task("", total=args.rounds)
        race = Race(
            args.contestants,
            args.rounds,
            args.seconds,
            lambda text: progress.console.print(text, highlight=False, soft_wrap=True),
            lambda done: progress.update(of_rounds, completed=done),
        )
        for cell in cells:
            progress.update(of_rounds, description=str(cell), completed=0)
            if cell not in results.done:
                all_well &= measure_one(cell, race, results, to_stdout=args.json == "-")
            progress.advance(of_cells)
    return all_well


def measure_one(cell: Cell, race: Race, results: Results, *, to_stdout: bool) -> bool:
    try:
        lines = race.run(cell)
    except TooLarge as error:
        race.say(f"{cell}: left out: {error}")
        return True
    except Mismatch as error:
        race.say(f"{cell}: no numbers: {error}")
        return False
    results.add(lines)
    if to_stdout:
        sys.stdout.write(to_text(lines))
        sys.stdout.flush()
    rates = ", ".join(f"{line['impl']} {line['instances_per_s']:,.0f}" for line in lines)
    race.say(f"{cell}: {rates} per s")
    return True


def main() -> int:
    args = arguments()
    torch.set_num_threads(args.threads)
    cells = grid(args.workloads, args.hidden, args.batch, args.phase, args.threads, args.seed)
    results = Results(None if args.json in (None, "-") else Path(args.json))
    console = Console(stderr=True)
    try:
        all_well = measure(cells, results, args, console)
    except KeyboardInterrupt:
        console.print(f"stopped: {len(results.done)} cells are done")
        return 130
    if args.table or args.json is None:
        show(results.lines, Console(stderr=args.json == "-", width=150))
    return 0 if all_well else 1


def arguments() -> argparse.Namespace:
    parser = command.parser("throughput", __doc__)
    listed = {
        "workloads": (str, tuple(WORKLOADS), tuple(WORKLOADS)),
        "hidden": (int, (64, 256, 512), None),
        "batch": (int, (8, 64, 256), None),
        "phase": (str, PHASES, PHASES),
        "contestants": (str, CONTESTANTS, (*CONTESTANTS, "bale-nomerge", "bale-cached", "bale-again", "per-sample")),
    }
    for name, (kind, default, known) in listed.items():
        told = f"some of {','.join(known)}" if known else f"by default {','.join(map(str, default))}"
        parser.add_argument(
            f"--{name}", type=command.some_of(kind, known), default=list(default), metavar="A,B,...", help=told
        )
    parser.add_argument("--rounds", type=int, default=30, help="of each cell, in which everybody takes one step")
    parser.add_argument("--seconds", type=float, default=60.0, help="after so long no further round of a cell begins")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="one JSON line per contestant and cell; - for standard output")
    parser.add_argument("--table", action="store_true", help="a summary, also where --json is given")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
