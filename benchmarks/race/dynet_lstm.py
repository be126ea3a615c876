"""How do the weights of torch's LSTMCells get into DyNet's own LSTMs, and their gradients back?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.race.dynet_model import DynetPeer

# The compact one is the fastest of DyNet's LSTMs, and of those written by hand; but in mode 2 its losses differ from
# those without autobatching as soon as there are two layers, and there the plain one takes its place.
BUILDERS = {1: "CompactVanillaLSTMBuilder", 2: "VanillaLSTMBuilder"}


class LSTMPeer(DynetPeer):
    """Has a builder, DyNet's LSTM of one layer, for every cell named in `cells`, under that name."""

    def __init__(
        self,
        dy: Any,
        weights: dict[str, np.ndarray],
        *,
        cells: Sequence[str],
        lookups: set[str],
        samples: Sequence[Any],
        losses: Callable[[Any], Sequence[Any]],
        options: dict[str, Any],
    ):
        plain = {name: weight for name, weight in weights.items() if not name.startswith(tuple(cells))}
        super().__init__(
            dy, plain, lookups=lookups, gates={}, samples=samples, losses=losses, training=options["training"]
        )
        self.names = list(plain)
        self.make_builder = getattr(dy, BUILDERS[options["autobatch"]])
        self.builders = {cell: self._builder(cell, weights) for cell in cells}

    def _builder(self, cell: str, weights: dict[str, np.ndarray]) -> Any:
        inputs, states = (to_dynet(weights[f"{cell}.weight_{half}"]) for half in ("ih", "hh"))
        bias = to_dynet(weights[f"{cell}.bias_ih"] + weights[f"{cell}.bias_hh"])
        hidden = states.shape[1]
        bias[hidden : 2 * hidden] -= 1  # DyNet adds 1 to the forget gate's
        builder = self.make_builder(1, inputs.shape[1], hidden, self.collection)
        (parameters,) = builder.get_parameters()
        for parameter, value in zip(parameters, (inputs, states, bias), strict=True):
            parameter.set_value(value)
        self.parameters[cell] = parameters
        return builder

    def gradients(self) -> dict[str, np.ndarray]:
        found = {name: self.parameters[name].grad_as_array() for name in self.names}
        for cell in self.builders:
            inputs, states, bias = (to_torch(piece.grad_as_array()) for piece in self.parameters[cell])
            found |= {f"{cell}.weight_ih": inputs, f"{cell}.weight_hh": states}
            found |= {f"{cell}.bias_ih": bias, f"{cell}.bias_hh": bias}
        return found


def to_dynet(weight: np.ndarray) -> np.ndarray:
    """torch has the gates in the order i, f, g, o; DyNet i, f, o, g."""
    i, f, g, o = np.split(weight, 4)
    return np.concatenate([i, f, o, g])


to_torch = to_dynet  # the last two change places, so the way back is the same
