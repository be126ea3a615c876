"""The workload tree-lstm."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from benchmarks.race.workload import Way, Workload
from benchmarks.train_step.tree_lstm import by_hand
from benchmarks.train_step.tree_lstm.model import TreeLSTM
from benchmarks.train_step.tree_lstm.trees import CLASSES, as_array, inner_nodes, random_trees


def make(batch: int, hidden: int, seed: int) -> Workload:
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    trees = random_trees(rng, batch)
    labels = rng.integers(CLASSES, size=batch)
    model = TreeLSTM(hidden)
    inner = sum(map(inner_nodes, trees))
    return Workload(
        name="tree-lstm",
        hidden=hidden,
        model=model,
        samples=trees,
        labels=torch.from_numpy(labels),
        join=torch.stack,
        by_hand={"levels": Way(by_hand.plan, partial(by_hand.logits, model))},
        products=[(inner, 2 * hidden, 5 * hidden), (inner + batch, hidden, 3 * hidden)],
        arrays={"nodes": as_array(trees), "labels": labels},
    )
