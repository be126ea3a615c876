"""Sums: in a captured graph, which products are added to one another, and so need no memory of their own?

`x @ w + p + h @ u` becomes `p + addmm(x @ w, h, u)`: whatever order its terms were written in, a sum of products is one
chain, in the order in which the cell is given the operands: earlier arguments are more often known before a recurrence
begins. Biases come first. What else is added is added to the chain.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

aten = torch.ops.aten
PRODUCTS = (aten.mm.default, aten.addmm.default)
_DTYPES = (torch.float32, torch.float64)  # those that sum as they multiply


def chain_products(graph: fx.Graph) -> None:
    """Do so for every sum with two products or more."""
    order = {node: k for k, node in enumerate(graph.nodes)}
    inner: set[fx.Node] = set()  # of larger sums
    for total in reversed(list(graph.nodes)):
        if total in inner or not _is_sum(total):
            continue
        addends, within = _addends(total)
        inner |= within
        terms = {addend: _terms(addend, total) for addend in addends}
        products = [addend for addend in addends if terms[addend] is not None]
        if len(products) < 2 or len(set(addends)) < len(addends):
            continue
        found = [given for given in terms.values() if given is not None]
        factors = sorted((factor for _, own in found for factor in own), key=lambda factor: order[factor[0]])
        biases = sorted((bias for bias, _ in found if bias is not None), key=order.__getitem__)
        with graph.inserting_before(total):
            result = _chain(graph, total, biases, factors)
            others = [addend for addend in addends if terms[addend] is None]
            if others:
                before = others[0]
                for other in others[1:]:
                    before = _like(total, graph.call_function(aten.add.Tensor, (before, other)))
                result = _like(total, graph.call_function(aten.add.Tensor, (before, result)))
        total.replace_all_uses_with(result)


def _is_sum(node: fx.Node) -> bool:
    """Is it a sum of two different tensors of its own shape?"""
    if node.target is not aten.add.Tensor or node.kwargs or node.meta.get("dtype") not in _DTYPES:
        return False
    shapes = [arg.meta.get("shape") if isinstance(arg, fx.Node) else None for arg in node.args]
    return shapes == [node.meta["shape"]] * 2 and node.args[0] is not node.args[1]


def _addends(total: fx.Node) -> tuple[list[fx.Node], set[fx.Node]]:
    """What is summed, and the sums within this one."""
    addends: list[fx.Node] = []
    within: set[fx.Node] = set()
    pending: list[Any] = [total]
    while pending:
        node = pending.pop()
        if node is total or (_is_sum(node) and len(node.users) == 1):
            within |= {node} - {total}
            pending += reversed(node.args)
        else:
            addends.append(node)
    return addends, within


def _terms(node: fx.Node, total: fx.Node) -> tuple[fx.Node | None, list[tuple[fx.Node, fx.Node]]] | None:
    """The bias and the factors of a chain of products that nothing but this sum reads; None of anything else."""
    factors: list[tuple[fx.Node, fx.Node]] = []
    at: Any = node
    while isinstance(at, fx.Node) and at.target in PRODUCTS:
        if at.kwargs or len(at.users) != 1 or at.meta["shape"] != total.meta["shape"]:
            return None
        first, second = at.args[-2:]
        assert isinstance(first, fx.Node) and isinstance(second, fx.Node)
        factors.append((first, second))
        if at.target is aten.mm.default:
            return None, factors[::-1]
        at = at.args[0]
    is_bias = isinstance(at, fx.Node) and at.meta["shape"] == total.meta["shape"][1:]
    return (at, factors[::-1]) if factors and is_bias else None


def _chain(graph: fx.Graph, total: fx.Node, biases: list[fx.Node], factors: list[tuple[fx.Node, fx.Node]]) -> fx.Node:
    before = biases[0] if biases else None
    for bias in biases[1:]:
        assert before is not None
        before = _like(bias, graph.call_function(aten.add.Tensor, (before, bias)))
    for rows, weight in factors:
        if before is None:
            before = graph.call_function(aten.mm.default, (rows, weight))
        else:
            before = graph.call_function(aten.addmm.default, (before, rows, weight))
        _like(total, before)
    assert before is not None
    return before


def _like(node: fx.Node, new: fx.Node) -> fx.Node:
    new.meta = dict(node.meta)
    return new
