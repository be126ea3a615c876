"""What is raced on? A per-sample model, a mini-batch with its labels, and what a contestant needs to know of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

Product = tuple[int, int, int]
"""A product [rows, inner] x [inner, columns] of the forward pass: values by a weight."""


@dataclass(frozen=True)
class Way:
    """A way to batch a mini-batch by hand.

    plan    samples -> anything, before a number is computed
    logits  what was planned -> logits [rows, classes], in the order of `Workload.join`
    """

    plan: Callable[[list[Any]], Any]
    logits: Callable[[Any], Tensor]


@dataclass(frozen=True)
class Workload:
    """A mini-batch. The loss is the cross-entropy, summed over all rows of logits.

    join      the outputs of all samples -> logits [rows, classes]
    by_hand   ways by name, without merging equal computations; the fastest is reported
    products  those of the forward pass, each with all its rows
    arrays    the samples, for workers that share no memory with this process
    by_hand_merged  ways that do merge some, where a skilled person would
    chosen    which of the samples in `arrays` the mini-batch has; None for all of them
    """

    name: str
    hidden: int
    model: nn.Module
    samples: list[Any]
    labels: Tensor
    join: Callable[[list[Tensor]], Tensor]
    by_hand: dict[str, Way]
    products: list[Product]
    arrays: dict[str, np.ndarray]
    by_hand_merged: dict[str, Way] = field(default_factory=dict)
    chosen: list[int] | None = None

    def loss(self, logits: Tensor) -> Tensor:
        return F.cross_entropy(logits, self.labels, reduction="sum")

    def weights(self) -> dict[str, np.ndarray]:
        return {name: weight.detach().numpy() for name, weight in self.model.named_parameters()}
