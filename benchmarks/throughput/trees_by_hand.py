"""Binary trees by hand: level after level, counted from the roots, so that a level reads the one below and leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bale.data import Tree
from bale.models import MVRNN, NaryTreeLSTM, TreeGRU, TwoTypeTreeLSTM
from benchmarks.race.workload import Way

State = tuple[Tensor, ...]
"""The parts of a state, each [rows, ...]."""

Inner = Callable[[State, list[int]], State]
"""The states of children [2 rows], a left one beside its right one, and how many rows each kind has, kind after kind
-> the states of their parents [rows]."""


@dataclass(frozen=True)
class Plan:
    """Levels from the roots down. A level's rows are its inner nodes, kind after kind, then its leaves.

    words   of the leaves, level after level
    leaves  how many leaves each level has
    kinds   of each level: how many inner nodes of each kind
    orders  of each level: its rows in the order in which the level above reads them; None where they are in it
    places  of every node, in post-order and tree after tree: its row among the states of all leaves, level after
            level, and then of all inner nodes, the lowest level first
    """

    words: Tensor
    leaves: list[int]
    kinds: list[list[int]]
    orders: list[Tensor | None]
    places: Tensor


@dataclass
class Level:
    """What a walk finds, which is in the reverse of post-order: last trees first and right children first.

    order   each node's place among the inner nodes of the level, or ~ its place among the leaves
    words   of the leaves
    kinds   of the inner nodes
    found   how many nodes were found in all levels before each leaf, before each inner node
    """

    order: list[int] = field(default_factory=list)
    words: list[int] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    leaf_found: list[int] = field(default_factory=list)
    inner_found: list[int] = field(default_factory=list)


def plan(trees: Sequence[Tree], kinds: int = 1) -> Plan:
    """`kinds`: how many cells inner nodes have; with one, their own kinds do not count."""
    levels = walk(trees)
    leaves = [len(level.words) for level in levels]
    orders: list[Tensor | None] = []
    counts: list[list[int]] = []
    inner_found: list[np.ndarray] = []
    above: np.ndarray | None = None  # the inner nodes of the level above, in the order of its rows
    for level in levels:
        kind = np.array(level.kinds[::-1], np.int64) if kinds > 1 else np.zeros(len(level.kinds), np.int64)
        by_kind = np.argsort(kind, kind="stable")
        orders.append(_order(level, by_kind, above))
        counts.append(np.bincount(kind, minlength=kinds).tolist())
        inner_found.append(np.array(level.inner_found[::-1], np.int64)[by_kind])
        above = by_kind
    found = np.concatenate([*(np.array(level.leaf_found[::-1], np.int64) for level in levels), *inner_found[::-1]])
    places = np.empty_like(found)
    places[len(found) - 1 - found] = np.arange(len(found))
    words = [word for level in levels for word in reversed(level.words)]
    return Plan(torch.tensor(words), leaves, counts, orders, torch.from_numpy(places))


def walk(trees: Sequence[Tree]) -> list[Level]:
    levels: list[Level] = []
    waiting = [(0, tree) for tree in trees]
    found = 0
    while waiting:
        depth, node = waiting.pop()
        if depth == len(levels):
            levels.append(Level())
        level = levels[depth]
        children = node.children
        if children:
            level.order.append(len(level.kinds))
            level.kinds.append(node.kind)
            level.inner_found.append(found)
            below = depth + 1
            waiting += [(below, child) for child in children]
        else:
            level.order.append(~len(level.words))
            level.words.append(node.kind)
            level.leaf_found.append(found)
        found += 1
    return levels


def _order(level: Level, by_kind: np.ndarray, above: np.ndarray | None) -> Tensor | None:
    order = np.array(level.order[::-1])
    inner, leaves = len(level.kinds), len(level.words)
    row_of = np.empty(inner, np.int64)  # of an inner node, by its place in post-order
    row_of[by_kind] = np.arange(inner)
    rows = np.empty_like(order)
    is_inner = order >= 0
    rows[is_inner] = row_of[inner - 1 - order[is_inner]]
    rows[~is_inner] = inner + leaves - 1 - ~order[~is_inner]
    if above is not None:
        rows = rows.reshape(-1, 2)[above].reshape(-1)
    return None if (rows == np.arange(len(rows))).all() else torch.from_numpy(rows)


def logits(head: nn.Module, leaf: State, inner: Inner, plan: Plan) -> Tensor:
    """From the states of all leaves to what `head` says of the first part of every node's state, in post-order."""
    leaves = list(zip(*(part.split(plan.leaves) for part in leaf), strict=True))
    found = [leaf[0]]
    state = leaves[-1]  # the lowest level has leaves only
    for depth in range(len(plan.leaves) - 2, -1, -1):
        state = inner(_in_order(state, plan.orders[depth + 1]), plan.kinds[depth])
        found.append(state[0])
        if plan.leaves[depth] and depth:
            state = tuple(torch.cat(parts) for parts in zip(state, leaves[depth], strict=True))
    return head(torch.cat(found)).index_select(0, plan.places)


def _in_order(state: State, order: Tensor | None) -> State:
    return state if order is None else tuple(part.index_select(0, order) for part in state)


def tree_lstm(model: NaryTreeLSTM) -> Way:
    inner = partial(lstm, [model.inner.gates])
    return Way(plan, lambda plan: logits(model.head, model.leaf(plan.words), inner, plan))


def two_type(model: TwoTypeTreeLSTM) -> Way:
    inner = partial(lstm, [cell.gates for cell in model.inner])
    return Way(partial(plan, kinds=2), lambda plan: logits(model.head, model.leaf(plan.words), inner, plan))


def lstm(gates_of: list[Any], state: State, kinds: list[int]) -> State:
    """A layer of gates for each kind."""
    h, c = state
    width = h.shape[1]
    rows = h.view(-1, 2 * width).split(kinds)
    gates = [layer(part) for layer, part in zip(gates_of, rows, strict=True) if len(part)]
    i, o, u, f = (gates[0] if len(gates) == 1 else torch.cat(gates)).split([width, width, width, 2 * width], -1)
    kept_left, kept_right = (f.sigmoid() * c.view(-1, 2 * width)).split(width, -1)
    c = i.sigmoid() * u.tanh() + (kept_left + kept_right)
    return o.sigmoid() * c.tanh(), c


def tree_gru(model: TreeGRU) -> Way:
    def inner(state: State, kinds: list[int]) -> State:
        (h,) = state
        width = h.shape[1]
        pairs = h.view(-1, 2 * width)
        r, z = model.inner.gates(pairs).sigmoid().split(width, -1)
        u = model.inner.candidate((pairs.view(-1, 2, width) * r.unsqueeze(1)).view(-1, 2 * width)).tanh()
        left, right = pairs.split(width, -1)
        return (torch.lerp(u, (left + right) / 2, z),)

    return Way(plan, lambda plan: logits(model.head, (model.leaf(plan.words),), inner, plan))


def mv_rnn(model: MVRNN) -> Way:
    def inner(state: State, kinds: list[int]) -> State:
        p, matrix = state
        width = p.shape[1]
        (a, b), (a_matrix, b_matrix) = p.view(-1, 2, width, 1).unbind(1), matrix.view(-1, 2, width, width).unbind(1)
        changed = torch.cat([torch.bmm(b_matrix, a), torch.bmm(a_matrix, b)], 1).squeeze(-1)
        both = matrix.view(-1, 2 * width, width)  # [A; B]
        return model.phrase.vector(changed).tanh(), model.phrase.matrix.weight @ both

    return Way(plan, lambda plan: logits(model.head, model.word(plan.words), inner, plan))
