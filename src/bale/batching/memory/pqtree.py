"""In which orders are all of these subsets consecutive? A PQ-tree holds every such order at once.

K. S. Booth and G. S. Lueker, "Testing for the consecutive ones property, interval graphs, and graph planarity using
PQ-tree algorithms", Journal of Computer and System Sciences 13, 1976. pqreduce.py has the algorithm.

    tree = PQTree(range(6))
    tree.reduce([1, 2]), tree.reduce([2, 3])    # True, True
    tree.reduce([4, 5]), tree.reduce([2, 5])    # True, False: 1 and 3 are beside 2 already
    print(tree)                                 # {0 [1 2 3] {4 5}}
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import pairwise, permutations
from typing import Any, Generic

from bale.batching.memory.pqnode import Kind, L, Node, postorder
from bale.batching.memory.pqreduce import find, rewrite, together
from bale.errors import PQTreeError

# A tree as a list, children before their parents: ("leaf", leaf) or (kind, how many children).
Shape = list[tuple[Kind, Any]]


class PQTree(Generic[L]):
    """All orders of some leaves in which every subset that it was reduced by is consecutive.

    They come from the tree by permuting the children of P nodes and reversing those of Q nodes. A P node has two
    children or more, a Q node three or more (and the tree of no leaves a P node of none). `root` is there to be read;
    do not hold on to nodes over a reduction.

    It starts with every order of `leaves`, which are distinct and hashable, in O(leaves). Iterations over a tree do not
    recurse, so that it may be as deep as it has leaves. `copy.copy`, `copy.deepcopy` and `pickle` work, in O(leaves).

    Raises PQTreeError where leaves are not the tree's, or repeat where each may come once.
    """

    __slots__ = ("_node_of", "root")

    def __init__(self, leaves: Iterable[L]) -> None:
        nodes: list[Node[L]] = [Node("leaf", leaf) for leaf in leaves]
        self._take(together(nodes) if nodes else Node("P"))
        if len(self._node_of) < len(nodes):
            raise PQTreeError(f"{len(nodes)} leaves, of which {len(self._node_of)} are distinct: give each leaf once")

    def _take(self, root: Node[L]) -> None:
        self.root = root
        self._node_of: dict[Hashable, Node[L]] = {node.leaf: node for node in postorder(root) if node.kind == "leaf"}

    def __len__(self) -> int:
        """How many leaves."""
        return len(self._node_of)

    def __contains__(self, leaf: object) -> bool:
        return leaf in self._node_of

    def __str__(self) -> str:
        """P nodes in braces, Q nodes in brackets: `{0 [1 2 3] {4 5}}`."""
        return str(self.root)

    def __repr__(self) -> str:
        return f"PQTree({self})"

    def reduce(self, subset: Iterable[L]) -> bool:
        """Keep the orders in which `subset` is consecutive. False if there are none: then the tree stays as it was.

        With n leaves, R accepted subsets and E elements in them, all accepted reductions together look at O(n + R + E)
        nodes, each with a look-up by union and find, next to O(1). For a reduction looks at O(subset + partial nodes),
        and each partial node but the topmost takes at least 1 from a sum that starts at n - 1 and grows by 1 per
        reduction at most: the number of Q nodes, plus for each P node its children less one. A single reduction may be
        dearer than its elements. So may every rejected one, since it takes nothing from the sum: O(n) in a deep tree.
        """
        nodes = self._nodes(subset)
        if len(nodes) < 2 or len(nodes) == len(self):
            return True
        found = find(nodes)
        if found is None:
            return False
        place = rewrite(found)
        if place.parent is None:
            self.root = place
        return True

    def frontier(self) -> list[L]:
        """The leaves in the tree's present order, one of its `orders`. O(leaves)."""
        return [node.leaf for node in postorder(self.root) if node.kind == "leaf"]

    def accepts(self, order: Sequence[L]) -> bool:
        """Whether `order`, of all leaves, is one of the tree's. O(leaves log leaves)."""
        if len(self._nodes(order)) < len(self) or len(order) > len(self):
            raise PQTreeError(f"an order of {len(order)} leaves, in a tree of {len(self)}: give each leaf once")
        return _frontier(self.root, self._children_by(order)) == list(order)

    def arrange(self, order: Sequence[L]) -> None:
        """Turn nodes so that `frontier` is `order`, if the tree accepts it; else another of its orders.

        `order` may be of some leaves only: those come in this order if `project(order).accepts(order)`. Children are
        sorted by the first of their leaves in `order`; those without such a leaf come last, in the order that they had.
        O(leaves log leaves).
        """
        self._nodes(order)
        for node, children in self._children_by(order).items():
            node.set_children(children)

    def orders(self) -> Iterator[list[L]]:
        """Every order once, lazily; of a small tree: see `order_count`. The tree may not change meanwhile."""
        inner = [node for node in postorder(self.root) if node.count]
        chosen: dict[Node[L], list[Node[L]]] = {}
        choices: list[Iterator[list[Node[L]]]] = []
        while True:
            while len(choices) < len(inner):
                choices.append(_arrangements(inner[len(choices)]))
                chosen[inner[len(choices) - 1]] = next(choices[-1])
            yield _frontier(self.root, chosen)
            while choices:
                following = next(choices[-1], None)
                if following is not None:
                    chosen[inner[len(choices) - 1]] = following
                    break
                choices.pop()
            else:
                return

    def order_count(self) -> int:
        """How many orders there are: k! for each P node of k children times 2 for each Q node. O(leaves) products."""
        inner = (node for node in postorder(self.root) if node.count)
        return math.prod(2 if node.kind == "Q" else math.factorial(node.count) for node in inner)

    def blocks(self) -> Iterator[frozenset[L]]:
        """The subsets that the tree has fixed as consecutive: of each inner node its leaves, and those of each two
        neighbouring children of a Q node.

        They say all that the tree says: a new tree, reduced by them, has the same orders. What else has two leaves and
        is consecutive in all orders is a union of neighbouring children of a Q node. Lazily, children's before their
        parents'; the root's, which is all leaves, is among them. O(leaves + what is returned).
        """
        frontier: list[L] = []
        spans: list[tuple[int, int]] = []  # of the subtrees whose parents are still to come, in `frontier`
        for node in postorder(self.root):
            if node.kind == "leaf":
                spans.append((len(frontier), len(frontier) + 1))
                frontier.append(node.leaf)
            elif node.count:
                held = spans[-node.count :]
                del spans[-node.count :]
                spans.append((held[0][0], held[-1][1]))
                yield frozenset(frontier[held[0][0] : held[-1][1]])
                if node.kind == "Q":
                    for (begin, _), (_, end) in pairwise(held):
                        yield frozenset(frontier[begin:end])

    def project(self, subset: Iterable[L]) -> PQTree[L]:
        """A tree of the leaves `subset` alone: its orders are the orders of this one with all other leaves left out.

        Nodes with one child left are replaced by it, and a Q node of two is a P node. O(leaves of this tree).
        """
        kept = {node.leaf for node in self._nodes(subset)}
        return _rebuilt(_restricted(self._shape(), kept), type(self))

    def __reduce__(self) -> tuple[Any, ...]:
        # Nodes link to each other in long chains, which copy and pickle would follow by recursion.
        return _rebuilt, (self._shape(), type(self))

    def _shape(self) -> Shape:
        return [(node.kind, node.leaf if node.kind == "leaf" else node.count) for node in postorder(self.root)]

    def _nodes(self, leaves: Iterable[L]) -> list[Node[L]]:
        """Of each leaf once, in the order given, so that nothing depends on hashes."""
        node_of = self._node_of
        try:
            return [node_of[leaf] for leaf in dict.fromkeys(leaves)]
        except KeyError as error:
            raise PQTreeError(f"{error.args[0]!r} is not one of the tree's {len(self)} leaves") from None

    def _children_by(self, order: Iterable[L]) -> dict[Node[L], list[Node[L]]]:
        """Of every inner node, its children as `order` would have them."""
        rank_of = {leaf: rank for rank, leaf in enumerate(order)}
        unranked = len(rank_of)
        rank: dict[Node[L], int] = {}
        chosen: dict[Node[L], list[Node[L]]] = {}
        for node in postorder(self.root):
            if node.kind == "leaf":
                rank[node] = rank_of.get(node.leaf, unranked)
                continue
            children = node.children
            rank[node] = min((rank[child] for child in children), default=unranked)
            if node.kind == "P":
                children.sort(key=rank.__getitem__)
            else:
                ranked = [rank[child] for child in children if rank[child] < unranked]
                if ranked and ranked[-1] < ranked[0]:
                    children.reverse()
            if children:
                chosen[node] = children
        return chosen


def _arrangements(node: Node[L]) -> Iterator[list[Node[L]]]:
    children = node.children
    if node.kind == "Q":
        return iter((children, children[::-1]))
    return map(list, permutations(children))


def _frontier(root: Node[L], children_of: dict[Node[L], list[Node[L]]]) -> list[L]:
    """The leaves from `root` down, where each inner node's children are those given."""
    leaves, waiting = [], [root]
    while waiting:
        node = waiting.pop()
        if node.kind == "leaf":
            leaves.append(node.leaf)
        else:
            waiting += reversed(children_of.get(node, ()))
    return leaves


def _restricted(shape: Shape, kept: set[Any]) -> Shape:
    """The shape without all other leaves."""
    out: Shape = []
    there: list[bool] = []  # of the subtrees whose parents are still to come: whether anything is left
    for kind, value in shape:
        if kind == "leaf":
            there.append(value in kept)
            if there[-1]:
                out.append((kind, value))
            continue
        left = sum(there[len(there) - value :])
        del there[len(there) - value :]
        there.append(left > 0)
        if left > 1:
            out.append(("P" if left == 2 else kind, left))
    return out


def _rebuilt(shape: Shape, made: type[PQTree[L]]) -> PQTree[L]:
    waiting: list[Node[L]] = []  # subtrees whose parents are still to come
    for kind, value in shape:
        node: Node[L] = Node(kind, value if kind == "leaf" else None)
        if kind != "leaf":
            for child in waiting[len(waiting) - value :]:
                node.add(child)
            del waiting[len(waiting) - value :]
        waiting.append(node)
    tree = made.__new__(made)
    tree._take(waiting[0] if waiting else Node("P"))
    return tree
