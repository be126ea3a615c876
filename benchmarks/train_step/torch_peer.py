"""What every peer that runs on torch does: a model with the right weights, one step, gradients by name."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.race.contestant import Step, StopWatch


class TorchPeer:
    """`loss` computes the mini-batch's from the model; a lap "build" of its watch ends what comes before numbers."""

    def __init__(self, package: str, model: nn.Module, loss: Callable[[StopWatch], Tensor]):
        self.model, self.loss = model, loss
        self.versions = {"torch": torch.__version__, package: version(package)}

    def step(self) -> Step:
        self.model.zero_grad()
        watch = StopWatch()
        loss = self.loss(watch)
        watch.lap("forward")
        loss.backward()
        watch.lap("backward")
        return watch.step(loss.item())

    def gradients(self) -> dict[str, np.ndarray]:
        found = {}
        for name, weight in self.model.named_parameters():
            assert weight.grad is not None
            found[name] = weight.grad.numpy()
        return found


def load(model: nn.Module, weights: dict[str, np.ndarray]) -> None:
    model.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()})
