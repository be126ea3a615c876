"""How is a network trained so that its weights can be decomposed? Steps as usual, and now and then the projection.

SmartDeal's re-training, as read in the authors' code: an epoch of steps, then each weight is made to be its Ce B; and a
running average of weights is kept.
"""

from __future__ import annotations

import copy
from typing import Self

import torch
from torch import Tensor, nn

from bale.compress.api import compress_
from bale.compress.compressor import check_state
from bale.compress.config import Filter, WeightConfig
from bale.compress.summary import Report
from bale.compress.weights import coded_weights
from bale.errors import CompressionError


class Projection:
    """The compressor that makes weights, between steps of a plain training, what a method would make of them.

    The average is that of the weights as they were made, each time counted alike; the model gets it in `squash`, and is
    compressed for good.

    every   steps of the optimizer from one projection to the next
    """

    def __init__(self, config: WeightConfig, *, every: int = 200) -> None:
        if every < 1:
            raise CompressionError(f"every: must be at least 1, got {every}")
        self.config, self.every = config, every
        self.steps = self.projections = 0
        self._model: nn.Module | None = None
        self._filter: Filter | None = None
        self._means: dict[str, Tensor] = {}  # by the weights' keys

    @torch.no_grad()
    def prepare(self, model: nn.Module, filter_fn: Filter | None = None) -> Self:
        """Find the weights; raises what `compress_` would."""
        trial = copy.deepcopy(model)
        changed = {weight.name for weight in compress_(trial, self.config, filter_fn).weights}
        self._model, self._filter = model, filter_fn
        keys = [weight.key for weight in coded_weights(trial) if weight.name in changed]
        self._means = {key: torch.zeros_like(model.get_parameter(key)) for key in keys}
        return self

    def penalty(self) -> Tensor:
        return torch.zeros(())

    @torch.no_grad()
    def step(self) -> None:
        """Count a step; project when it is time."""
        model = self._prepared()
        self.steps += 1
        if self.steps % self.every:
            return
        trial = copy.deepcopy(model)
        self.config.apply_(trial, self._filter)
        self.projections += 1
        for weight in coded_weights(trial):
            if weight.key in self._means:
                made, mean = weight.code(), self._means[weight.key]
                model.get_parameter(weight.key).copy_(made)
                mean += (made - mean) / self.projections

    @torch.no_grad()
    def squash(self) -> Report:
        """Take the average, and compress the model for good."""
        model = self._prepared()
        if self.projections:
            for key, mean in self._means.items():
                model.get_parameter(key).copy_(mean)
        self._means = {}
        return compress_(model, self.config, self._filter)

    def state_dict(self) -> dict[str, Tensor]:
        """Averages, and how many steps and projections there were."""
        state = {"steps": torch.tensor(self.steps), "projections": torch.tensor(self.projections)}
        return state | {f"mean.{key}": mean for key, mean in self._means.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue where another left off; raises CompressionError for the state of another model."""
        check_state(self.state_dict(), state)
        self.steps, self.projections = int(state["steps"]), int(state["projections"])
        self._means = {key: state[f"mean.{key}"].to(mean, copy=True) for key, mean in self._means.items()}

    def _prepared(self) -> nn.Module:
        if not self._means or self._model is None:
            raise CompressionError("prepare(model) comes first")
        return self._model
