"""Who is how fast? Contestants first show that they compute the same, then take turns."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.train_step.contestant import Contestant, Step

TOLERANCE = 1e-4
WARM_UP = 3  # steps before the first one that counts


class Mismatch(Exception):
    """A contestant's loss or gradient is not that of the loop over samples."""


def compare(contestants: Sequence[Contestant], reference: Contestant) -> None:
    """Raise Mismatch where a step has not the loss and gradient of the reference's, relative to the largest number."""
    wanted, right = reference.step().loss, reference.gradient()
    assert wanted is not None and right is not None
    for contestant in contestants:
        loss, gradient = contestant.step().loss, contestant.gradient()
        if loss is not None and gradient is not None:  # the floor computes nothing that could be compared
            _compare(name_of(contestant), loss, gradient, wanted, right)


def name_of(contestant: Contestant) -> str:
    return contestant.impl if contestant.variant is None else f"{contestant.impl} ({contestant.variant})"


def _compare(impl: str, loss: float, gradient: np.ndarray, wanted: float, right: np.ndarray) -> None:
    if not abs(loss - wanted) <= TOLERANCE * abs(wanted):
        raise Mismatch(f"{impl}: the loss is {loss}, that of the loop over samples {wanted}")
    if gradient.shape != right.shape:
        raise Mismatch(f"{impl}: a gradient of {gradient.size} numbers, the loop's has {right.size}")
    error, largest = float(np.abs(gradient - right).max()), float(np.abs(right).max())
    if not error <= TOLERANCE * largest:
        raise Mismatch(f"{impl}: the gradient is off by {error:.3g}, the largest of the loop is {largest:.3g}")


def race(
    contestants: Sequence[Contestant], pairs: int, seconds: float, progress: Callable[[int], None] = lambda done: None
) -> list[list[Step]]:
    """Let everybody take a step in each of `pairs` rounds, in another order each; stop early after `seconds`.

    Return the steps of each contestant.
    """
    steps: list[list[Step]] = [[] for _ in contestants]
    for contestant in contestants:
        for _ in range(WARM_UP):
            contestant.step()
    gc.collect()
    gc.freeze()  # what was made before the race is not searched again during somebody's step
    order, end = list(zip(contestants, steps, strict=True)), time.perf_counter() + seconds
    shuffle = random.Random(0).shuffle
    for done in range(1, pairs + 1):
        shuffle(order)
        for contestant, taken in order:
            taken.append(contestant.step())
        progress(done)
        if time.perf_counter() > end:
            break
    gc.unfreeze()
    return steps
