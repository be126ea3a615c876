"""What does a tree model ask of a tree, and in which order does it visit the nodes?"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor


class TreeLike(Protocol):
    """A node with a number and children; `bale.data.Tree` is one, and any class with these two attributes is."""

    @property
    def kind(self) -> int: ...

    @property
    def children(self) -> "Sequence[TreeLike]": ...


Value = TypeVar("Value")


def post_order(tree: TreeLike) -> list[TreeLike]:
    """List the nodes, children before parents and left before right.

    A model that visits them in this order with a stack of results needs no recursion, of which Python allows only a
    few hundred levels through modules.
    """
    order: list[TreeLike] = []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        order.append(node)
        waiting.extend(node.children)
    order.reverse()
    return order


def pop_last(stack: list[Value], count: int) -> list[Value]:
    """Take the last `count` values off the stack, in the order in which they were put there."""
    first = len(stack) - count
    taken = stack[first:]
    del stack[first:]
    return taken


def from_words(
    tree: TreeLike,
    device: torch.device,
    leaf: Callable[[Tensor], Value],
    inner: Callable[[TreeLike, list[Value]], Value],
) -> list[Value]:
    """Compute a value for every node of a tree whose words stand at the leaves; return them in post-order.

    `leaf` takes the number of a word, a tensor [] on `device`; `inner` a node and the values of its children.
    """
    nodes = post_order(tree)
    words = torch.tensor([node.kind for node in nodes if not node.children], device=device)  # [leaves]
    next_word = iter(words.unbind())
    values: list[Value] = []
    waiting: list[Value] = []  # of the nodes whose parent is still to come
    for node in nodes:
        below = pop_last(waiting, len(node.children))
        values.append(inner(node, below) if below else leaf(next(next_word)))
        waiting.append(values[-1])
    return values


def pair(children: Sequence[Value], model: str) -> tuple[Value, Value]:
    """Return the values of a node's two children.

    Raises ValueError, naming the model, where there are not two.
    """
    if len(children) != 2:
        raise ValueError(f"a node has {len(children)} children and {model} takes two: binarise the tree")
    return children[0], children[1]
