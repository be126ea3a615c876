"""The networks on trees of sentences: TreeLSTM, TreeGRU, MV-RNN, and the TreeLSTM whose inner nodes have two types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from bale.data import Tree
from bale.models import MVRNN, NaryTreeLSTM, TreeGRU, TwoTypeTreeLSTM
from benchmarks.race.workload import Way
from benchmarks.throughput import pools, trees_by_hand
from benchmarks.throughput.pools import Pool
from benchmarks.throughput.task import Counts, Task

MATRIX_WORDS = 1000  # of the MV-RNN: every word has a matrix [hidden, hidden]
END = (-1, -1)  # kind and arity, after a root


def tree_lstm(hidden: int) -> Task:
    pool = pools.trees()
    model = NaryTreeLSTM(**pool.sizes, hidden=hidden, every_node=True)
    products = [(hidden, 3 * hidden), (2 * hidden, 5 * hidden), (hidden, 5)]
    return _task("tree-lstm", hidden, model, pool, products, count_nodes, trees_by_hand.tree_lstm)


def tree_gru(hidden: int) -> Task:
    pool = pools.trees()
    model = TreeGRU(**pool.sizes, hidden=hidden, every_node=True)
    products = [(hidden, 2 * hidden), (2 * hidden, 2 * hidden), (2 * hidden, hidden), (hidden, 5)]

    def count(tree: Tree) -> Counts:
        leaves, inner, nodes = count_nodes(tree)
        return leaves, inner, inner, nodes

    return _task("tree-gru", hidden, model, pool, products, count, trees_by_hand.tree_gru)


def mv_rnn(hidden: int) -> Task:
    """Nobody reads a root's matrix; products of values by values, B a and A b, are no products by weights."""
    pool = pools.trees(MATRIX_WORDS)
    model = MVRNN(**pool.sizes, hidden=hidden, every_node=True)
    products = [(2 * hidden, hidden), (2 * hidden, hidden), (hidden, 5)]

    def count(tree: Tree) -> Counts:
        _, inner, nodes = count_nodes(tree)
        return inner, max(inner - 1, 0) * hidden, nodes

    task = _task("mv-rnn", hidden, model, pool, products, count, trees_by_hand.mv_rnn)
    return replace(task, bytes_per_sample=int(4 * hidden**2 * task.rows[:, 2].mean()))


def two_type(hidden: int) -> Task:
    pool = pools.trees(two_types=True)
    model = TwoTypeTreeLSTM(**pool.sizes, hidden=hidden, every_node=True)
    products = [(hidden, 3 * hidden), *[(2 * hidden, 5 * hidden)] * 2, (hidden, 5)]

    def count(tree: Tree) -> Counts:
        kinds, arities = tree.flat()
        ones = sum(kind for kind, arity in zip(kinds, arities, strict=True) if arity)
        leaves, inner, nodes = count_nodes(tree)
        return leaves, inner - ones, ones, nodes

    return _task("two-type", hidden, model, pool, products, count, trees_by_hand.two_type)


def count_nodes(tree: Tree) -> tuple[int, int, int]:
    """Leaves, inner nodes, nodes: of a binary tree."""
    nodes = tree.size
    return (nodes + 1) // 2, nodes // 2, nodes


def _task(
    name: str,
    hidden: int,
    model: nn.Module,
    pool: Pool,
    products: list[tuple[int, int]],
    count: Callable[[Tree], Counts],
    way: Callable[[Any], Way],
) -> Task:
    return Task(name, hidden, model, pool, products, count, encode, by_hand={"levels": way(model)})


def encode(samples: list[tuple[Tree, tuple[int, ...]]]) -> dict[str, np.ndarray]:
    """Kinds and arities of the nodes, trees one after another with an end after each, and the labels of all nodes."""
    nodes = np.array([pair for tree, _ in samples for pair in (*zip(*tree.flat(), strict=True), END)])
    labels = np.concatenate([labels for _, labels in samples])
    return {"kinds": nodes[:, 0], "arities": nodes[:, 1], "labels": labels}
