"""The encoder-decoder in DyNet, with its own LSTM."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.race.dynet_lstm import LSTMPeer
from benchmarks.race.dynet_model import start
from benchmarks.train_step.bilstm.sentences import Sentence, cut


def make(
    samples: dict[str, np.ndarray], weights: dict[str, np.ndarray], threads: int, options: dict[str, Any]
) -> LSTMPeer:
    dy = start(options["autobatch"])

    def losses(sample: tuple[Sentence, Sentence]) -> list[Any]:
        source, target = sample
        read = encoder.initial_state().add_inputs([sources[word] for word in source])[-1]
        spoken = decoder.initial_state(read.s()).transduce([targets[word] for word in target[:-1]])
        return [
            dy.pickneglogsoftmax(dy.affine_transform([bias, head, state]), word)
            for state, word in zip(spoken, target[1:], strict=True)
        ]

    sides = (cut(samples[f"{side}.words"], samples[f"{side}.lengths"]) for side in ("source", "target"))
    peer = LSTMPeer(
        dy,
        weights,
        cells=("encoder.0", "decoder.0"),
        lookups={"source_embed.weight", "target_embed.weight"},
        samples=list(zip(*sides, strict=True)),
        losses=losses,
        options=options,
    )
    sources, targets = (peer.parameters[f"{side}_embed.weight"] for side in ("source", "target"))
    encoder, decoder, (head, bias) = peer.builders["encoder.0"], peer.builders["decoder.0"], peer.layer("head")
    return peer
