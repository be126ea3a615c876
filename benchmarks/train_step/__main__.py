"""Race bale, its peers, a mini-batch batched by hand and the floor over one training step.

    python -m benchmarks.train_step --workload tree-lstm --batch 64 --hidden 128 --threads 1 --json -

A step is everything from samples to gradients; zeroing gradients is not in it. Contestants first show that their loss
and gradient are those of the loop over samples, then take turns; times are medians. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks import command
from benchmarks.race.entrants import enter, leave
from benchmarks.race.local import per_sample
from benchmarks.race.peer import PeerError
from benchmarks.race.turns import Mismatch, compare, race
from benchmarks.race.workload import Workload
from benchmarks.train_step.entrants import CONTESTANTS, ON_REQUEST, module_of
from benchmarks.train_step.report import Line, lines_of, show

WORKLOADS = {"tree-lstm": 64, "bilstm": 64, "ast": 256}
"""The workloads and the size of their mini-batch where none is asked for."""


def make(name: str, batch: int, hidden: int, seed: int) -> Workload:
    module = importlib.import_module(f"benchmarks.train_step.{name.replace('-', '_')}.workload")
    return module.make(batch, hidden, seed)


def run(workload: Workload, names: list[str], threads: int, pairs: int, seconds: float) -> list[Line]:
    """Compare and race; raises Mismatch or PeerError, which name the contestant."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        contestants = enter(workload, names, Path(folder), threads, say, module_of)
        try:
            compare(contestants, per_sample(workload))
            steps = race(contestants, pairs, seconds, lambda done: progress(done, pairs))
        finally:
            leave(contestants)
            if sys.stderr.isatty():
                say("")
    return lines_of(workload, contestants, steps, threads)


def say(text: str) -> None:
    print(text, file=sys.stderr)


def progress(done: int, pairs: int) -> None:
    if sys.stderr.isatty():
        print(f"\rround {done} of {pairs}", end="", file=sys.stderr, flush=True)
    elif done in (1, pairs) or done % 10 == 0:
        say(f"round {done} of {pairs}")


def main() -> None:
    args = arguments()
    workload = make(args.workload, args.batch or WORKLOADS[args.workload], args.hidden, args.seed)
    try:
        lines = run(workload, args.contestants, args.threads, args.pairs, args.seconds)
    except (Mismatch, PeerError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    if args.json is not None:
        command.write(lines, args.json)
    if (args.table or args.json is None) and lines:
        show(lines, on_stderr=args.json == "-")


def arguments() -> argparse.Namespace:
    parser = command.parser("train_step", __doc__)
    parser.add_argument("--workload", choices=tuple(WORKLOADS), default="tree-lstm")
    parser.add_argument("--batch", type=int, help="samples; by default 64, or 256 for ast")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=30, help="rounds in which everybody takes one step")
    parser.add_argument("--seconds", type=float, default=300.0, help="no further round begins after so long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--contestants",
        type=command.some_of(str, CONTESTANTS + ON_REQUEST),
        default=list(CONTESTANTS),
        metavar="A,B,...",
        help=known(),
    )
    parser.add_argument("--json", metavar="FILE", help="one JSON line per contestant; - for standard output")
    parser.add_argument("--table", action="store_true", help="a table, also where --json is given")
    return parser.parse_args()


def known() -> str:
    return f"some of {','.join(CONTESTANTS)}; on request {','.join(ON_REQUEST)}"


if __name__ == "__main__":
    main()
