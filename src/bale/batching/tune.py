"""tune: what are the numbers of this machine's rule? Each way of running is timed beside the other, in turns."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch

from bale.batching.cells import half
from bale.batching.cells.pointwise import Load, compiled, kernel_text
from bale.batching.cells.rule import Rule
from bale.batching.cells.shared import shared

NEVER = 1 << 40  # a size that nothing has
PAYS = 0.95  # of the other's time: what saves less is not worth a change
ROWS = 16  # of a product: the batches that such decisions are about have few
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Tried:
    """One comparison: a number of the rule, the size tried, and microseconds without and with what it decides."""

    name: str
    size: int
    without: float
    with_it: float


def tune(repeats: int = 15, progress: Progress = lambda name: None) -> tuple[Rule, list[Tried]]:
    """Measure a rule on this machine, with the threads that torch has now; also every comparison that was made.

    repeats   timed runs of each way; medians count
    progress  is called with the name of each number before it is measured
    """
    tried: list[Tried] = []

    def smallest(name: str, tries: Iterator[Tried], otherwise: int) -> int:
        """The size from which it pays, whatever is larger."""
        progress(name)
        mine = list(tries)
        tried.extend(mine)
        found = otherwise
        for each in sorted(mine, key=lambda one: -one.size):
            if each.with_it > PAYS * each.without:
                break
            found = each.size
        return found

    packed_from = smallest("packed_from", _packed_batches(repeats), NEVER)
    progress("packed_up_to")
    mine = list(_packed_sizes(repeats))
    tried += mine
    costs = [each.size for each in mine if PAYS * each.with_it > each.without]
    fits = [each.size for each in mine if each.size < min(costs, default=NEVER)]
    rule = Rule(
        packed_from=packed_from,
        packed_up_to=max(fits, default=0),
        shared_from=smallest("shared_from", _shared_sizes(repeats), NEVER),
        half_from=smallest("half_from", _half_sizes(repeats), NEVER),
        measured={
            "machine": platform.machine(), "processor": platform.processor(), "torch": torch.__version__,
            "threads": torch.get_num_threads(), "repeats": repeats,
        },
    )  # fmt: skip
    return rule, tried


def _beside(name: str, size: int, repeats: int, without: Callable[[], Any], with_it: Callable[[], Any]) -> Tried:
    times: tuple[list[float], list[float]] = ([], [])
    for run in (without, with_it):
        run()
    for _ in range(repeats):
        for run, found in zip((without, with_it), times, strict=True):
            start = perf_counter()
            run()
            found.append(1e6 * (perf_counter() - start))
    return Tried(name, size, *map(statistics.median, times))


def _weight(numbers: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A weight of twice as many outputs as inputs, rows for it, and where their product goes."""
    inner = int((numbers / 2) ** 0.5)
    return torch.randn(2 * inner, inner), torch.randn(ROWS, inner), torch.empty(ROWS, 2 * inner)


def _packed(name: str, size: int, numbers: int, batches: int, repeats: int) -> Tried:
    weight, rows, out = _weight(numbers)

    def plain() -> None:
        for _ in range(batches):
            torch.mm(rows, weight.t(), out=out)

    def packed() -> None:
        copied = weight.t().contiguous()
        for _ in range(batches):
            torch.mm(rows, copied, out=out)

    return _beside(name, size, repeats, plain, packed)


def _packed_batches(repeats: int) -> Iterator[Tried]:
    for batches in (2, 4, 8, 16, 32, 64):
        yield _packed("packed_from", batches, 1 << 16, batches, repeats)


def _packed_sizes(repeats: int) -> Iterator[Tried]:
    for bits in range(13, 22):
        yield _packed("packed_up_to", 1 << bits, 1 << bits, 32, repeats)


def _shared_sizes(repeats: int) -> Iterator[Tried]:
    if torch.get_num_threads() == 1:
        return
    kernel = _lstm_kernel()
    divided = shared(kernel, 1, 0)
    for bits in range(12, 21):
        rows, width = (1 << bits) // 128, 128
        arrays = [np.zeros((rows, columns * width), np.float32) for columns in (4, 1, 2)]

        def run(how: Callable[..., None], rows: int = rows, arrays: list[np.ndarray] = arrays) -> None:
            how(rows, 128, *arrays, 0)

        yield _beside("shared_from", 1 << bits, repeats, lambda run=run: run(kernel), lambda run=run: run(divided))


def _lstm_kernel() -> Callable[..., None]:
    """The elementwise part of an LSTM: gates and state in, new state and output out."""
    loads = [(name, Load(0, 0, column=k)) for k, name in enumerate("ifgo")] + [("c", Load(1, 0))]
    body = ["state = sigmoid(f) * c + sigmoid(i) * tanh(g)", "out = sigmoid(o) * tanh(state)"]
    return compiled(kernel_text(3, 1, loads, body, [(Load(2, 0), "state"), (Load(2, 0, column=1), "out")], {}))


def _half_sizes(repeats: int) -> Iterator[Tried]:
    for bits in range(11, 21):
        weight, rows, out = _weight(1 << bits)
        rounded, start = half.rounded(weight).t(), torch.randn(out.shape[1])

        def whole(rows: Any = rows, weight: Any = weight, out: Any = out, start: Any = start) -> None:
            torch.addmm(start, rows, weight.t(), out=out)

        def halved(rows: Any = rows, rounded: Any = rounded, out: Any = out, start: Any = start) -> None:
            half.addmm(start, rows, rounded, out)

        yield _beside("half_from", 1 << bits, repeats, whole, halved)
