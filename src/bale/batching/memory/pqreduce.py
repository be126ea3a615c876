"""How does a PQ-tree learn that some leaves must be consecutive? First `find`, which only looks, then `rewrite`.

Booth and Lueker (1976) match templates bottom up and may find half-way that no template fits. Here all that can fail is
looked at before anything changes, so that a subset that does not fit leaves the tree as it was. A node is *full* if all
its leaves are in the subset, *empty* if none, else *partial*. The smallest subtree that holds the subset can be made to
hold it together if and only if

    a partial node below its root has at most one partial child, and a Q node's children read, in one of its two
    directions: empty ones, then the partial one, then full ones, whichever of these there are
    the root has at most two partial children, and a Q node's read: empty, partial, full, partial, empty

which are the templates' left sides. Their right sides differ only in what lies above the partial child, whose own
rewriting is always a chain of children from an empty to a full end. So we follow each of the (at most two) paths of
partial nodes from the root down, collect from every node what is empty on the one side and full on the other, and put
the chain that this gives where the path began. L1, P1 and Q1 are the labels that `find` sets; P2 is a P root without a
path; P3, P5 and Q2 below the root are steps of a path; P4, P6, Q2 and Q3 are roots with one path or two, or a Q root.

Children of an absorbed Q node are not told of their new parent: who asks finds it by union and find. So every node's
parent is known, there are no pseudonodes, and a Q node with far ends is looked at only where the subset lies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from bale.batching.memory.pqnode import Node, beyond, cut, join, known, relink


@dataclass(slots=True)
class Pertinent:
    """What a subset touches.

    root      the lowest node that holds it all; not full
    full      node -> its full children; for partial nodes and the root that have any
    partial   node -> its partial children; the same, also for those that have none
    edges     for Q nodes below the root: the last empty child before the others (None if all are pertinent), the first
              after it, and the end of the chain that is full, or partial where no child is full
    """

    root: Node
    full: dict[Node, list[Node]]
    partial: dict[Node, list[Node]]
    edges: dict[Node, tuple[Node | None, Node, Node]] = field(default_factory=dict)

    def path(self, node: Node) -> list[Node]:
        """From a partial child of the root down, as long as there is a partial child."""
        found = [node]
        while below := self.partial[found[-1]]:
            found.append(below[0])
        return found


def find(leaves: Iterable[Node]) -> Pertinent | None:
    """What the subset `leaves` touches, if it can be made consecutive, else None. At least one leaf, and not all.

    Changes nothing that can be seen. Full nodes are found from their children, so there are fewer than leaves; then
    paths go up from all nodes with some full children, in turn, until they have met. While the longest is above the
    root, the others have as many nodes still below it: O(subset + partial nodes).
    """
    full = _full_children(leaves)
    partial = {node: [] for node in full}
    root = _meet(partial)
    if root is None:
        return None
    while root not in full and len(partial[root]) == 1:  # a path that went on above the root
        root = partial[root][0]
    found = Pertinent(root, full, partial)
    fits = _root_fits(found) and all(_fits(found, node) for top in partial[root] for node in found.path(top))
    return found if fits else None


def _full_children(leaves: Iterable[Node]) -> dict[Node, list[Node]]:
    """Of every node that has some and is not full itself."""
    full: dict[Node, list[Node]] = {}
    work = list(leaves)
    for node in work:  # grows meanwhile
        parent = node.link_up
        if parent is None or parent.kind == "absorbed":
            parent = known(node.parent)
        siblings = full.get(parent)
        if siblings is None:
            full[parent] = [node]
            continue
        siblings.append(node)
        if len(siblings) == parent.count:
            del full[parent]
            work.append(parent)
    return full


def _meet(partial: dict[Node, list[Node]]) -> Node | None:
    """Go up from `partial` and enter every node's partial children, up to a node above all; None if one has three."""
    tips, paths = deque(partial), len(partial)
    node = tips[0]
    while paths > 1:
        node = tips.popleft()
        parent = node.parent
        if parent is None:  # stays where it is, above all others
            continue
        if parent in partial:
            paths -= 1
        else:
            partial[parent] = []
            tips.append(parent)
        partial[parent].append(node)
        if len(partial[parent]) > 2:
            return None
    while (parent := node.parent) in partial:
        node = parent
    return node


def _root_fits(found: Pertinent) -> bool:
    full, partial = found.full.get(found.root, []), found.partial[found.root]
    if found.root.kind == "P":
        return len(partial) <= 2
    run = _run(full, partial)
    return run is not None and all(node in (run[1], run[2]) for node in partial)


def _fits(found: Pertinent, node: Node) -> bool:
    """Whether a partial node below the root can be read from an empty to a full end."""
    full, partial = found.full.get(node, []), found.partial[node]
    if len(partial) > 1:
        return False
    if node.kind == "P":
        return True
    run = _run(full, partial)
    if run is None:
        return False
    before, first, last, after = run
    if after is not None or (partial and first is not partial[0]):
        before, first, last, after = after, last, first, before
    found.edges[node] = before, first, last
    return after is None and (not partial or first is partial[0])


def _run(full: list[Node], partial: list[Node]) -> tuple[Node | None, Node, Node, Node | None] | None:
    """Of a Q node whose full and partial children are consecutive: (neighbour, first of them, last, neighbour)."""
    members = {*full, *partial}
    start = full[0] if full else partial[0]
    counted, ends = 1, []
    for following in (start.link_a, start.link_b):
        previous, node = start, following
        while node in members:
            counted += 1
            previous, node = node, beyond(node, previous)
        ends.append((previous, node))
    (first, before), (last, after) = ends
    return (before, first, last, after) if counted == len(members) else None


def rewrite(found: Pertinent) -> Node:
    """Make the subset consecutive in every order of the tree, and nothing else; the node that is now in root's place.

    O(full children and partial nodes). A Q node's other children are not touched.
    """
    root = found.root
    full, partial = found.full.get(root, []), found.partial[root]
    if root.kind == "Q":
        return _rewrite_q(found, full, partial)
    if not partial and len(full) < 2:
        return root
    for child in (*full, *partial):
        root.remove(child)
    if not partial:
        root.add(together(full))
        return root
    chains = [_unroll(found, child) for child in partial]
    middle = [together(full)] if full else []
    return _rewrite_p(root, chains, middle)


@dataclass(slots=True)
class Chain:
    """Children for a Q node, from an empty to a full end: those of `absorbed` Q nodes, and `loose` others."""

    empty_end: Node
    full_end: Node
    count: int
    absorbed: list[Node]
    loose: list[Node]


def _rewrite_p(root: Node, chains: list[Chain], middle: list[Node]) -> Node:
    """The chains become one Q node, full ends inwards; what is empty stays with the root."""
    made = Node("Q")
    made.first, made.last = chains[0].empty_end, chains[0].full_end
    for node in middle:
        join(known(made.last), node)
        made.last = node
    if len(chains) == 2:
        join(known(made.last), chains[1].full_end)
        made.last = chains[1].empty_end
    if root.count:
        root.add(made)
    else:
        take_place(root, made)
    count = len(middle) + sum(chain.count for chain in chains)
    kept = _absorb(made, 0, count, chains, middle)
    return root if root.count else kept


def _rewrite_q(found: Pertinent, full: list[Node], partial: list[Node]) -> Node:
    """Each chain takes the place of the partial child that it came from, its full end towards the full children."""
    root, held = found.root, found.root.count
    inside = {*full, *partial}
    chains = []
    for child in partial:
        a, b = child.link_a, child.link_b
        inner, outer = (a, b) if a in inside else (b, a)
        child.link_a = child.link_b = None
        chain = _unroll(found, child)
        relink(known(inner), child, chain.full_end)
        relink(chain.full_end, None, inner)
        if outer is not None:
            relink(outer, child, chain.empty_end)
            relink(chain.empty_end, None, outer)
        elif root.first is child:
            root.first = chain.empty_end
        else:
            root.last = chain.empty_end
        inside.add(chain.full_end)  # where the two partial children were neighbours
        chains.append(chain)
    return _absorb(root, held, held + sum(chain.count - 1 for chain in chains), chains, [])


def _absorb(made: Node, held: int, count: int, chains: list[Chain], loose: list[Node]) -> Node:
    """All chains' nodes become children of one Q node, in `made`'s place: the one that most children point to.

    Of `count` children `held` point to `made` already. Union by size keeps look-ups of parents short.
    """
    absorbed = [node for chain in chains for node in chain.absorbed]
    kept, first, last = made, made.first, made.last
    if absorbed:
        largest = max(absorbed, key=lambda node: node.count)
        if largest.count > held:
            kept = largest
            take_place(made, kept)
    for node in (made, *absorbed):
        if node is not kept:
            node.kind, node.link_up = "absorbed", kept
            node.first = node.last = node.link_a = node.link_b = None
    kept.first, kept.last, kept.count = first, last, count
    for node in (*loose, *(node for chain in chains for node in chain.loose)):
        node.link_up = kept
    return kept


Piece = tuple[Node, Node]  # part of a chain: its outer end, its inner end


def _unroll(found: Pertinent, top: Node) -> Chain:
    """The path of partial nodes from `top`, which is in no chain any more, as a chain.

    Every node adds a piece on each side of a gap, into which the next one's go: [E .. _ .. F].
    """
    empty_side: list[Piece] = []
    full_side: list[Piece] = []
    count = 0
    absorbed: list[Node] = []
    loose: list[Node] = []
    for node in found.path(top):
        full, partial = found.full.get(node, []), found.partial[node]
        if node.kind == "Q":
            absorbed.append(node)
            count += node.count - len(partial)
            empty_piece, full_piece = _open_q(node, found.edges[node], partial)
        else:
            empty_piece, full_piece = _open_p(node, full, partial)
            made = [piece[0] for piece in (empty_piece, full_piece) if piece]
            count += len(made)
            loose += made
        empty_side += [empty_piece] if empty_piece else []
        full_side += [full_piece] if full_piece else []
    inwards = [end for piece in empty_side for end in piece]
    outwards = [end for piece in reversed(full_side) for end in reversed(piece)]
    ends = inwards + outwards
    for one, other in zip(ends[1:-1:2], ends[2:-1:2], strict=True):
        join(one, other)
    return Chain(ends[0], ends[-1], count, absorbed, loose)


def _open_p(node: Node, full: list[Node], partial: list[Node]) -> tuple[Piece | None, Piece | None]:
    """The empty children of a P node and the full ones, each grouped. The node itself, if it stays, holds the empty."""
    for child in (*full, *partial):
        node.remove(child)
    empty: Node | None = node
    if node.count < 2:
        empty = node.first
        if empty is not None:
            node.remove(empty)
    group = together(full) if full else None
    return (empty, empty) if empty is not None else None, (group, group) if group is not None else None


def _open_q(node: Node, edge: tuple[Node | None, Node, Node], partial: list[Node]) -> tuple[Piece | None, Piece | None]:
    """The chain of a Q node, before and behind its partial child, or cut where empty and full children meet."""
    before, first, last = edge
    following = beyond(first, before) if partial else first
    if before is not None:
        cut(before, first)
    if partial and following is not None:
        cut(first, following)
    empty_end = known(node.first if last is node.last else node.last)
    return (empty_end, before) if before is not None else None, (last, following) if following is not None else None


def together(nodes: list[Node]) -> Node:
    """A P node of `nodes`, which are in no chain; the node itself if there is but one."""
    if len(nodes) == 1:
        return nodes[0]
    made = Node("P")
    for node in nodes:
        made.add(node)
    return made


def take_place(old: Node, new: Node) -> None:
    """`new`, which is in no chain, comes where `old` was."""
    parent = new.link_up = old.parent
    new.link_a, new.link_b = old.link_a, old.link_b
    for neighbour in (old.link_a, old.link_b):
        if neighbour is not None:
            relink(neighbour, old, new)
    old.link_a = old.link_b = None
    if parent is not None:
        if parent.first is old:
            parent.first = new
        if parent.last is old:
            parent.last = new
