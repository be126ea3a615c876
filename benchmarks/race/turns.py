"""Who is how fast? Contestants first show that they compute the same, then take turns."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from benchmarks.race.contestant import Contestant, Step
from benchmarks.race.workload import Workload

WARM_UP = 3  # rounds before the first one that counts


class Mismatch(Exception):
    """A contestant's loss or gradient is not that of the loop over samples."""


def compare(contestants: Sequence[Contestant], reference: Contestant) -> None:
    """Raise Mismatch where a step has not the loss and gradient of the reference's, relative to the largest number.

    A reference that does not train has no gradient, and then the loss alone is compared.
    """
    wanted, right = reference.step().loss, reference.gradient()
    assert wanted is not None
    for contestant in contestants:
        loss, gradient = contestant.step().loss, contestant.gradient()
        if loss is None:  # the floor computes nothing that could be compared
            continue
        _compare_loss(contestant, loss, wanted)
        if right is not None:
            assert gradient is not None
            _compare_gradient(contestant, gradient, right)


def name_of(contestant: Contestant) -> str:
    return contestant.impl if contestant.variant is None else f"{contestant.impl} ({contestant.variant})"


def _compare_loss(contestant: Contestant, loss: float, wanted: float) -> None:
    if not abs(loss - wanted) <= contestant.tolerance * abs(wanted):
        raise Mismatch(f"{name_of(contestant)}: the loss is {loss}, that of the loop over samples {wanted}")


def _compare_gradient(contestant: Contestant, gradient: np.ndarray, right: np.ndarray) -> None:
    impl = name_of(contestant)
    if gradient.shape != right.shape:
        raise Mismatch(f"{impl}: a gradient of {gradient.size} numbers, the loop's has {right.size}")
    error, largest = float(np.abs(gradient - right).max()), float(np.abs(right).max())
    if not error <= contestant.tolerance * largest:
        raise Mismatch(f"{impl}: the gradient is off by {error:.3g}, the largest of the loop is {largest:.3g}")


def race(
    contestants: Sequence[Contestant],
    pairs: int,
    seconds: float,
    progress: Callable[[int], None] = lambda done: None,
    *,
    least: int = 1,
    mini_batches: Iterator[Workload] | None = None,
) -> list[list[Step]]:
    """Let everybody take a step in each of `pairs` rounds, in another order each; return the steps of each contestant.

    After `seconds` no further round begins, unless there were fewer than `least`. With `mini_batches` every round, and
    every one before them that does not count, is run over the next of these.
    """
    steps: list[list[Step]] = [[] for _ in contestants]
    for _ in range(WARM_UP):
        _turn(contestants, mini_batches)
        for contestant in contestants:
            contestant.step()
    gc.collect()
    gc.freeze()  # what was made before the race is not searched again during somebody's step
    order, end = list(zip(contestants, steps, strict=True)), time.perf_counter() + seconds
    shuffle = random.Random(0).shuffle
    for done in range(1, pairs + 1):
        _turn(contestants, mini_batches)
        shuffle(order)
        for contestant, taken in order:
            taken.append(contestant.step())
        progress(done)
        if done >= least and time.perf_counter() > end:
            break
    gc.unfreeze()
    return steps


def _turn(contestants: Sequence[Contestant], mini_batches: Iterator[Workload] | None) -> None:
    if mini_batches is not None:
        workload = next(mini_batches)
        for contestant in contestants:
            contestant.turn_to(workload)
