"""The workload ast."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from bale.data import Tree, python_functions
from bale.models import ChildSumTreeLSTM
from benchmarks.race.workload import Product, Way, Workload
from benchmarks.train_step.ast import by_hand

END = (-1, -1)  # kind and arity, after a root


def make(batch: int, hidden: int, seed: int) -> Workload:
    torch.manual_seed(seed)
    data = python_functions(batch)
    samples = data.train + data.valid + data.test
    trees = [tree for tree, _ in samples]
    labels = np.array([label for _, label in samples])
    nodes = np.concatenate([[*zip(*tree.flat(), strict=True), END] for tree in trees])
    model = ChildSumTreeLSTM(len(data.kinds), len(data.classes), hidden)
    return Workload(
        name="ast",
        hidden=hidden,
        model=model,
        samples=trees,
        labels=torch.from_numpy(labels),
        join=torch.stack,
        by_hand={"levels": Way(by_hand.plan, partial(by_hand.logits, model))},
        by_hand_merged={"levels": Way(by_hand.plan, partial(by_hand.logits_by_kind, model))},
        products=products(trees, hidden, len(data.classes)),
        arrays={"kinds": nodes[:, 0], "arities": nodes[:, 1], "labels": labels},
    )


def products(trees: list[Tree], hidden: int, classes: int) -> list[Product]:
    """Those without which no node's state can be had: nothing of children for a leaf, nothing of a root for a parent.

    A product over [x, h] is two here: a node's x meets the forget gate's weight once, not once per child.
    """
    arities = [arity for tree in trees for arity in tree.flat()[1]]
    nodes, inner = len(arities), sum(arity > 0 for arity in arities)
    return [
        (nodes, hidden, 3 * hidden),
        (inner, hidden, 3 * hidden),
        (inner, hidden, hidden),
        (nodes - len(trees), hidden, hidden),
        (len(trees), hidden, classes),
    ]
