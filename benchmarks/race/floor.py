"""How fast can it be? The matrix products alone, each once over all its rows, into memory that is there already."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.race.contestant import TOLERANCE, Step, StopWatch
from benchmarks.race.local import VERSIONS
from benchmarks.race.workload import Workload


class Floor:
    """The mini-batch's products by weights.

    A product of the forward pass comes back twice in the backward pass: for its input's and for its weight's gradient.
    """

    impl = "floor"
    versions, tolerance = VERSIONS, TOLERANCE
    variant: str | None = None

    def __init__(self, workload: Workload, *, training: bool = True):
        self.training = training
        self.memory: list[Memory] = []
        self.turn_to(workload)

    def turn_to(self, workload: Workload) -> None:
        if not self.memory:
            self.memory = [Memory(*product) for product in workload.products]
        self.products: list[tuple[Tensor, Tensor, Tensor]] = []
        for memory, (rows, _, _) in zip(self.memory, workload.products, strict=True):
            self.products += memory.products(rows)[: None if self.training else 1]

    def step(self) -> Step:
        watch = StopWatch()
        with torch.no_grad():
            for a, b, result in self.products:
                torch.mm(a, b, out=result)
        watch.lap("products")
        return watch.step(None)

    def gradient(self) -> None:
        return None

    def close(self) -> None:
        pass


class Memory:
    """Operands and results of a product and of its two gradients, for the most rows that there have been."""

    def __init__(self, rows: int, inner: int, columns: int):
        self.weight, self.weight_gradient = torch.randn(inner, columns), torch.zeros(inner, columns)
        self._make(rows)

    def _make(self, rows: int) -> None:
        inner, columns = self.weight.shape
        self.x, self.gradient = torch.randn(rows, inner), torch.randn(rows, columns)
        # not torch.empty: its pages are there only when they have been written to
        self.y, self.x_gradient = torch.ones(rows, columns), torch.ones(rows, inner)

    def products(self, rows: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The forward product, then its gradients: (a, b, where a b goes)."""
        if rows > len(self.x):
            self._make(rows)
        x, gradient = self.x[:rows], self.gradient[:rows]
        return [
            (x, self.weight, self.y[:rows]),
            (gradient, self.weight.t(), self.x_gradient[:rows]),
            (gradient.t(), x, self.weight_gradient.t()),
        ]


def floor(workload: Workload, *, training: bool = True) -> list[Floor]:
    return [Floor(workload, training=training)]
