"""Which actions build a tree from left to right? SHIFT puts the next word on a stack, REDUCE joins the topmost two.

Dyer, Ballesteros, Ling, Matthews, Smith, "Transition-Based Dependency Parsing with Stack Long Short-Term Memory",
ACL 2015, without the labels of arcs.
"""

from collections.abc import Iterable

import numpy as np

from bale.data.generators import lengths
from bale.data.tree import Tree, children_of, fold
from bale.errors import DataError

SHIFT, REDUCE = 0, 1

ParseSample = tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[int, ...]]
"""One example: the numbers of a sentence's words and the actions of its tree, and the actions to be said."""


def gold_actions(tree: Tree) -> tuple[int, ...]:
    """Return the actions that build a binary tree of words: one for each node, in post-order.

    Raises `DataError` for a node with any other number of children than 0 or 2.

    >>> gold_actions(Tree(0, (Tree(5), Tree(0, (Tree(6), Tree(7))))))
    (0, 0, 0, 1, 1)
    """
    actions: list[int] = []

    def visit(node: Tree, below: list[None]) -> None:
        if len(below) not in (0, 2):
            raise DataError(f"REDUCE joins two trees, and a node has {len(below)} children: binarise the tree first")
        actions.append(REDUCE if below else SHIFT)

    fold(tree, children_of, visit)
    return tuple(actions)


def parse_samples(trees: Iterable[Tree]) -> list[ParseSample]:
    """Turn binary trees of words into ((words, actions), actions), as `bale.models.StackLSTM` takes them.

    Raises what `gold_actions` does.
    """
    samples: list[ParseSample] = []
    for tree in trees:
        actions = gold_actions(tree)
        kinds, _ = tree.flat()  # in post-order, as the actions are
        words = tuple(kind for kind, action in zip(kinds, actions, strict=True) if action == SHIFT)
        samples.append(((words, actions), actions))
    return samples


def random_parses(samples: int, seed: int, *, words: int = 2000, length: int = 20) -> list[Tree]:
    """Make binary trees over sentences of `length` words on average, from half as many to half as many again.

    A word is followed by as many REDUCEs as its number modulo 3, or as there are trees to join; the end of the
    sentence by all that are left. So a parser can learn its actions. Inner nodes have kind 0.
    """
    rng = np.random.default_rng(seed)
    return [_parse(rng.integers(words, size=size).tolist()) for size in lengths(rng, samples, length)]


def _parse(sentence: list[int]) -> Tree:
    stack: list[Tree] = []
    for place, word in enumerate(sentence):
        stack.append(Tree(word))
        wanted = len(stack) if place == len(sentence) - 1 else word % 3
        for _ in range(min(wanted, len(stack) - 1)):
            stack[-2:] = [Tree(0, (stack[-2], stack[-1]))]
    return stack[0]
