"""The BiLSTM tagger that spells rare words in DyNet, with its own LSTM."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.race.dynet_model import start
from benchmarks.train_step.bilstm.dynet_peer import TaggerPeer
from benchmarks.train_step.bilstm.sentences import cut


def make(
    samples: dict[str, np.ndarray], weights: dict[str, np.ndarray], threads: int, options: dict[str, Any]
) -> SpellingPeer:
    tags = cut(samples["labels"], samples["lengths"])
    sentences = list(zip(words_of(samples), tags, strict=True))
    return SpellingPeer(
        start(options["autobatch"]),
        sentences,
        weights,
        options,
        cells=("char_forward", "char_backward"),
        lookups=("char_embed.weight",),
    )


def words_of(samples: dict[str, np.ndarray]) -> list[list[Any]]:
    """Sentences; a word is its number or, where it is rare, the tuple of its characters."""
    characters = samples["characters"].tolist()
    sentences: list[list[Any]] = []
    first = 0
    for sentence in cut(samples["words"], samples["lengths"]):
        words: list[Any] = []
        for word in sentence:
            if word < 0:  # less the number of its characters
                words.append(tuple(characters[first : first - word]))
                first -= word
            else:
                words.append(word)
        sentences.append(words)
    return sentences


class SpellingPeer(TaggerPeer):
    def vectors(self, words: Any) -> list[Any]:
        known = self.parameters["embed.weight"]
        return [self.spell(word) if isinstance(word, tuple) else known[word] for word in words]

    def spell(self, characters: tuple[int, ...]) -> Any:
        embed = self.parameters["char_embed.weight"]
        row = [embed[character] for character in characters]
        from_left, from_right = (self.builders[cell].initial_state() for cell in ("char_forward", "char_backward"))
        return self.dy.concatenate([from_left.transduce(row)[-1], from_right.transduce(row[::-1])[-1]])
