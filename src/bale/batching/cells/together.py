"""Together: which products of a cell run as one, and in which order must values lie for that?

People write a Linear for every gate. Products that share their operand are one product with the weights side by side,
if their results lie side by side; products that are summed are one product over operands that lie side by side. So a
cell's sums of products are a grid, of operands by results, and so is, transposed, what runs backward: there gradients
of gates are the operands, and those of inputs the results. A `Joint` is a rectangle of a grid that one call can do.

Which values can be neighbours is asked of a PQ-tree (ED-Batch, Chen et al., ICML 2023, section 3: batches ask that
their operands and results be adjacent, and aligned with each other). There constraints are broadcast between operands
and results until nothing changes. Here a value and its gradient are one leaf where one weight connects both: so every
constraint holds forward and backward at once, orders agree, and one joined weight serves both. A constraint that does
not fit with those before it is dropped, and its products stay apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from bale.batching.cells.kinds import Kinds, added_to, width
from bale.batching.cells.pointwise import FORMULAS
from bale.batching.cells.split import Pieces
from bale.batching.cells.sums import PRODUCTS
from bale.batching.memory.pqtree import PQTree

aten = torch.ops.aten
# What reads rows as well from among wider ones; a view, say, does not.
_READS_STRIDED = {*FORMULAS, *PRODUCTS, aten.t.default, aten.sum.dim_IntList}


@dataclass(frozen=True, eq=False)
class Joint:
    """Products [operands][results] of which each column is one sum, or a part of it. Lists are in the order of memory.

    Where one call for all does not pay, or some operand is known earlier than the others, each step is a call:
    an operand with all its results forward, a result with all its operands backward.
    """

    operands: tuple[fx.Node, ...]
    results: tuple[fx.Node, ...]  # the last product of each sum
    products: tuple[tuple[fx.Node, ...], ...]
    by_operand: bool

    def steps(self) -> tuple[Joint, ...]:
        if self.by_operand:
            return tuple(self.part([k], range(len(self.results))) for k in range(len(self.operands)))
        return tuple(self.part(range(len(self.operands)), [k]) for k in range(len(self.results)))

    def part(self, operands: Sequence[int], results: Sequence[int]) -> Joint:
        return Joint(
            tuple(self.operands[k] for k in operands),
            tuple(self.results[k] for k in results),
            tuple(tuple(self.products[k][j] for j in results) for k in operands),
            self.by_operand,
        )

    @property
    def members(self) -> tuple[fx.Node, ...]:
        return tuple(product for row in self.products for product in row)

    @property
    def numbers(self) -> int:
        """How many numbers its weights have."""
        return sum((width(x) or 0) for x in self.operands) * sum((width(y) or 0) for y in self.results)


@dataclass(frozen=True, eq=False)
class Together:
    """
    joints    each with two products or more, no product in two
    rows      values that lie side by side, in this order: each of these a buffer
    blocks    columns whose gradients lie side by side
    """

    joints: tuple[Joint, ...] = ()
    rows: tuple[tuple[fx.Node, ...], ...] = ()
    blocks: tuple[tuple[int, ...], ...] = ()


def find_together(pieces: Pieces, kinds: Kinds, gathered: Sequence[bool]) -> Together:
    """Decide. `gathered`: which columns are copied together anyway, and may as well be copied beside others."""
    return _Planner(pieces, kinds, gathered).plan()


@dataclass(frozen=True, eq=False)
class _Chain:
    """A sum of products, each added to the one before."""

    products: tuple[fx.Node, ...]

    @property
    def end(self) -> fx.Node:
        return self.products[-1]

    @property
    def operands(self) -> tuple[fx.Node, ...]:
        return tuple(_operand(product) for product in self.products)


def _operand(product: fx.Node) -> fx.Node:
    rows = product.args[-2]
    assert isinstance(rows, fx.Node)
    return rows


def base_weight(product: fx.Node) -> fx.Node:
    """The weight of a product, without its transposition."""
    weight: Any = product.args[-1]
    return weight.args[0] if weight.target is aten.t.default else weight


@dataclass(frozen=True, eq=False)
class _Candidate:
    """Chains and operands of a joint that may be."""

    operands: tuple[fx.Node, ...]
    chains: tuple[_Chain, ...]


@dataclass
class _Leaves:
    """Nodes as leaves of the tree; two nodes, one of each run, may be one leaf."""

    of: dict[fx.Node, int] = field(default_factory=dict)
    nodes: dict[int, list[fx.Node]] = field(default_factory=lambda: defaultdict(list))

    def add(self, node: fx.Node) -> None:
        if node not in self.of:
            self.of[node] = leaf = len(self.of)
            self.nodes[leaf] = [node]

    def unite(self, forward: fx.Node, backward: fx.Node) -> None:
        one, other = self.of[forward], self.of[backward]
        if len(self.nodes[one]) == len(self.nodes[other]) == 1:
            self.nodes[one].append(backward)
            del self.nodes[other]
            self.of[backward] = one


class _Planner:
    def __init__(self, pieces: Pieces, kinds: Kinds, gathered: Sequence[bool]):
        captured = pieces.captured
        self.pieces, self.kinds, self.gathered, self.captured = pieces, kinds, gathered, captured
        self.constant = {*pieces.prologue, *captured.reads}
        self.results = {*captured.outputs, *captured.column_gradients}
        self.column = {node: k for k, node in enumerate(captured.columns)}
        self.position = {node: k for k, node in enumerate(captured.graph.nodes)}
        self.forward, self.backward = self._chains(pieces.forward), self._chains(pieces.backward)
        self.leaves = self._find_leaves()
        self.tree = PQTree(self.leaves.nodes)
        self.tree.arrange(sorted(self.leaves.nodes, key=lambda leaf: self.position[self.leaves.nodes[leaf][0]]))
        self.adjacent: list[tuple[fx.Node, ...]] = []

    def plan(self) -> Together:
        found = self._forward_joints()
        found += self._backward_joints()
        self._beside_for_weights()
        order = {node: place for place, leaf in enumerate(self.tree.frontier()) for node in self.leaves.nodes[leaf]}
        joints = [self._joint(candidate, order, by_operand) for candidate, by_operand in found]
        joints = [joint for joint in joints if len(joint.members) > 1]
        while joints and not self._can_run(joints):
            joints.pop()
        gradients = self.captured.column_gradients
        blocks = [
            tuple(gradients.index(result) for result in joint.results)
            for joint in joints
            if len(joint.results) > 1 and not self._may_be_result(joint.results[0])
        ]
        return Together(tuple(joints), self._rows(order), tuple(blocks))

    # What there is.

    def _chains(self, nodes: Iterable[fx.Node]) -> list[_Chain]:
        found = []
        for node in nodes:
            if self.kinds[node] != "product" or added_to(node, self.kinds) is not None:
                continue
            products = [node]
            while True:
                base: Any = products[-1].args[0]
                if len(products[-1].args) != 3 or added_to(base, self.kinds) is not products[-1]:
                    break
                products.append(base)
            chain = _Chain(tuple(reversed(products)))
            if all(map(self._is_plain, products)) and len(set(chain.operands)) == len(products):
                found.append(chain)
        return found

    def _is_plain(self, product: fx.Node) -> bool:
        """Rows times a weight that is there once a call, added to nothing, a bias of its own width, or a product."""
        *base, rows, weight = product.args
        if weight not in self.constant or rows in self.constant or width(rows) is None:
            return False
        if not base or added_to(base[0], self.kinds) is product:  # type: ignore[arg-type]
            return True
        bias: Any = base[0]
        return bias in self.constant and bias.meta["shape"] == (width(product),)

    def _find_leaves(self) -> _Leaves:
        leaves = _Leaves()
        for chain in (*self.forward, *self.backward):
            for node in (*chain.operands, chain.end):
                leaves.add(node)
        for gradient, _, _ in self._weight_products():
            leaves.add(gradient)
        pairs = [
            {base_weight(p): (_operand(p), chain.end) for chain in run for p in chain.products}
            for run in (self.forward, self.backward)
        ]
        uses = [base_weight(p) for run in (self.forward, self.backward) for chain in run for p in chain.products]
        for weight, (rows, result) in pairs[0].items():
            if weight in pairs[1] and uses.count(weight) == 2:
                gradient, into = pairs[1][weight]
                leaves.unite(result, gradient)
                leaves.unite(rows, into)
        return leaves

    def _weight_products(self) -> list[tuple[fx.Node, fx.Node | None, fx.Node]]:
        """Gradients of weights as (gradient of a result, rows, node), those of biases without rows."""
        found = []
        for node in self.pieces.weights:
            parts = weight_gradient(node)
            rows = {*self.kinds, *self.captured.columns, *self.captured.output_gradients}
            if parts is not None and parts[0] in rows and width(parts[0]) is not None:
                found.append((*parts, node))
        return found

    # What may lie where.

    def _reads_strided(self, node: fx.Node) -> bool:
        """Does all that reads it take rows of a wider matrix for it?"""
        return all(
            self.kinds.get(user) in ("pointwise", "product", "slice")
            or user.op == "output"
            or (user not in self.kinds and user.target in _READS_STRIDED)
            for user in node.users
        )

    def _may_be_result(self, node: fx.Node) -> bool:
        """Can it lie in a buffer, beside others?"""
        return node not in self.results and self._reads_strided(node)

    def _may_be_operand(self, node: fx.Node) -> bool:
        """Can it be written beside others, at no cost?"""
        if not self._reads_strided(node) or width(node) is None:
            return False
        if node in self.results and node in self.kinds and all(user in self.kinds for user in node.users):
            return False  # it lies among the results, and nobody asks for the rows of all batches
        if node in self.column:
            return self.gathered[self.column[node]]
        if node in self.captured.output_gradients:
            return True
        kind = self.kinds.get(node)
        return kind in ("pointwise", "cat") or (kind == "product" and self._may_be_result(node))

    def _ask(self, nodes: Sequence[fx.Node]) -> bool:
        """Have them lie side by side, if that fits with what was asked before."""
        if len(nodes) < 2:
            return True
        if not self.tree.reduce(self.leaves.of[node] for node in nodes):
            return False
        self.adjacent.append(tuple(nodes))
        return True

    def _rows(self, order: dict[fx.Node, int]) -> tuple[tuple[fx.Node, ...], ...]:
        """What was asked, where it overlaps together, in the order found."""
        groups: list[set[fx.Node]] = []
        for nodes in self.adjacent:
            touched = [group for group in groups if not group.isdisjoint(nodes)]
            groups = [group for group in groups if group.isdisjoint(nodes)] + [set(nodes).union(*touched)]
        return tuple(tuple(sorted(group, key=order.__getitem__)) for group in groups)

    # Joints.

    def _forward_joints(self) -> list[tuple[_Candidate, bool]]:
        """An operand with all sums that read it; then operands whose sums are the same."""
        by_operand: dict[Any, list[_Chain]] = defaultdict(list)
        for chain in self.forward:
            alone = None if self._may_be_result(chain.end) else chain
            for rows in chain.operands:
                by_operand[rows, alone].append(chain)
        found: list[_Candidate] = []
        for (rows, _), chains in sorted(by_operand.items(), key=lambda item: -len(item[1])):
            if self._ask([chain.end for chain in chains]):
                found.append(_Candidate((rows,), tuple(chains)))
            else:
                found += [_Candidate((rows,), (chain,)) for chain in chains]
        found.sort(key=lambda candidate: self.position[candidate.operands[0]])
        alike: dict[Any, list[_Candidate]] = defaultdict(list)
        for candidate in found:
            alike[frozenset(candidate.chains)].append(candidate)
        return [(joined, True) for group in alike.values() for joined in self._with_operands(group)]

    def _with_operands(self, group: list[_Candidate]) -> list[_Candidate]:
        """Candidates of the same sums as one, if their operands can lie side by side."""
        can, cannot = [], []
        for candidate in group:
            (can if self._may_be_operand(candidate.operands[0]) else cannot).append(candidate)
        operands = [candidate.operands[0] for candidate in can]
        if len(can) < 2 or not self._ask(operands):
            return group
        return [*cannot, _Candidate(tuple(operands), can[0].chains)]

    def _backward_joints(self) -> list[tuple[_Candidate, bool]]:
        """A sum over all its operands; then sums over the same operands."""
        alike: dict[Any, list[_Candidate]] = defaultdict(list)
        for chain in sorted(self.backward, key=lambda chain: -len(chain.products)):
            operands = chain.operands
            can = len(operands) == 1 or all(map(self._may_be_operand, operands))
            if can and self._ask(operands):
                alike[frozenset(operands), self._kind_of_result(chain.end)].append(_Candidate(operands, (chain,)))
        found: list[_Candidate] = []
        for (_, kind), group in alike.items():
            ends = [candidate.chains[0].end for candidate in group]
            if kind and (kind != "buffer" or self._ask(ends)):
                chains = tuple(candidate.chains[0] for candidate in group)
                found.append(_Candidate(group[0].operands, chains))
            else:
                found += group
        return [(candidate, False) for candidate in found]

    def _kind_of_result(self, end: fx.Node) -> Any:
        """What it shares with others that it may lie beside; nothing if it must lie alone."""
        if self._may_be_result(end):
            return "buffer"
        gradients = self.captured.column_gradients
        if gradients.count(end) != 1 or end in self.captured.outputs or len(end.users) != 1:
            return None
        return width(end) if self.gathered[gradients.index(end)] else None

    def _beside_for_weights(self) -> None:
        """The gradients of all weights that one operand is multiplied by are one product; those of biases one sum.

        They run once a call, which is worth no other place for what is given: only for what kernels write.
        """
        gradients: dict[Any, list[fx.Node]] = defaultdict(list)
        for gradient, rows, _ in self._weight_products():
            written = self.kinds.get(gradient) in ("pointwise", "cat") and self._may_be_operand(gradient)
            if written and gradient not in gradients[rows]:
                gradients[rows].append(gradient)
        for nodes in sorted(gradients.values(), key=len, reverse=True):
            self._ask(nodes)

    def _joint(self, candidate: _Candidate, order: dict[fx.Node, int], by_operand: bool) -> Joint:
        operands = sorted(candidate.operands, key=order.__getitem__)
        chains = sorted(candidate.chains, key=lambda chain: order[chain.end])
        grid = tuple(
            tuple(next(p for p in chain.products if _operand(p) is rows) for chain in chains) for rows in operands
        )
        return Joint(tuple(operands), tuple(chain.end for chain in chains), grid, by_operand)

    def _can_run(self, joints: Sequence[Joint]) -> bool:
        """Does no joint wait for itself?"""
        unit = {product: k for k, joint in enumerate(joints) for product in joint.members}
        nodes = [*self.pieces.forward, *self.pieces.backward]
        waits: dict[Any, set[Any]] = defaultdict(set)
        for node in nodes:
            waits[unit.get(node, node)] |= {unit.get(source, source) for source in node.all_input_nodes}
        done = {node for node in self.position if node not in self.kinds}
        pending = list(waits)
        while pending:
            ready = [one for one in pending if waits[one] <= done | {one}]
            if not ready:
                return False
            done.update(ready)
            pending = [one for one in pending if one not in done]
        return True


def weight_gradient(node: fx.Node) -> tuple[fx.Node, fx.Node | None] | None:
    """Rows and rows whose product, transposed times plain, this is; or rows and None where it is their sum."""
    first: Any = node.args[0] if node.args else None
    if node.kwargs or not isinstance(first, fx.Node):
        return None
    if node.target is aten.mm.default and first.target is aten.t.default:
        rows, source = node.args[1], first.args[0]
        return (source, rows) if isinstance(rows, fx.Node) and isinstance(source, fx.Node) else None
    if node.target is aten.sum.dim_IntList and list(node.args[1:]) == [[0], True]:
        return first, None
    return None
