"""Four published systems on Fashion-MNIST: train, compress, map, simulate; ours beside the papers' claims.

    python -m benchmarks.codesign --system reboc --json -              one system: a line a figure, mean of three seeds
    python -m benchmarks.codesign --results FILE.jsonl                 all four; hours, in as many goes as you like
    python -m benchmarks.codesign --quick                              LeNet-5 on 10,000 images, one seed: minutes
    python -m benchmarks.codesign --train --shard 1/2                  only train, half of it, for one of two processes
    python -m benchmarks.codesign --results FILE.jsonl --summary       what the file has, as a table; or of --quick

Networks are trained when a figure needs them and are kept in --work, where the next call finds them; Ctrl-C leaves
checkpoints there. A system's figures of one network and seed are appended to --results when they are all done, and are
not measured again: delete their line, or the file, where the code has changed. The LSTM is ReBoc's and SmartDeal's.
Threads: one, so that processes can share a machine. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import torch
from rich.console import Console

from bale.codesign.figure import Figure
from bale.data import image_data
from benchmarks import command
from benchmarks.codesign.lines import SYSTEMS, Line, Part, merged, parts, read, runs
from benchmarks.codesign.networks import NETWORKS, Networks
from benchmarks.codesign.summary import draw, number_text, table_of
from benchmarks.compression.bars import Bars
from benchmarks.compression.runs import Amount
from benchmarks.compression.study import Study
from benchmarks.race.machine import processor

QUICK = Amount(images=10_000)
RESULTS = Path("benchmarks/results/codesign.jsonl")
Figures = Callable[[Networks, str, int], Iterator[tuple[Figure, float]]]


def figures_of(system: str) -> Figures:
    """How a system is measured; only what is asked for is imported."""
    return importlib.import_module(f"benchmarks.codesign.{system}").figures


def measure(wanted: Sequence[Part], path: Path | None, work: Path, console: Console, device: str = "cpu") -> list[Line]:
    """Measure the parts that the file has not; return the records of all of them."""
    done = {Part.of(record): record for record in read(path)}
    left = [part for part in wanted if part not in done]
    train, test = image_data("fashion-mnist") if left else (None, None)
    for number, part in enumerate(left):
        assert train is not None and test is not None
        title = f"{number + 1}/{len(left)} {part.system}, {part.network}, seed {part.seed}"
        with closing(Bars(console, title)) as bars:
            study = Study(train.take(part.amount.images), test, work, bars.on_step, device)
            networks = Networks(study, part.amount, sorted({each.seed for each in wanted}))
            dense = networks.dense(part.network, part.seed).accuracy
            figures = []
            for figure, accuracy in figures_of(part.system)(networks, part.network, part.seed):
                bars.close()
                ours = number_text(figure.ours, figure.unit)
                told = f"{title}: {figure.figure}{', over ' if figure.baseline else ''}{figure.baseline}: {ours}"
                console.print(told, highlight=False, markup=False, soft_wrap=True)
                figures.append((figure, accuracy))
        machine = {"threads": torch.get_num_threads(), "torch": torch.__version__, "processor": processor()}
        done[part] = part.record(figures, dense, machine)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(done[part]) + "\n")
    return [done[part] for part in wanted]


def train_networks(wanted: Sequence[Part], shard: tuple[int, int], work: Path, console: Console, device: str) -> int:
    """Train what the parts need and the folder has not; a network and its seed are of one shard, and trained once."""
    mine, many = shard
    pairs = list(dict.fromkeys((part.seed, part.network) for part in wanted))[mine - 1 :: many]
    chosen = runs([part for pair in pairs for part in wanted if (part.seed, part.network) == pair])
    train, test = image_data("fashion-mnist")
    for number, run in enumerate(chosen):
        title = f"{number + 1}/{len(chosen)} {run.model}, {run.setting}, seed {run.seed}"
        with closing(Bars(console, title)) as bars:
            _, line = Study(train.take(run.amount.images), test, work, bars.on_step, device).network(run)
        told = f"{title}: accuracy {line['accuracy']:.4f}, dense {line['dense_accuracy']:.4f}"
        console.print(told, highlight=False, markup=False, soft_wrap=True)
    return len(chosen)


def chosen_parts(chosen: argparse.Namespace) -> list[Part]:
    """What is asked for."""
    networks = chosen.networks or (["lenet5"] if chosen.quick else list(NETWORKS))
    seeds = chosen.seeds or ([0] if chosen.quick else [0, 1, 2])
    return parts(chosen.system or SYSTEMS, networks, seeds, QUICK if chosen.quick else None)


def parser() -> argparse.ArgumentParser:
    """All options."""
    options = command.parser("codesign", __doc__)
    options.add_argument("--system", choices=SYSTEMS, action="append", metavar="NAME", help=" | ".join(SYSTEMS))
    options.add_argument("--networks", type=command.some_of(str, NETWORKS), metavar="A,B")
    options.add_argument("--seeds", type=command.some_of(int), metavar="A,B")
    options.add_argument("--quick", action="store_true", help="LeNet-5, one seed, 10,000 images")
    options.add_argument("--results", type=Path, metavar="FILE", help=f"append to it and resume, such as {RESULTS}")
    options.add_argument("--work", type=Path, default=Path("runs/codesign"), metavar="FOLDER", help="trained networks")
    options.add_argument("--train", action="store_true", help="measure nothing; train the networks that are missing")
    options.add_argument("--shard", type=command.shard, metavar="I/N", help="of --train: of N processes the I-th")
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="on which networks are trained")
    options.add_argument("--summary", action="store_true", help="measure nothing; show what --results has")
    options.add_argument("--picture", type=command.picture, metavar="FILE", help="draw ours beside the claims")
    command.add_json(options)
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser()
    chosen = options.parse_args(arguments)
    wanted = chosen_parts(chosen)
    if not wanted:
        options.error(
            "--networks lstm: only reboc and smartdeal are measured on it; name one of them, or another network"
        )
    if chosen.shard is not None and not chosen.train:
        options.error("--shard divides what --train does; add --train, or leave it out")
    if chosen.device == "cuda" and not torch.cuda.is_available():
        options.error("--device cuda: this torch finds no GPU; leave the option out to train on the CPU")
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False  # float32, as on a CPU
    console = Console(stderr=True)
    if chosen.train:
        train_networks(wanted, chosen.shard or (1, 1), chosen.work, console, chosen.device)
        return 0
    if chosen.summary:
        records = [record for record in read(chosen.results) if Part.of(record) in wanted]
        if not records:
            options.error("--summary needs --results with a file that has what is asked for (or that of --quick)")
    else:
        records = measure(wanted, chosen.results, chosen.work, console, chosen.device)
    lines = merged(records)
    command.tell(lines, chosen.json, table_of, width=170)
    if chosen.picture is not None:
        command.save(draw(lines), chosen.picture)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
