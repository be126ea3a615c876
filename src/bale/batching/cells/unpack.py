"""Unpack: which packed products of gates are better taken apart, since their gates are joined otherwise?

A GRU packs its gates by operand, and two of three are then sums of both products: as they stand, every sum lies twice
in memory, and so does its gradient, once for each weight. Taken apart gate by gate, they can lie once; see together.py.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import fx

from bale.batching.cells.capture import SPLITS, Captured, simplify
from bale.batching.cells.sums import PRODUCTS
from bale.batching.cells.together import weight_gradient

aten = torch.ops.aten


@dataclass(frozen=True, eq=False)
class _Packed:
    """A product with the gates of `weight` [gates, inputs], and the first row of each gate, with the end.

    `gradients` are concatenations of the gradients of all gates.
    """

    product: fx.Node
    weight: fx.Node
    split: fx.Node
    starts: tuple[int, ...]
    gradients: tuple[fx.Node, ...] = ()


def unpack(captured: Captured) -> Captured:
    """`captured` with such products taken apart, in a graph of its own; or as it is, where there are none."""
    found = _to_take_apart(captured)
    if not found:
        return captured
    graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    graph.output(graph.graph_copy(captured.graph, copies))
    for packed in found:
        gradients = tuple(copies[gradient] for gradient in packed.gradients)
        own = _Packed(copies[packed.product], copies[packed.weight], copies[packed.split], packed.starts, gradients)
        _Unpacker(graph, own).take_apart()
    simplify(graph)
    given = iter(graph.output_node().args[0])  # type: ignore[arg-type]

    def copied(nodes: Any) -> Any:
        return tuple(None if node is None else copies[node] for node in nodes)

    return replace(
        captured,
        graph=graph,
        columns=copied(captured.columns),
        numbers=copied(captured.numbers),
        reads=copied(captured.reads),
        output_gradients=copied(captured.output_gradients),
        outputs=tuple(next(given) for _ in captured.outputs),
        column_gradients=tuple(next(given) for _ in captured.column_gradients),
        trained_gradients=tuple(next(given) for _ in captured.trained_gradients),
    )


def _to_take_apart(captured: Captured) -> list[_Packed]:
    """Products of which some gates are added to those of another, and some are not."""
    packed = {found.split: found for found in map(_packed, captured.graph.nodes) if found is not None}
    chosen: dict[fx.Node, _Packed] = {}
    for node in captured.graph.nodes:
        if node.target is not aten.add.Tensor or node.kwargs:
            continue
        splits = [arg.args[0] for arg in node.args if isinstance(arg, fx.Node) and arg.target is operator.getitem]
        both = [packed[split] for split in splits if split in packed]  # type: ignore[index]
        if len(both) == 2 and both[0].weight is not both[1].weight:
            chosen |= {one.split: one for one in both}
    gradients = [_gradients(captured, one) for one in chosen.values()]
    if any(found is None for found in gradients):
        return []
    return [
        replace(one, gradients=found)
        for one, found in zip(chosen.values(), gradients, strict=True)
        if found is not None
    ]


def _packed(split: fx.Node) -> _Packed | None:
    """The product that is read in parts by this split of its last axis only, with a weight that is a parameter."""
    product: Any = split.args[0] if split.target in SPLITS else None
    if not isinstance(product, fx.Node) or product.target not in PRODUCTS or product.kwargs or len(product.users) > 1:
        return None
    *bias, _, transposed = product.args
    weight: Any = transposed.args[0] if transposed.target is aten.t.default else None  # type: ignore[union-attr]
    given: Any = split.args
    along, size = given[2] if len(given) > 2 else split.kwargs.get("dim", 0), given[1]
    placeholders = all(isinstance(node, fx.Node) and node.op == "placeholder" for node in (weight, *bias))
    if along not in (1, -1) or weight is None or not placeholders or weight.meta["dtype"] is not torch.float32:
        return None
    total = weight.meta["shape"][0]
    if any(b.meta["shape"] != (total,) for b in bias):  # type: ignore[union-attr]
        return None
    sizes = size if isinstance(size, (list, tuple)) else [min(size, total - at) for at in range(0, total, size)]
    return _Packed(product, weight, split, tuple(accumulate(sizes, initial=0)))


def _gradients(captured: Captured, packed: _Packed) -> tuple[fx.Node, ...] | None:
    """What the weight is multiplied by for the gradient of its operand, and what its own gradient is made of; None
    where something else than that is done with it."""
    found: list[Any] = []
    user: Any
    for user in packed.weight.users:
        if user in packed.product.all_input_nodes and len(user.users) == 1:
            continue  # the transposition
        if user.target is not aten.mm.default or user.args[1] is not packed.weight:
            return None
        found.append(user.args[0])
    tensor = captured.read_tensors[captured.reads.index(packed.weight)]
    for trained, own in zip(captured.trained, captured.trained_gradients, strict=True):
        if trained is tensor and own is not None:
            parts = weight_gradient(own)
            if parts is None or parts[1] is None:
                return None
            found.append(parts[0])
    widths = [high - low for low, high in pairwise(packed.starts)]
    for gradient in found:
        parts = gradient.args[0] if gradient.target is aten.cat.default else ()
        if [part.meta["shape"][-1] for part in parts] != widths:
            return None
        if not all(_can_be_apart(user, gradient, packed.weight) for user in gradient.users):
            return None
    return tuple(dict.fromkeys(found))


def _can_be_apart(user: fx.Node, gradient: fx.Node, weight: fx.Node) -> bool:
    """Is it a product with the weight, or a sum over rows, or a transposition for the gradient of a weight?"""
    if user.target is aten.t.default:
        return all(after.target is aten.mm.default and after.args[0] is user for after in user.users)
    if user.target is aten.sum.dim_IntList:
        return list(user.args[1:]) == [[0], True]
    return user.target is aten.mm.default and user.args == (gradient, weight)


class _Unpacker:
    def __init__(self, graph: fx.Graph, packed: _Packed):
        self.graph, self.packed = graph, packed
        self.spans = list(pairwise(packed.starts))
        with graph.inserting_after(_last_placeholder(graph)):
            # the last is inserted first, so that they come in order
            self.weights = [self._rows(packed.weight, *span) for span in reversed(self.spans)][::-1]

    def take_apart(self) -> None:
        self._forward()
        for gradient in self.packed.gradients:
            self._backward(gradient)

    def _rows(self, node: fx.Node, low: int, high: int) -> fx.Node:
        shape = (high - low, *node.meta["shape"][1:])
        return self._call(aten.slice.Tensor, (node, 0, low, high), shape)

    def _call(self, target: Any, args: tuple[Any, ...], shape: tuple[Any, ...]) -> fx.Node:
        node = self.graph.call_function(target, args)
        node.meta = {"shape": shape, "dtype": torch.float32}
        return node

    def _forward(self) -> None:
        packed = self.packed
        *bias, rows, _ = packed.product.args
        for part in list(packed.split.users):
            number: Any = part.args[1]
            low, high = self.spans[number]
            weight = self.weights[number]
            with self.graph.inserting_before(packed.product):
                transposed = self._call(aten.t.default, (weight,), weight.meta["shape"][::-1])
                given = [self._rows(one, low, high) for one in bias]  # type: ignore[arg-type]
                shape = (packed.product.meta["shape"][0], high - low)
                product = self._call(packed.product.target, (*given, rows, transposed), shape)
            part.replace_all_uses_with(product)

    def _backward(self, gradient: fx.Node) -> None:
        """Its products with weights are sums over gates; gradients of weights and biases concatenations of theirs."""
        parts: Any = gradient.args[0]
        for user in list(gradient.users):
            if user.target is aten.t.default:
                for product in list(user.users):
                    rows: Any = product.args[1]
                    with self.graph.inserting_before(product):
                        made = [self._of_gate(aten.mm.default, part, rows) for part in parts]
                        self._together(product, made, 0)
            elif user.target is aten.sum.dim_IntList:
                with self.graph.inserting_before(user):
                    self._together(user, [self._of_gate(aten.sum.dim_IntList, part) for part in parts], 1)
            else:
                total: fx.Node | None = None
                with self.graph.inserting_before(user):
                    for part, weight in zip(parts, self.weights, strict=True):
                        given = (part, weight) if total is None else (total, part, weight)
                        target = aten.mm.default if total is None else aten.addmm.default
                        total = self._call(target, given, user.meta["shape"])
                assert total is not None
                user.replace_all_uses_with(total)
                self.graph.erase_node(user)

    def _of_gate(self, target: Any, part: fx.Node, rows: fx.Node | None = None) -> fx.Node:
        """A gate's part of a gradient of a weight, or of a bias."""
        (wide,) = part.meta["shape"][1:]
        if rows is None:
            return self._call(target, (part, [0], True), (1, wide))
        transposed = self._call(aten.t.default, (part,), part.meta["shape"][::-1])
        return self._call(target, (transposed, rows), (wide, rows.meta["shape"][1]))

    def _together(self, node: fx.Node, parts: list[fx.Node], axis: int) -> None:
        node.replace_all_uses_with(self._call(aten.cat.default, (parts, axis), node.meta["shape"]))
        self.graph.erase_node(node)


def _last_placeholder(graph: fx.Graph) -> fx.Node:
    return [node for node in graph.nodes if node.op == "placeholder"][-1]
