"""What is a PQ-tree made of? Nodes, whose children are a chain that reads from either end."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from itertools import pairwise
from typing import Any, Generic, Literal, TypeVar

L = TypeVar("L", bound=Hashable)

Kind = Literal["leaf", "P", "Q", "absorbed"]


class Node(Generic[L]):
    """A leaf; or a P node, whose children may be ordered anyhow; or a Q node, whose children may only be reversed.

    To read: `kind`, `leaf` (None for inner nodes), `children` and `parent`. The rest is for this folder's own use:

    count           how many children
    first, last     the two ends of the chain of children; which is which decides only in which direction it is read
    link_a, link_b  the neighbours in the parent's chain, None beyond an end. They have no direction, so that a chain is
                    reversed, or joined to another either way round, without touching what it holds
    link_up         the parent, or a Q node that it absorbed: a forest of union and find, read by `parent`
    """

    __slots__ = ("count", "first", "kind", "last", "leaf", "link_a", "link_b", "link_up")

    def __init__(self, kind: Kind, leaf: Any = None) -> None:
        self.kind: Kind = kind
        self.leaf: L = leaf
        self.count = 0
        self.first: Node[L] | None = None
        self.last: Node[L] | None = None
        self.link_a: Node[L] | None = None
        self.link_b: Node[L] | None = None
        self.link_up: Node[L] | None = None

    @property
    def children(self) -> list[Node[L]]:
        """In their present order; none of a leaf. O(children)."""
        return list(self._chain())

    def _chain(self) -> Iterator[Node[L]]:
        previous, node = None, self.first
        while node is not None:
            yield node
            previous, node = node, beyond(node, previous)

    @property
    def parent(self) -> Node[L] | None:
        """None of the root. What was absorbed on the way is skipped from now on, so that the next look-up is short."""
        up = self.link_up
        if up is None or up.kind != "absorbed":
            return up
        while up is not None and up.kind == "absorbed":
            up = up.link_up
        node = self
        while node.link_up is not up:
            node.link_up, node = up, known(node.link_up)
        return up

    def add(self, child: Node[L]) -> None:
        """`child`, which is in no chain, becomes the last. O(1)."""
        if self.last is None:
            self.first = child
        else:
            join(self.last, child)
        self.last, child.link_up = child, self
        self.count += 1

    def remove(self, child: Node[L]) -> None:
        """Take `child` out of the chain, whose order stays. For P nodes: a Q node keeps its children. O(1)."""
        a, b = child.link_a, child.link_b
        if a is not None:
            relink(a, child, b)
        if b is not None:
            relink(b, child, a)
        if self.first is child:
            self.first = a or b
        if self.last is child:
            self.last = a or b
        child.link_a = child.link_b = child.link_up = None
        self.count -= 1

    def set_children(self, children: list[Node[L]]) -> None:
        """The same children in another order. O(children)."""
        for child in children:
            child.link_a = child.link_b = None
        for child, following in pairwise(children):
            join(child, following)
        self.first, self.last = children[0], children[-1]

    def __str__(self) -> str:
        """P nodes in braces, Q nodes in brackets: `{0 [1 2 3] {4 5}}`."""
        parts: list[str] = []
        gap = ""
        waiting: list[Node[L] | str] = [self]
        while waiting:
            node = waiting.pop()
            if isinstance(node, str):
                parts.append(node)
                gap = " "
            elif node.kind == "leaf":
                parts.append(f"{gap}{node.leaf}")
                gap = " "
            else:
                opening, closing = "[]" if node.kind == "Q" else "{}"
                parts.append(gap + opening)
                gap = ""
                waiting += [closing, *reversed(node.children)]
        return "".join(parts)

    def __repr__(self) -> str:
        return f"<{self.kind}: {self}>"


def postorder(root: Node[L]) -> list[Node[L]]:
    """All nodes from `root` down, children in order and before their parents. No recursion: trees may be deep."""
    found, waiting = [], [root]
    while waiting:
        node = waiting.pop()
        found.append(node)
        waiting += node.children
    return found[::-1]


def beyond(node: Node[L], previous: Node[L] | None) -> Node[L] | None:
    """The neighbour that is not `previous`; from an end (`previous` None) the only one there is."""
    return node.link_b if node.link_a is previous else node.link_a


def relink(node: Node[L], old: Node[L] | None, new: Node[L] | None) -> None:
    """`new` becomes the neighbour that `old` was."""
    if node.link_a is old:
        node.link_a = new
    else:
        node.link_b = new


def join(one: Node[L], other: Node[L]) -> None:
    """Two ends of chains become neighbours."""
    relink(one, None, other)
    relink(other, None, one)


def cut(one: Node[L], other: Node[L]) -> None:
    """Two neighbours become ends of chains."""
    relink(one, other, None)
    relink(other, one, None)


def known(node: Node[L] | None) -> Node[L]:
    assert node is not None
    return node
