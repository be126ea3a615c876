"""Does a mini-batch of a million nodes run in linear time, and in how much memory?

    python -m benchmarks.scale [--families trees,...] [--sizes 1000,10000,100000,1000000] [--json FILE|-]

trees    binary TreeLSTM, trees of 20 leaves: more and more samples, as many batches as one has
chains   BiLSTM tagger of one layer, sentences of 20 words: the same
deep     LSTM over 64 sentences of the same length, longer and longer: as many batches as a sentence has words

Samples are generated, states are 32 wide, equal computations are not merged, so that all nodes that are traced run. A
line per family, size and phase (training: forward and backward; inference: forward without autograd), each in a process
of its own, which has run a smaller mini-batch before:

nodes, batches   of the graph that runs
us_per_node      microseconds of each stage: trace, schedule, memory, execute (forward), backward, and all together
cpu_us_per_node  processor time of them all: on a machine that others use, the number to compare
rss_mb           the peak of resident memory over what was there before, in MB of 10^6 bytes
bytes_per_node   the same for each node
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

import bale
from bale.data import ptb_samples, ptb_vocabulary, random_ptb, random_tagged
from bale.models import BiLSTMTagger, NaryTreeLSTM
from bale.models.chains import run
from benchmarks import command
from benchmarks.step_memory import peak_of_process

Line = dict[str, Any]
STAGES = ("trace", "schedule", "memory", "execute", "backward")
PHASES = ("training", "inference")
HIDDEN, WORDS, LENGTH, SENTENCES = 32, 2000, 20, 64
WARM = 300  # nodes of the mini-batch that comes before, which compiles and captures


class Chain(nn.Module):
    """An LSTM over a sentence, and the class of its last state."""

    zero: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.cell = nn.Embedding(WORDS, HIDDEN), nn.LSTMCell(HIDDEN, HIDDEN)
        self.head = nn.Linear(HIDDEN, 5)
        self.register_buffer("zero", torch.zeros(HIDDEN), persistent=False)

    def forward(self, words: Tensor) -> Tensor:
        """Take the numbers of words [length]; return logits [5]."""
        return self.head(run(self.cell, self.embed(words).unbind(), self.zero, self.zero)[-1][0])


def trees(nodes: int, seed: int) -> tuple[nn.Module, list[Any]]:
    samples = math.ceil(nodes / (2 * LENGTH))  # leaves, inner nodes, and the head of the root
    read = random_ptb(samples, seed, words=WORDS, leaves=LENGTH)
    vocabulary = ptb_vocabulary(read)
    model = NaryTreeLSTM(vocabulary=WORDS + 1, classes=5, hidden=HIDDEN)
    return model, [tree for tree, _ in ptb_samples(read, vocabulary)]


def chains(nodes: int, seed: int) -> tuple[nn.Module, list[Any]]:
    samples = math.ceil(nodes / (2 * LENGTH + 2))  # two steps of each word, all its words, all its logits
    made = random_tagged(samples, seed, words=WORDS, length=LENGTH)
    sentences = [tuple(int(word.removeprefix("w")) for word in sentence.words) for sentence in made]
    return BiLSTMTagger(vocabulary=WORDS, tags=9, embed=HIDDEN, hidden=HIDDEN), sentences


def deep(nodes: int, seed: int) -> tuple[nn.Module, list[Any]]:
    length = math.ceil(nodes / SENTENCES)
    generator = torch.Generator().manual_seed(seed)
    return Chain(), list(torch.randint(WORDS, (SENTENCES, length), generator=generator))


FAMILIES: dict[str, Callable[[int, int], tuple[nn.Module, list[Any]]]] = {
    "trees": trees,
    "chains": chains,
    "deep": deep,
}


def measure(family: str, size: int, phase: str, seed: int) -> Line:
    torch.manual_seed(seed)
    _, few = FAMILIES[family](min(size, WARM), seed + 1)
    model, samples = FAMILIES[family](size, seed)
    batched = bale.batch(model, merge=False)
    for _ in range(3):
        _step(batched, few, phase)
    gc.collect()
    gc.freeze()
    seconds: dict[str, float] = {}
    begin = time.process_time()
    peak = peak_of_process(lambda: seconds.update(_step(batched, samples, phase)))
    cpu = time.process_time() - begin
    if peak is None:
        seconds = _step(batched, samples, phase)
        cpu = time.process_time() - begin
    assert batched.last is not None
    stats = batched.last
    each = {stage: round(1e6 * seconds[stage] / stats.nodes, 4) for stage in STAGES if stage in seconds}
    return {
        "family": family,
        "size": size,
        "phase": phase,
        "hidden": HIDDEN,
        "samples": len(samples),
        "nodes": stats.nodes,
        "batches": stats.batches,
        "us_per_node": {**each, "all": round(sum(each.values()), 4)},
        "cpu_us_per_node": round(1e6 * cpu / stats.nodes, 4),
        "rss_mb": None if peak is None else round(peak, 1),
        "bytes_per_node": None if peak is None else round(1e6 * peak / stats.nodes),
    }


def _step(batched: bale.Batched, samples: list[Any], phase: str) -> dict[str, float]:
    """The seconds of each stage."""
    with torch.set_grad_enabled(phase == "training"):
        outputs = batched(samples)
    assert batched.last is not None
    seconds = dict(batched.last.seconds)
    if phase == "training":
        loss = torch.cat([out.view(-1) for out in outputs]).square().sum()
        begin = time.perf_counter()
        loss.backward()
        seconds["backward"] = time.perf_counter() - begin
        batched.zero_grad()
    return seconds


def table_of(lines: Sequence[Line]) -> Table:
    table = Table(title=f"microseconds per node, states {HIDDEN} wide, one thread")
    for heading in ("family", "phase"):
        table.add_column(heading, no_wrap=True)
    for heading in ("nodes", "batches", *STAGES, "all", "cpu", "peak MB", "bytes per node"):
        table.add_column(heading, justify="right")
    for line in lines:
        stages = [f"{line['us_per_node'].get(stage, 0):.2f}" for stage in (*STAGES, "all")]
        stages.append(f"{line['cpu_us_per_node']:.2f}")
        memory = ["-" if line[name] is None else f"{line[name]:,.0f}" for name in ("rss_mb", "bytes_per_node")]
        table.add_row(line["family"], line["phase"], f"{line['nodes']:,}", f"{line['batches']:,}", *stages, *memory)
    return table


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)
    if args.alone:
        family, size, phase = args.alone.split(",")
        print(json.dumps(measure(family, int(size), phase, args.seed)))
        return
    wanted = [(family, size, phase) for family in args.families for phase in PHASES for size in args.sizes]
    lines = []
    for one in track(wanted, "mini-batches", console=Console(stderr=True), transient=True):
        alone = [sys.executable, "-m", "benchmarks.scale", "--seed", str(args.seed), "--alone", ",".join(map(str, one))]
        answer = subprocess.run(alone, stdout=subprocess.PIPE, check=True, text=True).stdout
        lines.append(json.loads(answer.splitlines()[-1]))
    command.tell(lines, args.json, table_of, width=150)


def arguments() -> argparse.Namespace:
    parser = command.parser("scale", __doc__)
    known, sizes = command.some_of(str, FAMILIES), command.some_of(command.at_least(1))
    parser.add_argument("--families", type=known, default=list(FAMILIES), metavar="A,B,...")
    parser.add_argument(
        "--sizes", type=sizes, default=[10**k for k in range(3, 7)], metavar="N,M,...", help="nodes, about"
    )
    parser.add_argument("--seed", type=int, default=0)
    command.add_json(parser)
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
