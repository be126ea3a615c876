"""The BiLSTM tagger in DyNet, with its own LSTM: one sentence after another; autobatching does the rest."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.race.dynet_model import DynetPeer, start
from benchmarks.train_step.bilstm.sentences import LAYERS, Sentence, cut

SIDES = ("forwards", "backwards")

# The compact one is the fastest of DyNet's LSTMs, and of those written by hand; but in mode 2 its losses differ from
# those without autobatching as soon as there are two layers, and there the plain one takes its place.
BUILDERS = {1: "CompactVanillaLSTMBuilder", 2: "VanillaLSTMBuilder"}


def make(
    samples: dict[str, np.ndarray], weights: dict[str, np.ndarray], threads: int, options: dict[str, Any]
) -> TaggerPeer:
    mode = options["autobatch"]
    return TaggerPeer(start(mode), samples, weights, BUILDERS[mode], options["training"])


class TaggerPeer(DynetPeer):
    """Has a builder, DyNet's LSTM, for each layer and side."""

    def __init__(
        self, dy: Any, samples: dict[str, np.ndarray], weights: dict[str, np.ndarray], builder: str, training: bool
    ):
        super().__init__(
            dy,
            {name: weight for name, weight in weights.items() if not name.startswith(SIDES)},
            lookups={"embed.weight"},
            gates={},
            samples=list(zip(*(cut(samples[row], samples["lengths"]) for row in ("words", "labels")), strict=True)),
            losses=self.losses_of,
            training=training,
        )
        self.make_builder = getattr(dy, builder)
        self.builders = {
            (side, layer): self._builder(f"{side}.{layer}", weights) for layer in range(LAYERS) for side in SIDES
        }

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

    def losses_of(self, sample: tuple[Sentence, Sentence]) -> list[Any]:
        words, tags = sample
        dy, embed, (head, bias) = self.dy, self.parameters["embed.weight"], self.layer("head")
        row = [embed[word] for word in words]
        for layer in range(LAYERS):
            from_left, from_right = (self.builders[side, layer].initial_state() for side in SIDES)
            pairs = zip(from_left.transduce(row), reversed(from_right.transduce(row[::-1])), strict=True)
            row = [dy.concatenate(list(pair)) for pair in pairs]
        return [
            dy.pickneglogsoftmax(dy.affine_transform([bias, head, state]), tag)
            for state, tag in zip(row, tags, strict=True)
        ]

    def gradients(self) -> dict[str, np.ndarray]:
        found = {name: self.parameters[name].grad_as_array() for name in self.parameters if not name.startswith(SIDES)}
        for side, layer in self.builders:
            cell = f"{side}.{layer}"
            inputs, states, bias = (to_torch(piece.grad_as_array()) for piece in self.parameters[cell])
            found |= {f"{cell}.weight_ih": inputs, f"{cell}.weight_hh": states}
            found |= {f"{cell}.bias_ih": bias, f"{cell}.bias_hh": bias}
        return found


def to_dynet(weight: np.ndarray) -> np.ndarray:
    """torch has the gates in the order i, f, g, o; DyNet i, f, o, g."""
    i, f, g, o = np.split(weight, 4)
    return np.concatenate([i, f, o, g])


to_torch = to_dynet  # the last two change places, so the way back is the same
