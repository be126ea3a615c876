"""The TreeLSTM in torchfold: each tree adds its cells to a fold, which runs them depth by depth.

torchfold merges equal calls: a word that occurs twice is computed once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.race.contestant import StopWatch
from benchmarks.train_step.torch_peer import TorchPeer, load
from benchmarks.train_step.torchfold_model import Fold
from benchmarks.train_step.tree_lstm.model import TreeLSTM
from benchmarks.train_step.tree_lstm.trees import Tree, from_array


def make(
    samples: dict[str, np.ndarray], weights: dict[str, np.ndarray], threads: int, options: dict[str, Any]
) -> TorchPeer:
    torch.set_num_threads(threads)
    model = TreeLSTM(weights["leaf.embed.weight"].shape[1])
    load(model, weights)
    trees, labels = from_array(samples["nodes"]), torch.from_numpy(samples["labels"])

    def loss(watch: StopWatch) -> Tensor:
        fold = Fold()
        rows = [fold.add("head", add(fold, tree)[0]) for tree in trees]
        watch.lap("build")
        (logits,) = fold.apply(model, [rows])  # "leaf", "inner" and "head" are the model's attributes
        return F.cross_entropy(logits, labels, reduction="sum")

    return TorchPeer("torchfold", model, loss)


def add(fold: Fold, tree: Tree) -> Any:
    if isinstance(tree, int):
        return fold.add("leaf", tree).split(2)
    h_left, c_left = add(fold, tree[0])
    h_right, c_right = add(fold, tree[1])
    return fold.add("inner", h_left, c_left, h_right, c_right).split(2)
