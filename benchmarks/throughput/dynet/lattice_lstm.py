"""The lattice LSTM in DyNet: a product for each gate, which is faster there than one product that is cut."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from benchmarks.race.dynet_model import start
from benchmarks.throughput.dynet.lattices import KINDS, LatticePeer, State

HALVES = ("ih", "hh")
PARTS = ("bias", "weight_ih", "weight_hh")


def make(
    samples: dict[str, np.ndarray], weights: dict[str, np.ndarray], threads: int, options: dict[str, Any]
) -> LatticeLSTMPeer:
    return LatticeLSTMPeer(start(options["autobatch"]), samples, weights, options["training"])


class LatticeLSTMPeer(LatticePeer):
    """Has one bias for a gate where torch's LSTMCell has two, of which only the sum counts."""

    def __init__(self, dy: Any, samples: dict[str, np.ndarray], weights: dict[str, np.ndarray], training: bool):
        joined = dict(weights)
        for kind in KINDS:
            of_x, of_h = (joined.pop(f"{kind}.lstm.bias_{half}") for half in HALVES)
            joined[f"{kind}.lstm.bias"] = of_x + of_h
        gates = {f"{kind}.lstm.{part}": 4 for kind in KINDS for part in PARTS}
        super().__init__(dy, samples, joined, gates=gates, training=training)
        self.cells = {kind: partial(self.cell, self.gates_of(f"{kind}.lstm")) for kind in KINDS}

    def gates_of(self, lstm: str) -> list[Any]:
        """(bias, weight of x, weight of h) of the gates i, f, g, o."""
        return list(zip(*(self.parameters[f"{lstm}.{part}"] for part in PARTS), strict=True))

    def cell(self, gates: list[Any], x: Any, state: State) -> State:
        affine, logistic, tanh, cmult = self.dy.affine_transform, self.dy.logistic, self.dy.tanh, self.dy.cmult
        if state:
            h, c = state
            i, f, g, o = (affine([bias, of_x, x, of_h, h]) for bias, of_x, of_h in gates)
            c = cmult(logistic(f), c) + cmult(logistic(i), tanh(g))
        else:
            i, _, g, o = gates
            i, g, o = (affine([bias, of_x, x]) for bias, of_x, _ in (i, g, o))
            c = cmult(logistic(i), tanh(g))
        return cmult(logistic(o), tanh(c)), c

    def gradients(self) -> dict[str, np.ndarray]:
        found = super().gradients()
        for kind in KINDS:
            bias = found.pop(f"{kind}.lstm.bias")
            found |= {f"{kind}.lstm.bias_{half}": bias for half in HALVES}
        return found
