"""How much faster than the per-sample loop is a step, here and now, on the same samples?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn

from bale.train.rows import Sample
from bale.train.step import classification_loss


@dataclass(frozen=True)
class Comparison:
    """Forward and backward of the same mini-batches, batched and one sample at a time, alternated in one process.

    Seconds are medians per mini-batch. `speedup` is the median of the mini-batches' ratios, `slowest` and `fastest`
    the ends of their range. `difference` is the largest relative difference between the two losses of a mini-batch.
    """

    mini_batches: int
    samples: int
    batched_seconds: float
    per_sample_seconds: float
    speedup: float
    slowest: float
    fastest: float
    difference: float


def compare(model: nn.Module, batched: nn.Module, mini_batches: Sequence[Sequence[Sample]]) -> Comparison | None:
    """Time forward and backward of `batched` against a loop over `model`; None where there is nothing to time.

    `batched` should be warm. Neither parameters nor the random state change; gradients are cleared.
    """
    if not mini_batches:
        return None

    def one_by_one(trees: list[object]) -> list[Tensor]:
        return [model(tree) for tree in trees]

    slow, fast, differences = [], [], []
    with torch.random.fork_rng(devices=[]):
        for mini_batch in mini_batches:
            batched_time, batched_loss = _forward_backward(model, batched, mini_batch)
            loop_time, loop_loss = _forward_backward(model, one_by_one, mini_batch)
            fast.append(batched_time)
            slow.append(loop_time)
            differences.append(abs(batched_loss - loop_loss) / max(abs(loop_loss), torch.finfo(torch.float32).tiny))
    ratios = [loop / planned for loop, planned in zip(slow, fast, strict=True)]
    return Comparison(
        mini_batches=len(mini_batches),
        samples=sum(map(len, mini_batches)),
        batched_seconds=median(fast),
        per_sample_seconds=median(slow),
        speedup=median(ratios),
        slowest=min(ratios),
        fastest=max(ratios),
        difference=max(differences),
    )


def _forward_backward(
    model: nn.Module, run: Callable[[list[object]], list[Tensor]], samples: Sequence[Sample]
) -> tuple[float, float]:
    model.zero_grad()
    start = perf_counter()
    loss, _, _ = classification_loss(run([tree for tree, _ in samples]), [label for _, label in samples])
    loss.backward()
    seconds = perf_counter() - start
    model.zero_grad()
    return seconds, loss.item()
