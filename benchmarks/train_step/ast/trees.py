"""The trees of the workers, which do not have bale. numpy alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Node(NamedTuple):
    kind: int
    children: tuple[Node, ...]


def from_arrays(kinds: np.ndarray, arities: np.ndarray) -> list[Node]:
    """Trees from the kinds and arities of their nodes, tree after tree, children before parents."""
    trees: list[Node] = []
    stack: list[Node] = []
    for kind, arity in zip(kinds.tolist(), arities.tolist(), strict=True):
        if arity < 0:  # after a root
            trees.append(stack.pop())
            continue
        first = len(stack) - arity
        children = tuple(stack[first:])
        del stack[first:]
        stack.append(Node(kind, children))
    return trees
