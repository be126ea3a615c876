"""What is run in a cell of the table? A model, the samples that mini-batches are drawn from, and their products."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.race.workload import Way, Workload
from benchmarks.throughput.pools import Pool

Counts = Sequence[int]
"""Of one sample: the rows of each product."""


@dataclass(frozen=True)
class Task:
    """A workload at one width of its states.

    products  (inner, columns) of every product by a weight in the forward pass
    count     sample -> how many rows it adds to each of them
    encode    samples -> their arrays, for workers; {} where no peer has this workload
    join      the outputs of all samples -> logits [rows, classes]
    by_hand   ways to batch it by hand
    bytes_per_sample  of the values of a sample, where they can be too many
    """

    name: str
    hidden: int
    model: nn.Module
    pool: Pool
    products: list[tuple[int, int]]
    count: Callable[[Any], Counts]
    encode: Callable[[list[tuple[Any, Any]]], dict[str, np.ndarray]] = lambda samples: {}
    join: Callable[[list[Tensor]], Tensor] = torch.cat
    by_hand: dict[str, Way] = field(default_factory=dict)
    bytes_per_sample: int = 0

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """All samples of the pool."""
        return self.encode(self.pool.samples)

    @cached_property
    def rows(self) -> np.ndarray:
        """int [samples, products]"""
        return np.array([self.count(sample) for sample, _ in self.pool.samples])

    def mini_batch(self, chosen: list[int]) -> Workload:
        """The samples of the pool with these numbers."""
        samples = [self.pool.samples[number] for number in chosen]
        rows = self.rows[chosen].sum(0).tolist()
        return Workload(
            name=self.name,
            hidden=self.hidden,
            model=self.model,
            samples=[sample for sample, _ in samples],
            labels=torch.from_numpy(np.concatenate([np.atleast_1d(label) for _, label in samples])),
            join=self.join,
            by_hand=self.by_hand,
            products=[(count, *product) for count, product in zip(rows, self.products, strict=True)],
            arrays=self.arrays,
            chosen=chosen,
        )

    def mini_batches(self, size: int, seed: int) -> Iterator[Workload]:
        """Draw mini-batches without end: no sample twice until fewer than `size` are left, then all of them anew."""
        count = len(self.pool.samples)
        if size > count:
            raise ValueError(f"a mini-batch of {size} samples, and {self.name} has {count}")
        rng = np.random.default_rng(seed)
        left: list[int] = []
        while True:
            if len(left) < size:
                left = rng.permutation(count).tolist()
            chosen, left = left[:size], left[size:]
            yield self.mini_batch(chosen)
