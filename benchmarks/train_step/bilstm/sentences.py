"""Which sentences? Random words, 20 of them on average. numpy alone, since the peers read them too."""

from __future__ import annotations

import numpy as np

VOCABULARY, TAGS, LENGTH, LAYERS = 2000, 9, 20, 2

Sentence = tuple[int, ...]
"""The numbers of its words."""


def random_sentences(rng: np.random.Generator, count: int) -> list[Sentence]:
    lengths = rng.integers(LENGTH // 2, LENGTH * 3 // 2 + 1, size=count)
    return [tuple(rng.integers(VOCABULARY, size=length).tolist()) for length in lengths]


def as_arrays(sentences: list[Sentence]) -> dict[str, np.ndarray]:
    return {"words": np.concatenate(sentences), "lengths": np.array([len(words) for words in sentences])}


def cut(row: np.ndarray, lengths: np.ndarray) -> list[Sentence]:
    """A row of numbers, words or tags of all sentences, cut into sentences."""
    return [tuple(part.tolist()) for part in np.split(row, np.cumsum(lengths)[:-1])]
