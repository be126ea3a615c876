"""The contestants of this process: the loop over samples, bale, and what is batched by hand."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import bale
from benchmarks.race.contestant import TOLERANCE, Step, StopWatch
from benchmarks.race.workload import Way, Workload

ROUNDED = 0.05  # the tolerance where products are rounded
VERSIONS = {"python": platform.python_version(), "torch": torch.__version__}

Logits = Callable[[Workload, StopWatch], Tensor]
"""The logits of a mini-batch; a lap "build" of the watch ends what comes before numbers."""


class LocalContestant:
    """A contestant that computes with the workload's own model.

    training   a step goes on to gradients; else it ends with the loss, and autograd is off
    """

    versions = VERSIONS
    tolerance = TOLERANCE

    def __init__(
        self, impl: str, workload: Workload, logits: Logits, variant: str | None = None, *, training: bool = True
    ):
        self.impl, self.variant, self.training = impl, variant, training
        self.workload, self.logits = workload, logits

    def turn_to(self, workload: Workload) -> None:
        self.workload = workload

    def step(self) -> Step:
        self.workload.model.zero_grad()
        watch = StopWatch()
        with torch.set_grad_enabled(self.training):
            loss = self.workload.loss(self.logits(self.workload, watch))
            watch.lap("forward")
        if self.training:
            loss.backward()
            watch.lap("backward")
        return watch.step(loss.item())

    def gradient(self) -> np.ndarray | None:
        if not self.training:
            return None
        return torch.cat([_gradient(weight) for weight in self.workload.model.parameters()]).numpy()

    def close(self) -> None:
        pass


def _gradient(weight: nn.Parameter) -> Tensor:
    return (torch.zeros_like(weight) if weight.grad is None else weight.grad).flatten()


def per_sample(workload: Workload, *, training: bool = True) -> LocalContestant:
    """The definition of right: one sample after another, in plain PyTorch."""

    def logits(workload: Workload, watch: StopWatch) -> Tensor:
        return workload.join([workload.model(sample) for sample in workload.samples])

    return LocalContestant("per-sample", workload, logits, training=training)


def by_hand(workload: Workload, *, training: bool = True) -> list[LocalContestant]:
    """The mini-batch as a skilled person batches it, in each way that could be the fastest."""
    return [_by_hand("by-hand", workload, name, way, training) for name, way in workload.by_hand.items()]


def by_hand_merged(workload: Workload, *, training: bool = True) -> list[LocalContestant]:
    """The same, with equal computations merged where that is easily said; nobody where it is not."""
    return [_by_hand("by-hand-merged", workload, name, way, training) for name, way in workload.by_hand_merged.items()]


def _by_hand(impl: str, workload: Workload, name: str, way: Way, training: bool) -> LocalContestant:
    def logits(workload: Workload, watch: StopWatch) -> Tensor:
        plan = way.plan(workload.samples)
        watch.lap("build")
        return way.logits(plan)

    return LocalContestant(impl, workload, logits, variant=name, training=training)


class BaleContestant(LocalContestant):
    """bale.batch(model). `known`: traces of the samples are kept from step to step."""

    versions = VERSIONS | {"bale": bale.__version__}

    def __init__(self, impl: str, workload: Workload, *, training: bool = True, known: bool = False, **options: Any):
        if options.get("products") == "bfloat16":
            self.tolerance = ROUNDED
        self.batched = bale.batch(workload.model, **options)
        self.known = known
        super().__init__(impl, workload, self._logits, training=training)

    def turn_to(self, workload: Workload) -> None:
        super().turn_to(workload)
        if self.known:  # as where an earlier epoch has seen them
            with torch.set_grad_enabled(self.training):
                self._trace(workload)

    def _trace(self, workload: Workload) -> bale.Trace:
        return self.batched.trace(workload.samples, key=id)  # the workload holds them, so ids are theirs alone

    def _logits(self, workload: Workload, watch: StopWatch) -> Tensor:
        samples = self._trace(workload) if self.known else workload.samples
        watch.lap("build")
        return workload.join(self.batched(samples))

    def step(self) -> Step:
        step = super().step()
        assert self.batched.last is not None
        seconds = self.batched.last.seconds
        build, schedule = seconds["trace"], seconds["schedule"] + seconds["memory"]
        forward = step.stages["forward"] - build - schedule
        build += step.stages["build"]
        return replace(step, stages={**step.stages, "build": build, "schedule": schedule, "forward": forward})


# Every step has the same mini-batch. What bale would remember of it is forgotten, but where a name says otherwise.
WAYS: dict[str, dict[str, Any]] = {
    "bale": {"reuse_plans": False},
    "bale-nomerge": {"reuse_plans": False, "merge": False},
    "bale-cached": {"reuse_plans": False, "known": True},
    "bale-again": {"known": True},
    "bale-bfloat16": {"reuse_plans": False, "products": "bfloat16"},
}


def bale_way(name: str) -> Callable[..., list[BaleContestant]]:
    """What makes the contestant of a name of WAYS."""

    def enter(workload: Workload, *, training: bool = True) -> list[BaleContestant]:
        return [BaleContestant(name, workload, training=training, **WAYS[name])]

    return enter
