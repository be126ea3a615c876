"""The networks on chains: the BiLSTM tagger, the one that spells rare words, and the encoder-decoder."""

from __future__ import annotations

from typing import Any

import numpy as np

from bale.data import SpelledWord
from bale.models import BiLSTMTagger, CharBiLSTMTagger, EncoderDecoder
from benchmarks.throughput import nmt_by_hand, pools
from benchmarks.throughput.task import Counts, Task
from benchmarks.train_step.bilstm import by_hand
from benchmarks.train_step.bilstm.sentences import LAYERS, as_arrays


def bilstm(hidden: int) -> Task:
    pool = pools.tagged()
    model = BiLSTMTagger(**pool.sizes, embed=hidden, hidden=hidden, layers=LAYERS)

    def count(words: tuple[int, ...]) -> Counts:
        return count_tagger(len(words))

    products = tagger_products(hidden, pool.sizes["tags"])
    return Task("bilstm", hidden, model, pool, products, count, encode_tagged, by_hand=by_hand.ways(model))


def char_bilstm(hidden: int) -> Task:
    """The characters' LSTMs have half the width each."""
    pool = pools.spelled()
    model = CharBiLSTMTagger(**pool.sizes, embed=hidden, hidden=hidden, layers=LAYERS)

    def count(words: tuple[SpelledWord, ...]) -> Counts:
        rare = [len(word) for word in words if isinstance(word, tuple)]
        characters, later = sum(rare), sum(rare) - len(rare)
        return characters, later, later, *count_tagger(len(words))

    products = [(hidden, 4 * hidden), *[(hidden // 2, 2 * hidden)] * 2]
    products += tagger_products(hidden, pool.sizes["tags"])
    return Task("char-bilstm", hidden, model, pool, products, count, encode_spelled)


def tagger_products(hidden: int, tags: int) -> list[tuple[int, int]]:
    """Of every layer: the inputs' for both directions in one, and the states', of which a first word needs none."""
    layers: list[tuple[int, int]] = []
    for layer in range(LAYERS):
        layers += [(hidden if layer == 0 else 2 * hidden, 8 * hidden), *[(hidden, 4 * hidden)] * 2]
    return [*layers, (2 * hidden, tags)]


def count_tagger(words: int) -> Counts:
    return *(words, words - 1, words - 1) * LAYERS, words


def nmt(hidden: int) -> Task:
    pool = pools.parallel()
    model = EncoderDecoder(**pool.sizes, embed=hidden, hidden=hidden)

    def count(sample: tuple[tuple[int, ...], tuple[int, ...]]) -> Counts:
        source, target = map(len, sample)
        return source, source - 1, target - 1, target - 1, target - 1

    products = [*[(hidden, 4 * hidden)] * 4, (hidden, pool.sizes["target_vocabulary"])]
    way = {"packed": nmt_by_hand.packed(model)}
    return Task("nmt", hidden, model, pool, products, count, encode_parallel, by_hand=way)


def encode_tagged(samples: list[Any]) -> dict[str, np.ndarray]:
    """Words, lengths and labels, as benchmarks/train_step/bilstm/sentences.py cuts them."""
    labels = np.concatenate([labels for _, labels in samples])
    return {**as_arrays([words for words, _ in samples]), "labels": labels}


def encode_spelled(samples: list[Any]) -> dict[str, np.ndarray]:
    """The same; in the place of a rare word less the number of its characters, which are in a row of their own."""
    sentences = [words for words, _ in samples]
    numbers = [tuple(-len(word) if isinstance(word, tuple) else word for word in words) for words in sentences]
    rare = [word for words in sentences for word in words if isinstance(word, tuple)]
    characters = np.array([character for word in rare for character in word])
    labels = np.concatenate([labels for _, labels in samples])
    return {**as_arrays(numbers), "characters": characters, "labels": labels}


def encode_parallel(samples: list[Any]) -> dict[str, np.ndarray]:
    """The words of sources and of targets, and their lengths."""
    arrays: dict[str, np.ndarray] = {}
    for side, sentences in zip(("source", "target"), zip(*(pair for pair, _ in samples), strict=True), strict=True):
        found = as_arrays(list(sentences))
        arrays |= {f"{side}.{name}": array for name, array in found.items()}
    return arrays
