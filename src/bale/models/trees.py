"""What does a tree model ask of a tree, and in which order does it visit the nodes?"""

from collections.abc import Sequence
from typing import Protocol, TypeVar


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
