"""What takes part in a race? Anything that can run a mini-batch and show its loss and its gradient."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:  # workers have no torch to import
    from benchmarks.race.workload import Workload


TOLERANCE = 1e-4  # of a loss, and of a gradient relative to its largest number


@dataclass(frozen=True)
class Step:
    """One mini-batch, from samples to gradients, or to the loss where nobody trains.

    loss          where there is one
    seconds       of wall time
    cpu_seconds   those in which a processor worked on it: on a machine that others use, the steadier number
    stages        seconds by stage, where they are known: "build" (trace, plan or graph), "schedule" (and memory),
                  "forward", "backward"
    """

    loss: float | None
    seconds: float
    cpu_seconds: float
    stages: dict[str, float] = field(default_factory=dict)


class Contestant(Protocol):
    """One way to take the step. Of contestants with one `impl` and another `variant` a report has the fastest."""

    impl: str
    variant: str | None
    versions: dict[str, str]
    tolerance: float

    def turn_to(self, workload: Workload) -> None:
        """From now on take steps over this mini-batch, of the same model."""
        ...

    def step(self) -> Step:
        """Forget all gradients, then take and time one step over the mini-batch."""
        ...

    def gradient(self) -> np.ndarray | None:
        """The gradient of the latest step, flat, in the order of the model's parameters; None for no gradient."""
        ...

    def close(self) -> None: ...


class StopWatch:
    """Splits the time since it was made into stages."""

    def __init__(self) -> None:
        self.cpu_start = time.process_time()
        self.start = self.last = time.perf_counter()
        self.cpu_seconds = 0.0
        self.stages: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.cpu_seconds = time.process_time() - self.cpu_start
        self.stages[stage] = now - self.last
        self.last = now

    def step(self, loss: float | None) -> Step:
        """The step that ended with the latest lap."""
        return Step(loss, self.last - self.start, self.cpu_seconds, self.stages)
