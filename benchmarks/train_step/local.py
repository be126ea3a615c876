"""The contestants of this process: the loop over samples, bale, batched by hand, and the floor."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

import bale
from benchmarks.train_step.contestant import Step, StopWatch
from benchmarks.train_step.workload import Product, Way, Workload

VERSIONS = {"python": platform.python_version(), "torch": torch.__version__}


class LocalContestant:
    """A contestant whose loss is computed from the workload's own model."""

    versions = VERSIONS

    def __init__(self, impl: str, workload: Workload, loss: Callable[[StopWatch], Tensor], variant: str | None = None):
        self.impl, self.model, self.loss, self.variant = impl, workload.model, loss, variant

    def step(self) -> Step:
        self.model.zero_grad()
        watch = StopWatch()
        loss = self.loss(watch)
        watch.lap("forward")
        loss.backward()
        watch.lap("backward")
        return watch.step(loss.item())

    def gradient(self) -> np.ndarray:
        return torch.cat([_gradient(weight) for weight in self.model.parameters()]).numpy()

    def close(self) -> None:
        pass


def _gradient(weight: nn.Parameter) -> Tensor:
    return (torch.zeros_like(weight) if weight.grad is None else weight.grad).flatten()


def per_sample(workload: Workload) -> LocalContestant:
    """The definition of right: one sample after another, in plain PyTorch."""

    def loss(watch: StopWatch) -> Tensor:
        return workload.loss(workload.join([workload.model(sample) for sample in workload.samples]))

    return LocalContestant("per-sample", workload, loss)


def by_hand(workload: Workload) -> list[LocalContestant]:
    """The mini-batch as a skilled person batches it, in each way that could be the fastest."""
    return [_by_hand("by-hand", workload, name, way) for name, way in workload.by_hand.items()]


def by_hand_merged(workload: Workload) -> list[LocalContestant]:
    """The same, with equal computations merged where that is easily said; nobody where it is not."""
    return [_by_hand("by-hand-merged", workload, name, way) for name, way in workload.by_hand_merged.items()]


def _by_hand(impl: str, workload: Workload, name: str, way: Way) -> LocalContestant:
    def loss(watch: StopWatch) -> Tensor:
        plan = way.plan(workload.samples)
        watch.lap("build")
        return workload.loss(way.logits(plan))

    return LocalContestant(impl, workload, loss, variant=name)


class BaleContestant(LocalContestant):
    """bale.batch(model): what it does before it executes counts as building."""

    versions = VERSIONS | {"bale": bale.__version__}

    def __init__(self, impl: str, workload: Workload, **options: bool):
        self.batched = bale.batch(workload.model, **options)  # type: ignore[arg-type]
        super().__init__(impl, workload, lambda watch: workload.loss(workload.join(self.batched(workload.samples))))

    def step(self) -> Step:
        step = super().step()
        assert self.batched.last is not None
        seconds = self.batched.last.seconds
        build = sum(seconds[stage] for stage in ("trace", "schedule", "memory"))
        forward = step.stages["forward"] - build
        return replace(step, stages={**step.stages, "build": build, "forward": forward})


def with_merging(workload: Workload) -> list[LocalContestant]:
    return [BaleContestant("bale", workload)]


def without_merging(workload: Workload) -> list[LocalContestant]:
    return [BaleContestant("bale-nomerge", workload, merge=False)]


class Floor:
    """The step's matrix products alone, each once over all its rows, into memory that is there already.

    A product of the forward pass comes back twice in the backward pass: for its input's and for its weight's gradient.
    """

    impl = "floor"
    versions = VERSIONS
    variant = None

    def __init__(self, products: list[Product]):
        self.products = [operands for product in products for operands in _three(*product)]
        self.results = [torch.empty(a.shape[0], b.shape[1]) for a, b in self.products]

    def step(self) -> Step:
        watch = StopWatch()
        with torch.no_grad():
            for (a, b), result in zip(self.products, self.results, strict=True):
                torch.mm(a, b, out=result)
        watch.lap("products")
        return watch.step(None)

    def gradient(self) -> None:
        return None

    def close(self) -> None:
        pass


def _three(rows: int, inner: int, columns: int) -> list[tuple[Tensor, Tensor]]:
    x, weight, gradient = torch.randn(rows, inner), torch.randn(inner, columns), torch.randn(rows, columns)
    return [(x, weight), (gradient, weight.t()), (gradient.t(), x)]
