"""Train, compress and train again, on Fashion-MNIST: accuracy, bytes of the packed file, bits of the ADC, three seeds.

    python -m benchmarks.compression --results FILE.jsonl              all runs; hours, in as many goes as you like
    python -m benchmarks.compression --results FILE.jsonl --shard 1/2  half of them, for one of two processes
    python -m benchmarks.compression --quick --json -                  LeNet-5 and the LSTM on 10,000 images: minutes
    python -m benchmarks.compression --results FILE.jsonl --summary    what the file has, as a table; or of --quick

A run is a network, a setting and a seed. Each line is appended when its run is done, and runs that the file has are
not done again, unless their setting means other numbers now; Ctrl-C leaves checkpoints (in --work), from which the next
call goes on. Dense networks are trained once and kept there, too. The setting "none" is the control: a dense network
that is trained for as many epochs more. Threads: one, so that processes can share a machine. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from bale.data import image_data
from benchmarks import command
from benchmarks.compression.bars import Bars
from benchmarks.compression.runs import NETWORKS, SETTINGS, WIDER, Amount, Run, grid, holds, read
from benchmarks.compression.study import Line, Study
from benchmarks.compression.summary import draw, table_of

QUICK = Amount(images=10_000)
RESULTS = Path("benchmarks/results/compression.jsonl")


def measure(runs: Sequence[Run], path: Path | None, work: Path, console: Console, device: str = "cpu") -> list[Line]:
    """Do the runs that the file has not; return the lines of all of them."""
    done = {Run.of(line).key: line for line in read(path) if holds(line)}
    lines: list[Line] = []
    left = [run for run in runs if run.key not in done]
    train, test = image_data("fashion-mnist") if left else (None, None)
    for number, run in enumerate(runs):
        if run.key not in done:
            assert train is not None and test is not None
            title = f"{number + 1}/{len(runs)} {run.model}, {run.setting}, seed {run.seed}"
            bars = Bars(console, title)
            done[run.key] = Study(train.take(run.amount.images), test, work, bars.on_step, device).run(run)
            bars.close()
            if path is not None:
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(done[run.key]) + "\n")
        lines.append(done[run.key])
    return lines


def measured(path: Path | None, amount: Amount) -> list[Line]:
    """The lines of a file that are of an amount, and of settings as they are today; one for each run."""
    lines = [line for line in read(path) if holds(line) and Run.of(line).amount == amount]
    return list({Run.of(line).key: line for line in lines}.values())


def chosen_runs(chosen: argparse.Namespace) -> list[Run]:
    """The runs that are asked for; a network and its seed are of one shard, which trains it once."""
    amount = QUICK if chosen.quick else Amount()
    models = chosen.models or (["lenet5", "lstm"] if chosen.quick else list(NETWORKS))
    seeds = chosen.seeds or ([0] if chosen.quick else [0, 1, 2])
    mine, many = chosen.shard
    pairs = [(seed, model) for seed in seeds for model in models]
    own = set(pairs[mine - 1 :: many])
    return [run for run in grid(models, chosen.setting or SETTINGS, seeds, amount) if (run.seed, run.model) in own]


def main(arguments: Sequence[str] | None = None) -> int:
    options = command.parser("compression", __doc__)
    options.add_argument("--models", type=command.some_of(str, [*NETWORKS, *WIDER]), metavar="A,B")
    options.add_argument("--setting", choices=SETTINGS, action="append", metavar="A", help="one of them; several")
    options.add_argument("--seeds", type=command.some_of(int), metavar="A,B")
    options.add_argument("--quick", action="store_true", help="LeNet-5 and the LSTM, one seed, 10,000 images")
    options.add_argument("--results", type=Path, metavar="FILE", help=f"append to it and resume, such as {RESULTS}")
    options.add_argument("--work", type=Path, default=Path("runs/compression"), metavar="FOLDER", help="checkpoints")
    options.add_argument("--shard", type=command.shard, default=(1, 1), metavar="I/N", help="of N processes the I-th")
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="on which networks are trained")
    options.add_argument("--summary", action="store_true", help="measure nothing; show what --results has")
    options.add_argument("--picture", type=command.picture, metavar="FILE", help="draw accuracy against bytes")
    command.add_json(options)
    chosen = options.parse_args(arguments)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        options.error("--device cuda: this torch finds no GPU; leave the option out to train on the CPU")
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False  # float32, as on a CPU
    if chosen.summary:
        lines = measured(chosen.results, QUICK if chosen.quick else Amount())
        if not lines:
            options.error("--summary needs --results with a file that has lines of this study (or those of --quick)")
    else:
        lines = measure(chosen_runs(chosen), chosen.results, chosen.work, Console(stderr=True), chosen.device)
    command.tell(lines, chosen.json, table_of, width=170)
    if chosen.picture is not None:
        command.save(draw(lines), chosen.picture)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
