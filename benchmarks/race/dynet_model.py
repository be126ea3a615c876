"""What every DyNet contestant does: weights in, a graph for each step, its loss forward and backward, gradients out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import dynet_config
import numpy as np

from benchmarks.race.contestant import Step, StopWatch

MEGABYTES = 1024
"""Preallocated, a quarter each for values, gradients, parameters and scratch: enough for hidden 512 at batch 64, and it
grows where it is not."""


def start(autobatch: int) -> Any:
    """Load DyNet, which is told its memory and its way of batching before that, and never again."""
    dynet_config.set(mem=MEGABYTES, autobatch=autobatch)
    return __import__("dynet")


class DynetPeer:
    """Weights named in `lookups` become tables of vectors, the others parameters.

    A weight of `gates` holds that many gates one under another and becomes a list of parameters, one a gate: in DyNet
    a product for each gate, all of them batched together, is faster than one product of which pieces are picked (by
    15 % at batch 64, hidden 128: the gradient of a piece is a copy), and it is how DyNet's own TreeLSTM is written.

    samples   all that there are
    losses    adds a sample to the graph -> its losses, which are summed
    training  whether a step goes on to gradients
    """

    def __init__(
        self,
        dy: Any,
        weights: dict[str, np.ndarray],
        *,
        lookups: set[str],
        gates: dict[str, int],
        samples: Sequence[Any],
        losses: Callable[[Any], Sequence[Any]],
        training: bool,
    ):
        self.dy, self.gates, self.losses, self.training = dy, gates, losses, training
        self.samples = self.chosen = samples
        self.versions = {"dyNET38": version("dyNET38"), "dynet": dy.__version__}
        collection = self.collection = dy.ParameterCollection()
        self.parameters: dict[str, Any] = {}
        for name, weight in weights.items():
            if name in lookups:
                self.parameters[name] = collection.lookup_parameters_from_numpy(weight)
            elif name in gates:
                pieces = np.split(weight, gates[name])
                self.parameters[name] = [collection.parameters_from_numpy(piece) for piece in pieces]
            else:
                self.parameters[name] = collection.parameters_from_numpy(weight)

    def layer(self, name: str) -> Any:
        """Weight and bias of a linear layer; of one with gates, a list of (weight, bias)."""
        weight, bias = self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"]
        return list(zip(weight, bias, strict=True)) if isinstance(weight, list) else (weight, bias)

    def choose(self, numbers: list[int]) -> None:
        self.chosen = [self.samples[number] for number in numbers]

    def step(self) -> Step:
        for parameter in self.parameters.values():
            for piece in parameter if isinstance(parameter, list) else [parameter]:
                piece.scale_gradient(0.0)
        watch = StopWatch()
        self.dy.renew_cg()
        loss = self.dy.esum([loss for sample in self.chosen for loss in self.losses(sample)])
        watch.lap("build")
        loss.forward()
        watch.lap("forward")
        if self.training:
            loss.backward()
            watch.lap("backward")
        return watch.step(loss.scalar_value())

    def gradients(self) -> dict[str, np.ndarray]:
        return {
            name: np.concatenate([piece.grad_as_array() for piece in parameter])
            if isinstance(parameter, list)
            else parameter.grad_as_array()
            for name, parameter in self.parameters.items()
        }
