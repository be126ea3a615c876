"""Which graphs are small enough for the exact optimum, and yet like those of models? Families of them, from a seed.

Every graph is a mini-batch of 20 to 60 nodes: samples side by side, as many as fit below a size that is drawn.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bale.batching.graph import Graph

Sample = tuple[list[int], list[list[int]]]  # the type of each node, and its operands
CHAR, WORD, HEAD = 0, 1, 2
LEAF, ROOT = 0, 3
WIDTH, DAG_TYPES = 12, 5
FEWEST_NODES, MOST_NODES = 20, 60


def small_graphs(family: str, count: int, seed: int) -> list[Graph]:
    """The first `count` graphs of a family, all of them other graphs with another seed."""
    rng = np.random.default_rng([seed, list(FAMILIES).index(family)])
    return [_mini_batch(FAMILIES[family], rng) for _ in range(count)]


def _mini_batch(sample: Callable[[np.random.Generator], Sample], rng: np.random.Generator) -> Graph:
    most = int(rng.integers(FEWEST_NODES, MOST_NODES + 1))
    types: list[int] = []
    operands: list[list[int]] = []
    while True:
        new_types, new_operands = sample(rng)
        fits = len(types) + len(new_types) <= (most if len(types) >= FEWEST_NODES else MOST_NODES)
        if not fits:
            return Graph.of(types, operands)
        operands += [[len(types) + operand for operand in reads] for reads in new_operands]
        types += new_types


def _lattice(rng: np.random.Generator) -> Sample:
    """A sentence of 3 to 7 characters with words over it; reductions folded, a head per position."""
    types: list[int] = []
    operands: list[list[int]] = []
    ending: list[list[int]] = [[]]
    for position in range(1, int(rng.integers(3, 8)) + 1):
        starts = [position - 1, *(start for start in range(position - 1) if rng.random() < 0.3)]
        ending.append(list(range(len(types), len(types) + len(starts))))
        types += [CHAR if start == position - 1 else WORD for start in starts]
        operands += [ending[start] for start in starts]
    types += [HEAD] * (len(ending) - 1)
    return types, operands + ending[1:]


def _two_type_tree(rng: np.random.Generator) -> Sample:
    """A binary tree of 4 to 9 leaves, with inner nodes of two types and a type at the root."""
    leaves = int(rng.integers(4, 10))
    types, operands = [LEAF] * leaves, [[] for _ in range(leaves)]
    row = list(range(leaves))
    while len(row) > 1:
        at = int(rng.integers(0, len(row) - 1))
        operands.append(row[at : at + 2])
        row[at : at + 2] = [len(types)]
        types.append(int(rng.integers(1, 3)))
    return [*types, ROOT], [*operands, row]


def _random_dag(rng: np.random.Generator) -> Sample:
    """10 to 20 nodes of five types, each reading one or two of the five before it."""
    size = int(rng.integers(10, 21))
    reads = [rng.integers(max(node - 5, 0), node, rng.integers(1, 3)).tolist() if node else [] for node in range(size)]
    return rng.integers(0, DAG_TYPES, size).tolist(), reads


def _grid(rng: np.random.Generator) -> Sample:
    """A grid of 2 to 5 by 2 to 5 cells, each reading those to its left and above; a type for a match, one for none."""
    rows, columns = rng.integers(2, 6, 2).tolist()
    reads = [[cell - columns] * (cell >= columns) + [cell - 1] * (cell % columns > 0) for cell in range(rows * columns)]
    return [*rng.integers(0, 2, rows * columns).tolist(), 2], [*reads, [rows * columns - 1]]


def _circuit(rng: np.random.Generator) -> Sample:
    """A circuit of 4 inputs and 8 to 20 gates that read the latest wires: inverters, and three kinds of two inputs."""
    inputs, gates = 4, int(rng.integers(8, 21))
    kinds = rng.integers(1, 5, gates).tolist()
    types, operands = [0] * inputs + kinds, [[] for _ in range(inputs)]
    for kind in kinds:
        wires = len(operands)
        operands.append(
            sorted(rng.choice(np.arange(max(wires - WIDTH, 0), wires), 1 if kind == 1 else 2, replace=False).tolist())
        )
    return types, operands


FAMILIES: dict[str, Callable[[np.random.Generator], Sample]] = {
    "lattice": _lattice,
    "two-type tree": _two_type_tree,
    "random DAG": _random_dag,
    "grid": _grid,
    "circuit": _circuit,
}
