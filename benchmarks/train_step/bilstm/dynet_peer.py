"""The BiLSTM tagger in DyNet, with its own LSTM: one sentence after another; autobatching does the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.race.dynet_lstm import LSTMPeer
from benchmarks.race.dynet_model import start
from benchmarks.train_step.bilstm.sentences import LAYERS, Sentence, cut

SIDES = ("forwards", "backwards")
CELLS = [f"{side}.{layer}" for layer in range(LAYERS) for side in SIDES]


def make(
    samples: dict[str, np.ndarray], weights: dict[str, np.ndarray], threads: int, options: dict[str, Any]
) -> TaggerPeer:
    sentences, tags = (cut(samples[row], samples["lengths"]) for row in ("words", "labels"))
    return TaggerPeer(start(options["autobatch"]), list(zip(sentences, tags, strict=True)), weights, options)


class TaggerPeer(LSTMPeer):
    """`cells` and `lookups`: besides those that every tagger has."""

    def __init__(
        self,
        dy: Any,
        samples: Sequence[tuple[Any, Sentence]],
        weights: dict[str, np.ndarray],
        options: dict[str, Any],
        cells: Sequence[str] = (),
        lookups: Sequence[str] = (),
    ):
        super().__init__(
            dy,
            weights,
            cells=[*CELLS, *cells],
            lookups={"embed.weight", *lookups},
            samples=samples,
            losses=self.losses_of,
            options=options,
        )

    def vectors(self, words: Any) -> list[Any]:
        embed = self.parameters["embed.weight"]
        return [embed[word] for word in words]

    def losses_of(self, sample: tuple[Any, Sentence]) -> list[Any]:
        words, tags = sample
        dy, (head, bias) = self.dy, self.layer("head")
        row = self.vectors(words)
        for layer in range(LAYERS):
            from_left, from_right = (self.builders[f"{side}.{layer}"].initial_state() for side in SIDES)
            pairs = zip(from_left.transduce(row), reversed(from_right.transduce(row[::-1])), strict=True)
            row = [dy.concatenate(list(pair)) for pair in pairs]
        return [
            dy.pickneglogsoftmax(dy.affine_transform([bias, head, state]), tag)
            for state, tag in zip(row, tags, strict=True)
        ]
