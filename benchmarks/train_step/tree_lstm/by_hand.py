"""The mini-batch by hand: level after level, counted from the roots, so that a level reads the one below and leaves."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from benchmarks.train_step.tree_lstm.model import TreeLSTM
from benchmarks.train_step.tree_lstm.trees import Tree


@dataclass(frozen=True)
class Plan:
    """Levels from the roots down.

    words     of the leaves, level after level
    leaves    how many leaves each level has
    orders    of each level: the rows [inner nodes, then leaves] in the order in which the level above reads them, a
              left child beside its right one, so that two children are one reshape
    """

    words: Tensor
    leaves: list[int]
    orders: list[Tensor]


def plan(trees: list[Tree]) -> Plan:
    level, words, leaves, orders = trees, [], [], []
    while level:
        inner: list[Tree] = []
        order: list[int] = []  # an inner node's place among the inner nodes, ~ of a leaf's place among the leaves
        found = len(words)
        for node in level:
            if type(node) is tuple:
                order.append(len(inner))
                inner.append(node)
            else:
                order.append(~(len(words) - found))
                words.append(node)
        rows = np.array(order)
        orders.append(torch.from_numpy(np.where(rows < 0, len(inner) + ~rows, rows)))
        leaves.append(len(words) - found)
        level = list(chain.from_iterable(inner))
    return Plan(torch.from_numpy(np.array(words)), leaves, orders)


def logits(model: TreeLSTM, plan: Plan) -> Tensor:
    h_leaf, c_leaf = model.leaf(plan.words)
    h_leaves, c_leaves = h_leaf.split(plan.leaves), c_leaf.split(plan.leaves)
    h, c = h_leaves[-1], c_leaves[-1]  # the lowest level has leaves only, and they are in order
    for depth in range(len(plan.leaves) - 2, -1, -1):
        h, c = inner(model, h, c)
        if plan.leaves[depth]:
            order = plan.orders[depth]
            h = torch.cat([h, h_leaves[depth]]).index_select(0, order)
            c = torch.cat([c, c_leaves[depth]]).index_select(0, order)
    return model.head(h)


def inner(model: TreeLSTM, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """The states [2 x nodes, hidden] of children, a left one beside its right one -> those of nodes [nodes, hidden]."""
    width = h.shape[1]
    gates = model.inner.gates(h.view(-1, 2 * width))
    i, o, f, u = gates.split([width, width, 2 * width, width], -1)
    kept_left, kept_right = (f.sigmoid() * c.view(-1, 2 * width)).split(width, -1)
    c = i.sigmoid() * u.tanh() + (kept_left + kept_right)
    return o.sigmoid() * c.tanh(), c
