"""What is a tree of kinds? The one structure that the data sets hand to the tree models."""

from collections.abc import Callable, Sequence
from typing import TypeVar

Node = TypeVar("Node")
Result = TypeVar("Result")


class Tree:
    """A node: an integer `kind` and any number of `children`, both fixed once it is made.

    `kind` is an index into the vocabulary of the data set (a kind of syntax node, or a word at the leaves of a
    sentence's tree). Trees compare, hash, copy and pickle by value, at any depth: nothing here recurses.

    >>> tree = Tree(7, (Tree(1), Tree(2)))
    >>> tree.size, tree.depth
    (3, 2)
    """

    # A class with slots: a data set makes a million of these, and a frozen dataclass takes three times as long.
    # Not a tuple: torch's pytrees would take it apart, with Python's recursion.
    __slots__ = ("children", "kind")

    def __init__(self, kind: int, children: "tuple[Tree, ...]" = ()) -> None:
        self.kind = kind
        self.children = children

    @property
    def size(self) -> int:
        """The number of nodes."""
        waiting: list[Tree] = [self]
        count = 0
        while waiting:
            node = waiting.pop()
            count += 1
            waiting.extend(node.children)
        return count

    @property
    def depth(self) -> int:
        """The number of nodes on the longest path from the root to a leaf."""
        return fold(self, children_of, lambda _, depths: 1 + max(depths, default=0))

    def flat(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return (kinds, arities) of the nodes, children before parents and left before right; they name the tree."""
        kinds: list[int] = []
        arities: list[int] = []

        def visit(node: Tree, below: list[None]) -> None:
            kinds.append(node.kind)
            arities.append(len(below))

        fold(self, children_of, visit)
        return tuple(kinds), tuple(arities)

    @staticmethod
    def from_flat(kinds: Sequence[int], arities: Sequence[int]) -> "Tree":
        """Rebuild the tree that `flat` described."""
        done: list[Tree] = []
        for kind, arity in zip(kinds, arities, strict=True):
            first = len(done) - arity
            children = tuple(done[first:])
            del done[first:]
            done.append(Tree(kind, children))
        (root,) = done
        return root

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tree):
            return NotImplemented
        return self is other or self.flat() == other.flat()

    def __hash__(self) -> int:
        return hash(self.flat())

    def __reduce__(self) -> tuple[object, ...]:
        return Tree.from_flat, self.flat()

    def __repr__(self) -> str:
        return f"<Tree of kind {self.kind}: {self.size} nodes, depth {self.depth}>"


Sample = tuple[Tree, int]
"""One example of a data set of trees: the tree and the index of its class."""


def children_of(tree: Tree) -> tuple[Tree, ...]:
    """Return the children of `tree`, for `fold`."""
    return tree.children


def fold(
    root: Node, children: Callable[[Node], Sequence[Node]], combine: Callable[[Node, list[Result]], Result]
) -> Result:
    """Compute `combine(node, results of its children)` for every node of a tree and return the root's result.

    Left before right, children before parents. An explicit stack takes the place of recursion, because Python's
    limit of 1,000 frames is nearer than the depth of real trees.
    """
    order: list[tuple[Node, int]] = []
    waiting = [root]
    while waiting:
        node = waiting.pop()
        below = children(node)
        order.append((node, len(below)))
        waiting.extend(below)
    results: list[Result] = []
    for node, arity in reversed(order):  # a parent before its children, right first: reversed, a post-order
        first = len(results) - arity
        operands = results[first:]
        del results[first:]
        results.append(combine(node, operands))
    return results[0]
