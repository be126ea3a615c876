"""The networks on lattices, graphs of gates, grids of words and the states of a parser."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import nn

from bale.data import SHIFT, Dag, Lattice
from bale.models import DagLSTM, GridLSTM, LatticeGRU, LatticeLSTM, StackLSTM
from benchmarks.throughput import pools
from benchmarks.throughput.pools import Pool
from benchmarks.throughput.task import Counts, Task

Pair = tuple[tuple[int, ...], tuple[int, ...]]
"""Two sentences, or a sentence and the actions of its parse."""


def lattice_lstm(hidden: int) -> Task:
    pool = pools.lattices()
    model = LatticeLSTM(**pool.sizes, embed=hidden, hidden=hidden)
    return _lattices("lattice-lstm", hidden, model, pool, gates=4)


def lattice_gru(hidden: int) -> Task:
    pool = pools.lattices()
    model = LatticeGRU(**pool.sizes, embed=hidden, hidden=hidden)
    return _lattices("lattice-gru", hidden, model, pool, gates=3)


def _lattices(name: str, hidden: int, model: nn.Module, pool: Pool, gates: int) -> Task:
    products = [*[(hidden, gates * hidden)] * 4, (hidden, pool.sizes["tags"])]
    return Task(name, hidden, model, pool, products, count_arcs, encode_lattices)


def count_arcs(lattice: Lattice) -> Counts:
    """Of characters and of words: all arcs, whose numbers are read, and those that do not start in a state of zeros."""
    later = [0, 0]  # words, characters
    for position, ending in enumerate(lattice.arcs):
        for start, _ in ending:
            later[start == position - 1] += bool(lattice.arcs[start])
    return lattice.characters, later[True], lattice.words, later[False], len(lattice.ends)


def dag_lstm(hidden: int) -> Task:
    pool = pools.circuits()
    model = DagLSTM(**pool.sizes, hidden=hidden)
    kinds = pool.sizes["kinds"]

    def count(dag: Dag) -> Counts:
        gates = [kind for kind, operands in zip(dag.kinds, dag.operands, strict=True) if operands]
        return len(dag.inputs), *np.bincount(gates, minlength=kinds).tolist(), 1

    products = [(hidden, 3 * hidden), *[(hidden, 4 * hidden)] * kinds, (hidden, pool.sizes["classes"])]
    return Task("dag-lstm", hidden, model, pool, products, count, join=torch.stack)


def grid_lstm(hidden: int) -> Task:
    """A word meets its weights once, not once in every block of its row or column."""
    pool = pools.pairs()
    model = GridLSTM(**pool.sizes, embed=hidden, hidden=hidden)

    def count(sample: Pair) -> Counts:
        rows, columns = map(len, sample)
        return rows, columns, rows * (columns - 1), (rows - 1) * columns, 1

    products = [*[(hidden, 8 * hidden)] * 4, (2 * hidden, pool.sizes["classes"])]
    return Task("grid-lstm", hidden, model, pool, products, count, join=torch.stack)


def stack_lstm(hidden: int) -> Task:
    """Nobody reads what the last action puts on the stack, nor the vector that it makes."""
    pool = pools.parses()
    model = StackLSTM(**pool.sizes, embed=hidden, hidden=hidden)

    def count(sample: Pair) -> Counts:
        words, done = len(sample[0]), sample[1][:-1]
        stack = len(done), len(done) - _pushed_on_nothing(done)
        return *stack, words, words - 1, len(done), len(done) - 1, sum(done), len(done) + 1, len(done) + 1

    products = [*[(hidden, 4 * hidden)] * 6, (2 * hidden, hidden), (3 * hidden, hidden), (hidden, 2)]
    return Task("stack-lstm", hidden, model, pool, products, count)


def _pushed_on_nothing(actions: tuple[int, ...]) -> int:
    """How often these actions put something on an empty stack."""
    size = found = 0
    for action in actions:
        size -= 0 if action == SHIFT else 2
        found += size == 0
        size += 1
    return found


def encode_lattices(samples: list[Any]) -> dict[str, np.ndarray]:
    """The arcs [arcs, 2] of all positions, how many end at each, how many positions each lattice has, and labels."""
    lattices = [lattice for lattice, _ in samples]
    endings = list(chain.from_iterable(lattice.arcs for lattice in lattices))
    return {
        "arcs": np.array(list(chain.from_iterable(endings))),
        "endings": np.array([len(ending) for ending in endings]),
        "positions": np.array([len(lattice.arcs) for lattice in lattices]),
        "labels": np.concatenate([labels for _, labels in samples]),
    }
