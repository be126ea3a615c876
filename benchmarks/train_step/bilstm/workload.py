"""The workload bilstm."""

from __future__ import annotations

import numpy as np
import torch

from bale.models import BiLSTMTagger
from benchmarks.race.workload import Product, Workload
from benchmarks.train_step.bilstm import by_hand
from benchmarks.train_step.bilstm.sentences import LAYERS, TAGS, VOCABULARY, as_arrays, random_sentences


def make(batch: int, hidden: int, seed: int) -> Workload:
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    sentences = random_sentences(rng, batch)
    words = sum(map(len, sentences))
    labels = rng.integers(TAGS, size=words)
    model = BiLSTMTagger(VOCABULARY, TAGS, embed=hidden, hidden=hidden, layers=LAYERS)
    return Workload(
        name="bilstm",
        hidden=hidden,
        model=model,
        samples=sentences,
        labels=torch.from_numpy(labels),
        join=torch.cat,
        by_hand=by_hand.ways(model),
        products=products(words, batch, hidden),
        arrays={**as_arrays(sentences), "labels": labels},
    )


def products(words: int, batch: int, hidden: int) -> list[Product]:
    """Of every layer: the inputs' for both directions in one, and the states', of which a first word needs none."""
    layers: list[Product] = []
    for layer in range(LAYERS):
        width = hidden if layer == 0 else 2 * hidden
        layers += [(words, width, 8 * hidden), *[(words - batch, hidden, 4 * hidden)] * 2]
    return [*layers, (words, 2 * hidden, TAGS)]
