"""The BiLSTM tagger in torchfold: each sentence adds its cells to a fold, which runs them position by position.

torchfold merges equal calls: sentences that begin or end alike share cells there.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.race.contestant import StopWatch
from benchmarks.train_step.bilstm.sentences import LAYERS, Sentence, cut
from benchmarks.train_step.torch_peer import TorchPeer, load
from benchmarks.train_step.torchfold_model import Fold

SIDES = ("forwards", "backwards")


class Weights(nn.Module):
    """The layers of the model, under its names."""

    def __init__(self, vocabulary: int, tags: int, hidden: int):
        super().__init__()
        widths = [hidden] + [2 * hidden] * (LAYERS - 1)
        self.embed = nn.Embedding(vocabulary, hidden)
        self.forwards = nn.ModuleList(nn.LSTMCell(width, hidden) for width in widths)
        self.backwards = nn.ModuleList(nn.LSTMCell(width, hidden) for width in widths)
        self.head = nn.Linear(2 * hidden, tags)


def make(
    samples: dict[str, np.ndarray], weights: dict[str, np.ndarray], threads: int, options: dict[str, Any]
) -> TorchPeer:
    torch.set_num_threads(threads)
    vocabulary, hidden = weights["embed.weight"].shape
    model = Weights(vocabulary, len(weights["head.weight"]), hidden)
    load(model, weights)
    cells = cells_of(model, hidden)
    sentences, labels = cut(samples["words"], samples["lengths"]), torch.from_numpy(samples["labels"])

    def loss(watch: StopWatch) -> Tensor:
        fold = Fold()
        rows = [row for words in sentences for row in add(fold, words)]
        watch.lap("build")
        (logits,) = fold.apply(cells, [rows])
        return F.cross_entropy(logits, labels, reduction="sum")

    return TorchPeer("torchfold", model, loss)


def cells_of(model: Weights, hidden: int) -> SimpleNamespace:
    """What the fold calls, by name."""

    def step(cell: nn.Module) -> Any:
        return lambda x, h, c: cell(x, (h, c))

    return SimpleNamespace(
        embed=model.embed,
        head=model.head,
        zero=lambda: torch.zeros(1, hidden),
        join=lambda left, right: torch.cat([left, right], -1),
        **{f"{side}{layer}": step(getattr(model, side)[layer]) for side in SIDES for layer in range(LAYERS)},
    )


def add(fold: Fold, words: Sentence) -> list[Any]:
    row = [fold.add("embed", word) for word in words]
    for layer in range(LAYERS):
        from_left = read(fold, f"forwards{layer}", row)
        from_right = read(fold, f"backwards{layer}", row[::-1])[::-1]
        row = [fold.add("join", *pair) for pair in zip(from_left, from_right, strict=True)]
    return [fold.add("head", state) for state in row]


def read(fold: Fold, cell: str, row: list[Any]) -> list[Any]:
    h = c = fold.add("zero")
    states = []
    for x in row:
        h, c = fold.add(cell, x, h, c).split(2)
        states.append(h)
    return states
