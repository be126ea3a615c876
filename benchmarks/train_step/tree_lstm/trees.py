"""Which trees? Random binary ones of 20 leaves on average. numpy alone, since the peers read them too."""

from __future__ import annotations

import numpy as np

VOCABULARY, CLASSES, LEAVES = 2000, 5, 20

Tree = int | tuple["Tree", "Tree"]
"""A leaf is the number of a word, an inner node a pair."""


def random_trees(rng: np.random.Generator, count: int) -> list[Tree]:
    sizes = rng.integers(LEAVES // 2, LEAVES * 3 // 2 + 1, size=count)
    return [_random_tree(rng, int(leaves)) for leaves in sizes]


def _random_tree(rng: np.random.Generator, leaves: int) -> Tree:
    if leaves == 1:
        return int(rng.integers(VOCABULARY))
    left = int(rng.integers(1, leaves))
    return _random_tree(rng, left), _random_tree(rng, leaves - left)


def inner_nodes(tree: Tree) -> int:
    return 0 if isinstance(tree, int) else 1 + inner_nodes(tree[0]) + inner_nodes(tree[1])


def as_array(trees: list[Tree]) -> np.ndarray:
    """The nodes of all trees, children before parents: the word of a leaf, -1 for an inner node, -2 after a root."""
    nodes: list[int] = []

    def visit(tree: Tree) -> None:
        if isinstance(tree, int):
            nodes.append(tree)
            return
        visit(tree[0])
        visit(tree[1])
        nodes.append(-1)

    for tree in trees:
        visit(tree)
        nodes.append(-2)
    return np.array(nodes)


def from_array(nodes: np.ndarray) -> list[Tree]:
    trees: list[Tree] = []
    stack: list[Tree] = []
    for node in nodes.tolist():
        if node == -2:
            trees.append(stack.pop())
        elif node == -1:
            right, left = stack.pop(), stack.pop()
            stack.append((left, right))
        else:
            stack.append(node)
    return trees
