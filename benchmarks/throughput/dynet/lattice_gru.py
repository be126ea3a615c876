"""The lattice GRU in DyNet: a product for each gate, which is faster there than one product that is cut."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from benchmarks.race.dynet_model import start
from benchmarks.throughput.dynet.lattices import KINDS, LatticePeer, State

HALVES = ("ih", "hh")
GATES = ("bias", "weight_ih", "weight_hh")
CANDIDATE = ("bias_ih", "weight_ih", "bias_hh", "weight_hh")


def make(
    samples: dict[str, np.ndarray], weights: dict[str, np.ndarray], threads: int, options: dict[str, Any]
) -> LatticeGRUPeer:
    return LatticeGRUPeer(start(options["autobatch"]), samples, weights, options["training"])


class LatticeGRUPeer(LatticePeer):
    """Has the weights of the gates r and z apart from those of the candidate, and one bias for each of these gates."""

    def __init__(self, dy: Any, samples: dict[str, np.ndarray], weights: dict[str, np.ndarray], training: bool):
        gates = {f"{kind}.gru.gates.{part}": 2 for kind in KINDS for part in GATES}
        super().__init__(dy, samples, taken_apart(weights), gates=gates, training=training)
        self.cells = {kind: partial(self.cell, *self.weights_of(f"{kind}.gru")) for kind in KINDS}

    def weights_of(self, gru: str) -> tuple[list[Any], list[Any]]:
        """Of the gates r and z: (bias, weight of x, weight of h) each; of the candidate its four."""
        gates = zip(*(self.parameters[f"{gru}.gates.{part}"] for part in GATES), strict=True)
        return list(gates), [self.parameters[f"{gru}.candidate.{part}"] for part in CANDIDATE]

    def cell(self, gates: list[Any], candidate: list[Any], x: Any, state: State) -> State:
        affine, logistic, tanh, cmult = self.dy.affine_transform, self.dy.logistic, self.dy.tanh, self.dy.cmult
        bias_x, of_x, bias_h, of_h = candidate
        if state:
            (h,) = state
            r, z = (logistic(affine([bias, gate_x, x, gate_h, h])) for bias, gate_x, gate_h in gates)
            n = tanh(affine([bias_x, of_x, x]) + cmult(r, affine([bias_h, of_h, h])))
            return (n + cmult(z, h - n),)
        r, z = (affine([bias, gate_x, x]) for bias, gate_x, _ in gates)
        n = tanh(affine([bias_x, of_x, x]) + cmult(logistic(r), bias_h))
        return (cmult(logistic(-z), n),)  # (1 - z) n

    def gradients(self) -> dict[str, np.ndarray]:
        found = super().gradients()
        for gru in (f"{kind}.gru" for kind in KINDS):
            bias = found.pop(f"{gru}.gates.bias")
            for half in HALVES:
                gates = {"weight": found.pop(f"{gru}.gates.weight_{half}"), "bias": bias}
                for part, gradient in gates.items():
                    rest = found.pop(f"{gru}.candidate.{part}_{half}")
                    found[f"{gru}.{part}_{half}"] = np.concatenate([gradient, rest])
        return found


def taken_apart(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    apart = dict(weights)
    for gru in (f"{kind}.gru" for kind in KINDS):
        hidden = weights[f"{gru}.weight_hh"].shape[1]
        biases = []
        for half in HALVES:
            weight, bias = apart.pop(f"{gru}.weight_{half}"), apart.pop(f"{gru}.bias_{half}")
            apart[f"{gru}.gates.weight_{half}"] = weight[: 2 * hidden]
            apart[f"{gru}.candidate.weight_{half}"] = weight[2 * hidden :]
            apart[f"{gru}.candidate.bias_{half}"] = bias[2 * hidden :]
            biases.append(bias[: 2 * hidden])
        apart[f"{gru}.gates.bias"] = biases[0] + biases[1]
    return apart
