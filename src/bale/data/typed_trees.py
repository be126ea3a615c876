"""How do the inner nodes of a sentence's tree get one of two types? For networks with two kinds of inner cell."""

from collections.abc import Iterable

import numpy as np

from bale.data.generators import random_ptb
from bale.data.ptb import PtbTree
from bale.data.tree import Sample, Tree, children_of, fold


def with_node_types(samples: Iterable[Sample], seed: int) -> list[Sample]:
    """Give every inner node of `samples` a kind of 0 or 1, drawn from the seed; leaves, the words, and labels stay."""
    rng = np.random.default_rng(seed)

    def draw(node: Tree, children: list[Tree]) -> Tree:
        return Tree(int(rng.integers(2)), tuple(children)) if children else node

    return [(fold(tree, children_of, draw), label) for tree, label in samples]


def random_typed_trees(
    samples: int, seed: int, *, words: int = 2000, classes: int = 5, leaves: int = 20
) -> list[Sample]:
    """Make binary trees over sentences of `leaves` words on average, from half as many to half as many again.

    Word n is worth -1, 0 or 1; an inner node of type 0 is worth the sum of its children, one of type 1 left less
    right. The label is the middle one of 0 to `classes` - 1, moved by the worth of the root and cut off at the ends.
    """
    shapes = random_ptb(samples, seed, words=words, leaves=leaves)
    worth_of_word = np.random.default_rng((seed, 1)).integers(-1, 2, words).tolist()
    trees = [(fold(shape, _children, _numbered), 0) for shape in shapes]

    def worth(node: Tree, below: list[int]) -> int:
        if not below:
            return worth_of_word[node.kind]
        left, right = below
        return left - right if node.kind else left + right

    data: list[Sample] = []
    for tree, _ in with_node_types(trees, seed):
        middle = (classes - 1) // 2 + fold(tree, children_of, worth)
        data.append((tree, min(max(middle, 0), classes - 1)))
    return data


def _children(tree: PtbTree) -> tuple[PtbTree, ...]:
    return tree.children


def _numbered(node: PtbTree, children: list[Tree]) -> Tree:
    """The tree whose leaves carry the n of their words "w<n>"."""
    return Tree(0 if node.word is None else int(node.word[1:]), tuple(children))
