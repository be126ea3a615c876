"""Kinds: what is each operation of a captured cell to the memory that its values lie in?

product    rows times a weight, written where they shall lie
pointwise  elementwise on rows: part of a kernel, which reads and writes anywhere
slice      a part of a value that has a place; nothing is done
cat        a value whose parts are written where they lie in it; nothing is done
call       anything else: a tensor of its own per batch
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from bale.batching.cells.capture import SPLITS, Rows
from bale.batching.cells.pointwise import FORMULAS
from bale.batching.cells.split import Pieces
from bale.batching.cells.sums import PRODUCTS

aten = torch.ops.aten
_LAST = (1, -1)  # the last axis of a value with two
Kinds = dict[fx.Node, str]


def find_kinds(pieces: Pieces, fast: bool) -> Kinds:
    """The kind of every node of the forward and the backward part. `fast`: what is elementwise is compiled."""
    kinds: Kinds = {}
    for part in (pieces.forward, pieces.backward):
        for node in part:
            kinds[node] = _kind(node, pieces, kinds) if fast else "call"
    return kinds


def width(node: Any) -> int | None:
    """The width of a value that is one row of float32 numbers per row of the batch, else None."""
    shape = node.meta.get("shape") if isinstance(node, fx.Node) else None
    if shape is None or len(shape) != 2 or shape[0] != Rows(1) or isinstance(shape[1], Rows) or not shape[1]:
        return None
    return shape[1] if node.meta["dtype"] is torch.float32 else None


def is_cheap_on_rows(node: fx.Node) -> bool:
    """Is it elementwise on rows, or a cut or a joint of them: a part of a kernel, or nothing at all?"""
    if node.target in SPLITS:
        return width(node.args[0]) is not None
    joint = node.target in (operator.getitem, aten.slice.Tensor, aten.cat.default)
    return width(node) is not None and (joint or _is_pointwise(node))


def _kind(node: fx.Node, pieces: Pieces, kinds: Kinds) -> str:
    if node.target in SPLITS or node.target is operator.getitem or node.target is aten.slice.Tensor:
        return "slice" if _is_slice(node, pieces, kinds) else "call"
    if width(node) is None:
        return "call"
    if node.target in PRODUCTS and not node.kwargs and len(node.args) <= 3:
        return "product"
    if node.target is aten.cat.default:
        parts: Any = node.args[0]
        along = node.args[1] if len(node.args) > 1 else 0
        distinct = len(set(parts)) == len(parts)
        return "cat" if along in (1, -1) and distinct and all(width(part) for part in parts) else "call"
    return "pointwise" if _is_pointwise(node) and _has_settled_vectors(node, pieces) else "call"


def _has_settled_vectors(node: fx.Node, pieces: Pieces) -> bool:
    """A kernel reads vectors that are made once a call; those that each batch makes anew lie nowhere."""
    once = {*pieces.prologue, *pieces.captured.reads}
    return all(source in once or width(source) is not None for source in node.all_input_nodes)


def _is_slice(node: fx.Node, pieces: Pieces, kinds: Kinds) -> bool:
    """Is it a part of a value that has a place? (A split itself has none; its getitems do.)"""
    base: Any = node.args[0]
    if base in pieces.captured.numbers:
        return False
    given = dict(enumerate(node.args))
    if node.target in SPLITS:
        along: Any = given.get(2, node.kwargs.get("dim", 0))
        return along in _LAST and width(base) is not None and kinds.get(base) != "call"
    if node.target is operator.getitem:
        return isinstance(base, fx.Node) and base.target in SPLITS and kinds.get(base) == "slice"
    if width(base) is None or width(node) is None or kinds.get(base) == "call":
        return False
    return given.get(1, 0) in _LAST and bool(given.get(4, 1) == 1)


def slice_of(node: fx.Node) -> tuple[fx.Node, int]:
    """The value that a slice or a getitem of a split is part of, and its first column there."""
    base: Any = node.args[0]
    if node.target is operator.getitem:
        number: Any = node.args[1]
        whole, size = base.args[0], base.args[1]
        start = number * size if isinstance(size, int) else sum(size[:number])
        return whole, start
    start: Any = node.args[2] if len(node.args) > 2 else 0
    total = width(base)
    assert total is not None
    first = 0 if start is None else int(start)
    return base, max(first + total, 0) if first < 0 else first


def _is_pointwise(node: fx.Node) -> bool:
    if node.target not in FORMULAS or any(key != "memory_format" for key in node.kwargs):
        return False
    operands = 3 if node.target is aten.threshold_backward.default else 2
    wide = width(node)
    return len(node.args) <= operands and all(_is_operand(arg, wide) for arg in node.args)


def _is_operand(arg: Any, wide: int | None) -> bool:
    if isinstance(arg, (int, float)):
        return not isinstance(arg, bool)
    if not isinstance(arg, fx.Node) or arg.meta.get("dtype") is not torch.float32:
        return False
    shape = arg.meta["shape"]
    return width(arg) in (wide, 1) or shape in ((wide,), (), (1,), (1, wide))


def added_to(node: fx.Node, kinds: Kinds) -> fx.Node | None:
    """The product that is added to this one where it lies, so that both are one sum in the end."""
    if kinds.get(node) != "product" or len(node.users) != 1:
        return None
    (user,) = node.users
    adds = kinds.get(user) == "product" and len(user.args) == 3 and user.args[0] is node
    return user if adds and node not in user.args[1:] else None
