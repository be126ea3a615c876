"""Places: where does each value of a captured cell lie while its batches run?

Values that are rows of float32 numbers lie in buffers that hold the rows of all batches of the type, in the arenas, or
in the adjoint memory. A slice of a value is a part of its place, and what is concatenated is written where the
concatenation lies: neither is an operation. Everything else is *loose*: a tensor of its own per batch.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from torch import fx

from bale.batching.cells.capture import PRODUCTS, SPLITS, Rows
from bale.batching.cells.pointwise import FORMULAS
from bale.batching.cells.split import Pieces

aten = torch.ops.aten
_LAST = (1, -1)  # the last axis of a value with two


@dataclass(frozen=True)
class Place:
    """`width` columns from `column` of `home`: ("buffer", i), ("output", i) in an arena, or ("block", i)."""

    home: tuple[str, int]
    column: int
    width: int

    def part(self, column: int, width: int) -> Place:
        return replace(self, column=self.column + column, width=width)


@dataclass
class Places:
    """The decisions for one cell.

    kind       node -> "product", "slice", "pointwise", "cat" or "call"
    group      pointwise node -> the number of its kernel, by part
    of         node -> where it is written, the first being where it is read
    buffers    the width of each buffer
    columns    per column: "rows" (gathered into a tensor of its own), "index" (read where it lies), a Place, or None
    gradients  the same per output gradient
    blocks     which columns' gradients lie side by side, row by row
    overwritten  buffers of the forward run that the backward run writes over; see overlay.py
    """

    pieces: Pieces
    fast: bool
    kind: dict[fx.Node, str] = field(default_factory=dict)
    group: dict[fx.Node, int] = field(default_factory=dict)
    order: dict[str, list[fx.Node]] = field(default_factory=dict)
    of: dict[fx.Node, list[Place]] = field(default_factory=dict)
    buffers: list[int] = field(default_factory=list)
    columns: list[Any] = field(default_factory=list)
    gradients: list[Any] = field(default_factory=list)
    blocks: list[tuple[int, ...]] = field(default_factory=list)
    overwritten: list[int] = field(default_factory=list)

    def buffer(self, width: int) -> Place:
        self.buffers.append(width)
        return Place(("buffer", len(self.buffers) - 1), 0, width)


def find_places(pieces: Pieces, fast: bool, gathered: Sequence[bool]) -> Places:
    """Decide. `fast`: float32 on the CPU, where pointwise operations are compiled; `gathered` says which columns are
    gathered from arenas and may be read through an index."""
    places = Places(pieces, fast)
    for part in (pieces.forward, pieces.backward):
        for node in part:
            places.kind[node] = _kind(node, places) if fast else "call"
    _order(places, "forward", pieces.forward, {*pieces.captured.columns, *pieces.captured.numbers})
    _order(places, "backward", pieces.backward, set())
    _place_results(places, gathered)
    if fast:
        _place_cats(places)
        _place_sliced(places)
        _place_rest(places)
    _choose_access(places, gathered)
    return places


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


def _kind(node: fx.Node, places: Places) -> str:
    if node.target in SPLITS or node.target is operator.getitem or node.target is aten.slice.Tensor:
        return "slice" if _slice(node, places) else "call"
    if width(node) is None:
        return "call"
    if node.target in PRODUCTS and not node.kwargs and len(node.args) <= 3:
        return "product"
    if node.target is aten.cat.default:
        parts: Any = node.args[0]
        along = node.args[1] if len(node.args) > 1 else 0
        distinct = len(set(parts)) == len(parts)
        return "cat" if along in (1, -1) and distinct and all(width(part) for part in parts) else "call"
    return "pointwise" if _is_pointwise(node) and _has_settled_vectors(node, places) else "call"


def _has_settled_vectors(node: fx.Node, places: Places) -> bool:
    """A kernel reads vectors that are made once a call; those that each batch makes anew lie nowhere."""
    once = {*places.pieces.prologue, *places.pieces.captured.reads}
    return all(source in once or width(source) is not None for source in node.all_input_nodes)


def _slice(node: fx.Node, places: Places) -> bool:
    """Is it a part of a value that has a place? (A split itself has none; its getitems do.)"""
    base: Any = node.args[0]
    if base in places.pieces.captured.numbers:
        return False
    given = dict(enumerate(node.args))
    if node.target in SPLITS:
        along: Any = given.get(2, node.kwargs.get("dim", 0))
        return along in _LAST and width(base) is not None and places.kind.get(base) != "call"
    if node.target is operator.getitem:
        return isinstance(base, fx.Node) and base.target in SPLITS and places.kind.get(base) == "slice"
    if width(base) is None or width(node) is None or places.kind.get(base) == "call":
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


def _order(places: Places, part: str, nodes: Iterable[fx.Node], known: set[fx.Node]) -> None:
    """As few kernels as can be: everything else that is ready runs first, then all pointwise nodes of one width."""
    waiting = list(nodes)
    mine = set(waiting)
    done: set[fx.Node] = set()
    ordered: list[fx.Node] = []
    kernels = max(places.group.values(), default=-1) + 1

    def ready(node: fx.Node) -> bool:
        return all(source in done or source not in mine for source in node.all_input_nodes)

    while waiting:
        others = next((n for n in waiting if places.kind[n] != "pointwise" and ready(n)), None)
        if others is not None:
            done.add(others)
            ordered.append(others)
            waiting.remove(others)
            continue
        wide = width(next(n for n in waiting if ready(n)))
        for node in list(waiting):
            if places.kind[node] == "pointwise" and width(node) == wide and ready(node):
                places.group[node] = kernels
                done.add(node)
                ordered.append(node)
                waiting.remove(node)
        kernels += 1
    places.order[part] = ordered


def _place_results(places: Places, gathered: Sequence[bool]) -> None:
    """Outputs lie in arenas, gradients of columns in blocks."""
    captured = places.pieces.captured
    for k, out in enumerate(captured.outputs):
        places.of.setdefault(out, []).append(Place(("output", k), 0, width(out) or 0))
    taken: set[int] = set()
    for k, gradient in enumerate(captured.column_gradients):
        if gradient is None or k in taken:
            continue
        together = _side_by_side(places, k, gathered) if places.fast else [k]
        taken.update(together)
        places.blocks.append(tuple(together))
        block = ("block", len(places.blocks) - 1)
        if len(together) > 1:
            base, _ = slice_of(gradient)
            places.of.setdefault(base, []).append(Place(block, 0, width(base) or 0))
        else:
            places.of.setdefault(gradient, []).append(Place(block, 0, width(gradient) or 0))


def _side_by_side(places: Places, column: int, gathered: Sequence[bool]) -> list[int]:
    """The columns whose gradients are the equal slices of one product, in order; or this one alone.

    Only gradients of gathered columns meet in a block of the adjoint memory; those of constants lie elsewhere.
    """
    gradients = places.pieces.captured.column_gradients
    one = gradients[column]
    if places.kind.get(one) != "slice" or places.kind.get(slice_of(one)[0]) != "product":
        return [column]
    base, wide = slice_of(one)[0], width(one)
    assert wide is not None
    at = {}
    for k, gradient in enumerate(gradients):
        if gradient is not None and places.kind.get(gradient) == "slice" and slice_of(gradient)[0] is base:
            if width(gradient) != wide or gradients.count(gradient) > 1 or not gathered[k]:
                return [column]
            at[slice_of(gradient)[1]] = k
    total = width(base)
    if sorted(at) != list(range(0, total or 0, wide)):
        return [column]
    return [at[start] for start in sorted(at)]


def _place_sliced(places: Places) -> None:
    """What is given and read in slices lies in a buffer, so that a slice has a place."""
    captured = places.pieces.captured
    for node in (*captured.columns, *filter(None, captured.output_gradients)):
        sliced = any(places.kind.get(user) == "slice" for user in node.users)
        if sliced and not any(place.home[0] == "buffer" for place in places.of.get(node, [])):
            places.of.setdefault(node, []).append(places.buffer(width(node) or 0))


def _place_cats(places: Places) -> None:
    for part in ("forward", "backward"):
        for node in places.order[part]:
            if places.kind[node] != "cat":
                continue
            home = places.buffer(width(node) or 0)
            places.of.setdefault(node, []).insert(0, home)
            start = 0
            parts: Any = node.args[0]
            for piece in parts:
                places.of.setdefault(piece, []).append(home.part(start, width(piece) or 0))
                start += width(piece) or 0


def _place_rest(places: Places) -> None:
    """Buffers for what is read after its kernel has run and lies nowhere yet; over what nobody reads again, if any."""
    full = needed_whole(places)
    claimed: set[Place] = set()
    for part in ("forward", "backward"):
        for node in places.order[part]:
            kind = places.kind[node]
            if kind in ("cat", "slice") or width(node) is None:
                continue
            mine = places.of.get(node, [])
            has_buffer = any(place.home[0] == "buffer" for place in mine)
            if node in full and not has_buffer:
                places.of[node] = [places.buffer(width(node) or 0), *mine]
                continue
            if node in full:
                mine.sort(key=lambda place: place.home[0] != "buffer")
            if mine or _added_to(node, places) is not None:
                continue
            if kind == "product" or (kind == "call" and _read_by_kernels(node, places)):
                places.of[node] = [places.buffer(width(node) or 0)]
            elif kind == "pointwise" and any(places.group.get(user) != places.group[node] for user in node.users):
                over = _place_to_reuse(node, places, full, claimed)
                places.of[node] = [over or places.buffer(width(node) or 0)]
    for part in ("forward", "backward"):
        for node in reversed(places.order[part]):
            into = _added_to(node, places)
            if into is not None and node not in places.of:
                places.of[node] = places.of[into][:1]


def _added_to(node: fx.Node, places: Places) -> fx.Node | None:
    """The product that is added to this one where it lies, so that both are one sum in the end."""
    if places.kind[node] != "product" or len(node.users) != 1:
        return None
    (user,) = node.users
    adds = places.kind.get(user) == "product" and len(user.args) == 3 and user.args[0] is node
    return user if adds and node not in user.args[1:] else None


def _read_by_kernels(node: fx.Node, places: Places) -> bool:
    return any(places.kind.get(user) in ("pointwise", "slice", "cat") for user in node.users)


def needed_whole(places: Places) -> set[fx.Node]:
    """What the gradients of weights read, as rows of all batches."""
    pending = list(places.pieces.between(places.pieces.weights))
    found: set[fx.Node] = set()
    while pending:
        node = pending.pop()
        if node in found:
            continue
        found.add(node)
        if places.kind.get(node) == "slice":
            base = node.args[0]
            if isinstance(base, fx.Node):
                pending.append(base)
    return found


def _place_to_reuse(node: fx.Node, places: Places, full: set[fx.Node], claimed: set[Place]) -> Place | None:
    """The slice of a product that only this kernel reads: its element is loaded before ours is stored."""
    group = places.group[node]
    members = [n for n, number in places.group.items() if number == group]
    for source in dict.fromkeys(s for n in members for s in n.all_input_nodes):
        if width(source) != width(node) or places.kind.get(source) != "slice":
            continue
        base, start = slice_of(source)
        if places.kind.get(base) != "product" or base in full or any(p.home[0] != "buffer" for p in places.of[base]):
            continue
        if source in places.of or any(places.group.get(user) != group for user in source.users):
            continue
        if not _only_sliced(base, places):
            continue
        place = places.of[base][0].part(start, width(node) or 0)
        if place not in claimed:
            claimed.add(place)
            return place
    return None


def _only_sliced(base: fx.Node, places: Places) -> bool:
    """Is every element of the value read as part of one slice only?"""
    spans = []
    for user in base.users:
        parts = list(user.users) if user.target in SPLITS else [user]
        for piece in parts:
            if places.kind.get(piece) != "slice" or width(piece) is None:
                return False
            start = slice_of(piece)[1]
            spans.append((start, start + (width(piece) or 0)))
    spans.sort()
    return all(a[1] <= b[0] for a, b in pairwise(spans))


def place_of(node: fx.Node, places: Places) -> Place | None:
    """Where a value is read, or None where it is loose."""
    if node.op == "placeholder":
        return next((place for place in places.of.get(node, []) if place.home[0] == "buffer"), None)
    if node in places.of and places.of[node] and width(node) is not None and places.fast:
        return places.of[node][0]
    if places.kind.get(node) == "slice" and node.target not in SPLITS:
        base, start = slice_of(node)
        home = place_of(base, places)
        return None if home is None else home.part(start, width(node) or 0)
    return None


def _choose_access(places: Places, gathered: Sequence[bool]) -> None:
    captured = places.pieces.captured
    whole = places.pieces.between(places.pieces.weights)

    def access(node: fx.Node | None, may_index: bool) -> Any:
        if node is None or not (node.users or node in captured.outputs or node in captured.column_gradients):
            return None
        buffers = [place for place in places.of.get(node, []) if place.home[0] == "buffer"]
        if places.fast and buffers:
            return buffers[0]
        direct = all(places.kind.get(user) == "pointwise" for user in node.users) and width(node) is not None
        results = node in captured.outputs or node in captured.column_gradients
        return "index" if places.fast and may_index and direct and node not in whole and not results else "rows"

    places.columns = [access(node, may) for node, may in zip(captured.columns, gathered, strict=True)]
    places.gradients = [access(node, True) for node in captured.output_gradients]
