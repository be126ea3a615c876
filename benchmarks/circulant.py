"""How much faster is a block-circulant layer than the dense one of its size?

    python -m benchmarks.circulant [--json FILE|-] [--threads N] [--rounds N]

Layers of several sizes and blocks, forward in eval mode without gradients (`inference`) and forward with backward to
weights and inputs (`training`): torch's own dense layer, and the block-circulant one by Fourier transforms (`fft`) and
by its weight written out (`direct`); the transforms of the weight are made anew in each call, since training moves it.
Times are medians of rounds in which all take turns. Outputs are compared first. `auto`: what bale chooses by itself.
"""

from __future__ import annotations

import copy
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

import bale
from benchmarks import command
from benchmarks.race.machine import processor

_LARGEST_DIFFERENCE = 1e-3  # of outputs' largest magnitude: what float32 may differ by

# Name, layer, what it reads, blocks.
CASES: tuple[tuple[str, Callable[[], nn.Module], tuple[int, ...], tuple[int, ...]], ...] = (
    ("Linear 4096 x 4096, batch 64", lambda: nn.Linear(4096, 4096), (64, 4096), (8, 16, 64, 256)),
    ("Linear 1024 x 1024, batch 64", lambda: nn.Linear(1024, 1024), (64, 1024), (8, 64)),
    ("Linear 128 x 576, batch 64", lambda: nn.Linear(576, 128), (64, 576), (8,)),
    ("LSTMCell 512 x 512, batch 64", lambda: nn.LSTMCell(512, 512), (64, 512), (8, 64)),
    ("Conv2d 64 x 64 x 3 x 3 on 14 x 14, batch 16", lambda: nn.Conv2d(64, 64, 3, padding=1), (16, 64, 14, 14), (8,)),
    ("Conv2d 256 x 256 x 3 x 3 on 14 x 14, batch 16", lambda: nn.Conv2d(256, 256, 3, padding=1), (16, 256, 14, 14),
     (8, 64)),
)  # fmt: skip


def measure(name: str, make: Callable[[], nn.Module], shape: Sequence[int], block: int, rounds: int) -> command.Line:
    """One line: milliseconds of a call, by layer and phase."""
    torch.manual_seed(0)
    dense, given = make(), torch.randn(*shape)
    layers = {"dense": dense}
    for kernel in ("fft", "direct"):
        layers[kernel] = copy.deepcopy(dense)
        bale.compress_(layers[kernel], bale.BlockCirculantConfig(block, kernel))
    with torch.no_grad():
        outputs = {kind: _first(layers[kind](given)) for kind in ("fft", "direct")}
    off = (outputs["fft"] - outputs["direct"]).abs().max() / outputs["direct"].abs().max()
    assert off < _LARGEST_DIFFERENCE, f"{name}, k = {block}: the kernels differ by {off}"
    auto = copy.deepcopy(dense)
    bale.compress_(auto, bale.BlockCirculantConfig(block))
    code = next(iter(auto.codes.values()))  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    line: command.Line = {"layer": name, "block": block, "auto": "fft" if code.by_fourier() else "direct"}
    for phase, call in (("inference", _inference), ("training", _training)):
        taken = _in_turns({kind: call(layer, given) for kind, layer in layers.items()}, rounds)
        line |= {f"{phase}_{kind}_ms": round(value, 3) for kind, value in taken.items()}
        line |= {f"{phase}_{kind}_speedup": round(taken["dense"] / taken[kind], 2) for kind in ("fft", "direct")}
    return line | {"threads": torch.get_num_threads(), "rounds": rounds, "processor": processor()}


def _first(result: Any) -> Tensor:
    return result[0] if isinstance(result, tuple) else result


def _inference(layer: nn.Module, given: Tensor) -> Callable[[], None]:
    def call() -> None:
        with torch.no_grad():
            layer(given)

    return call


def _training(layer: nn.Module, given: Tensor) -> Callable[[], None]:
    leaf = given.clone().requires_grad_()

    def call() -> None:
        layer.zero_grad()
        leaf.grad = None
        _first(layer(leaf)).sum().backward()

    return call


def _in_turns(calls: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Medians in milliseconds."""
    taken: dict[str, list[float]] = {kind: [] for kind in calls}
    for turn in range(rounds + 1):
        for kind, call in calls.items():
            begin = time.perf_counter()
            call()
            if turn:  # the first is warm-up
                taken[kind].append(1e3 * (time.perf_counter() - begin))
    return {kind: statistics.median(times) for kind, times in taken.items()}


def table_of(lines: Sequence[command.Line]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    headings = ("layer", "k", "auto", "dense ms", "fft", "direct", "training dense ms", "fft", "direct")
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if place in (0, 2) else "right", no_wrap=True)
    for line in lines:
        cells = []
        for phase in ("inference", "training"):
            cells.append(f"{line[f'{phase}_dense_ms']:.2f}")
            cells += [f"{line[f'{phase}_{kind}_ms']:.2f} ({line[f'{phase}_{kind}_speedup']:.1f}x)"
                      for kind in ("fft", "direct")]  # fmt: skip
        table.add_row(line["layer"], str(line["block"]), line["auto"], *cells)
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    options = command.parser("circulant", __doc__)
    options.add_argument("--threads", type=command.at_least(1), default=1, metavar="N")
    options.add_argument("--rounds", type=command.at_least(1), default=31, metavar="N")
    command.add_json(options)
    chosen = options.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    lines = [
        measure(name, make, shape, block, chosen.rounds) for name, make, shape, blocks in CASES for block in blocks
    ]
    command.tell(lines, chosen.json, table_of, width=150)
    return 0


if __name__ == "__main__":
    sys.exit(main())
