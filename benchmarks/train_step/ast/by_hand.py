"""The mini-batch by hand: level after level, counted from the roots; what reads leaves only, once for all of them.

`logits` merges nothing: every node has its products. But what no node needs is not computed: a leaf has no children's
states, and a node's kind meets the forget gate's weight once, not once per child.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bale.data import Tree
from bale.models import ChildSumTreeLSTM

State = tuple[Tensor, Tensor]
"""h and c [nodes, hidden]."""


@dataclass(frozen=True)
class Plan:
    """Inner nodes level after level from the roots down, and leaves in the order of their parents.

    kinds         [inner nodes], those of leaves [leaves]
    parents       of the inner nodes of each level but the first, the rows of their parents in the level above
    leaf_parents  [leaves]: the inner node above
    levels        how many inner nodes each level has; every root is one, since a function has children
    """

    kinds: Tensor
    leaf_kinds: Tensor
    parents: list[Tensor]
    leaf_parents: Tensor
    levels: list[int]


def plan(trees: list[Tree]) -> Plan:
    kinds: list[int] = []
    leaf_kinds: list[int] = []
    parents: list[Tensor] = []
    leaf_parents: list[int] = []
    levels: list[int] = []
    level = trees
    while level:
        first = len(kinds)
        kinds += [node.kind for node in level]
        levels.append(len(level))
        below: list[Tree] = []
        rows: list[int] = []
        for row, node in enumerate(level):
            for child in node.children:
                if child.children:
                    below.append(child)
                    rows.append(row)
                else:
                    leaf_kinds.append(child.kind)
                    leaf_parents.append(first + row)
        parents.append(_tensor(rows))
        level = below
    return Plan(_tensor(kinds), _tensor(leaf_kinds), parents[:-1], _tensor(leaf_parents), levels)


def _tensor(numbers: list[int]) -> Tensor:
    return torch.from_numpy(np.array(numbers, np.int64))


def logits(model: ChildSumTreeLSTM, plan: Plan) -> Tensor:
    gates, forget = model.node.gates, model.forget.gate
    x = model.embed(plan.kinds)  # [inner, width]
    width = x.shape[1]
    forget_x = F.linear(x, forget.weight[:, :width], forget.bias)  # [inner, hidden]
    leaves = _states(F.linear(model.embed(plan.leaf_kinds), gates.weight[:, :width], gates.bias), None)

    def node(x: Tensor, h_sum: Tensor, fc_sum: Tensor) -> State:
        return _states(gates(torch.cat([x, h_sum], -1)), fc_sum)

    return model.head(_climb(plan, x, forget_x, forget.weight[:, width:].t(), leaves, node))


def logits_by_kind(model: ChildSumTreeLSTM, plan: Plan) -> Tensor:
    """The same, but what depends on a kind alone is computed once for each kind and not for each node."""
    gates, forget, embed = model.node.gates, model.forget.gate, model.embed.weight
    width = embed.shape[1]
    gates_of = F.linear(embed, gates.weight[:, :width], gates.bias)  # [kinds, 3 hidden]
    forget_of = F.linear(embed, forget.weight[:, :width], forget.bias)  # [kinds, hidden]
    h, c = _states(gates_of, None)
    leaves = F.embedding(plan.leaf_kinds, h), F.embedding(plan.leaf_kinds, c)
    gates_x, forget_x = F.embedding(plan.kinds, gates_of), F.embedding(plan.kinds, forget_of)
    gates_h = gates.weight[:, width:].t()

    def node(gates_x: Tensor, h_sum: Tensor, fc_sum: Tensor) -> State:
        return _states(torch.addmm(gates_x, h_sum, gates_h), fc_sum)

    return model.head(_climb(plan, gates_x, forget_x, forget.weight[:, width:].t(), leaves, node))


def _climb(
    plan: Plan,
    x: Tensor,
    forget_x: Tensor,
    forget_h: Tensor,
    leaves: State,
    node: Callable[[Tensor, Tensor, Tensor], State],
) -> Tensor:
    """From the leaves' states up to h of the roots; `x` and `forget_x` are what inner nodes have of their kinds."""

    def kept(forget_x: Tensor, parents: Tensor, h: Tensor, c: Tensor) -> Tensor:
        """What each child's parent keeps of the child's memory [children, hidden]."""
        return torch.addmm(forget_x.index_select(0, parents), h, forget_h).sigmoid() * c

    h, c = leaves
    zero = h.new_zeros(len(x), h.shape[1])
    h_sum = zero.index_add(0, plan.leaf_parents, h)
    fc_sum = zero.index_add(0, plan.leaf_parents, kept(forget_x, plan.leaf_parents, h, c))
    levels = list(zip(*(t.split(plan.levels) for t in (x, forget_x, h_sum, fc_sum)), strict=True))
    x, _, h_sum, fc_sum = levels[-1]
    h, c = node(x, h_sum, fc_sum)
    for (x, forget_x, h_sum, fc_sum), parents in zip(reversed(levels[:-1]), reversed(plan.parents), strict=True):
        h_sum = h_sum.index_add(0, parents, h)
        fc_sum = fc_sum.index_add(0, parents, kept(forget_x, parents, h, c))
        h, c = node(x, h_sum, fc_sum)
    return h


def _states(gates: Tensor, kept: Tensor | None) -> State:
    i, o, u = gates.chunk(3, -1)
    c = i.sigmoid() * u.tanh()
    if kept is not None:
        c = c + kept
    return o.sigmoid() * c.tanh(), c
