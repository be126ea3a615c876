"""Places: where does each value of a captured cell lie while its batches run?

Values that are rows of float32 numbers lie in buffers that hold the rows of all batches of the type, in the arenas, or
in the adjoint memory. A slice of a value is a part of its place, and what is concatenated is written where the
concatenation lies: neither is an operation. Everything else is *loose*: a tensor of its own per batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from torch import fx

from bale.batching.cells.capture import SPLITS
from bale.batching.cells.kinds import Kinds, added_to, find_kinds, slice_of, width
from bale.batching.cells.split import Pieces
from bale.batching.cells.together import Joint, Together, find_together


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

    kind       of every node; see kinds.py
    together   which products are one call, and what lies side by side for that
    joint      product -> the joint that it is part of
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
    kind: Kinds = field(default_factory=dict)
    together: Together = field(default_factory=Together)
    joint: dict[fx.Node, Joint] = field(default_factory=dict)
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
    """Decide. `fast`: pointwise operations on float32 are compiled; `gathered` says which columns are gathered from
    arenas and may be read through an index."""
    places = Places(pieces, fast, find_kinds(pieces, fast))
    if fast:
        places.together = find_together(pieces, places.kind, gathered)
        places.joint = {product: joint for joint in places.together.joints for product in joint.members}
    _order(places, "forward", pieces.forward)
    _order(places, "backward", pieces.backward)
    _place_results(places, gathered)
    if fast:
        _place_together(places)
        _place_cats(places)
        _place_sliced(places)
        _place_rest(places)
    _choose_access(places, gathered)
    return places


def _order(places: Places, part: str, nodes: Iterable[fx.Node]) -> None:
    """As few kernels as can be: everything else that is ready runs first, then all pointwise nodes of one width.

    Products of a joint stand together, where the last of them can run.
    """
    waiting = list(nodes)
    mine = set(waiting)
    done: set[fx.Node] = set()
    ordered: list[fx.Node] = []
    kernels = max(places.group.values(), default=-1) + 1

    def unit(node: fx.Node) -> set[fx.Node]:
        return {*places.joint[node].members} if node in places.joint else {node}

    def ready(node: fx.Node) -> bool:
        together = unit(node)
        sources = {source for member in together for source in member.all_input_nodes} - together
        return all(source in done or source not in mine for source in sources)

    def take(node: fx.Node) -> None:
        done.add(node)
        ordered.append(node)
        waiting.remove(node)

    while waiting:
        others = next((n for n in waiting if places.kind[n] != "pointwise" and ready(n)), None)
        if others is not None:
            together = unit(others)
            for node in [n for n in waiting if n in together]:  # each sum from its first product on
                take(node)
            continue
        wide = width(next(n for n in waiting if ready(n)))
        for node in list(waiting):
            if places.kind[node] == "pointwise" and width(node) == wide and ready(node):
                places.group[node] = kernels
                take(node)
        kernels += 1
    places.order[part] = ordered


def _place_results(places: Places, gathered: Sequence[bool]) -> None:
    """Outputs lie in arenas, gradients of columns in blocks."""
    captured = places.pieces.captured
    for k, out in enumerate(captured.outputs):
        places.of.setdefault(out, []).append(Place(("output", k), 0, width(out) or 0))
    taken: set[int] = set()
    for columns in places.together.blocks:
        places.blocks.append(columns)
        taken.update(columns)
        start = 0
        for k in columns:
            gradient = captured.column_gradients[k]
            wide = width(gradient) or 0
            places.of.setdefault(gradient, []).append(Place(("block", len(places.blocks) - 1), start, wide))
            start += wide
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


def _place_together(places: Places) -> None:
    """What was found to lie side by side is a buffer."""
    for values in places.together.rows:
        home = places.buffer(sum(width(value) or 0 for value in values))
        start = 0
        for value in values:
            places.of.setdefault(value, []).insert(0, home.part(start, width(value) or 0))
            start += width(value) or 0


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
            if not places.of.get(node) or places.of[node][0].home[0] != "buffer":
                places.of.setdefault(node, []).insert(0, places.buffer(width(node) or 0))
            home = places.of[node][0]
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
            if mine or added_to(node, places.kind) is not None:
                continue
            if kind == "product" or (kind == "call" and _read_by_kernels(node, places)):
                places.of[node] = [places.buffer(width(node) or 0)]
            elif kind == "pointwise" and any(places.group.get(user) != places.group[node] for user in node.users):
                over = _place_to_reuse(node, places, full, claimed)
                places.of[node] = [over or places.buffer(width(node) or 0)]
    for part in ("forward", "backward"):
        for node in reversed(places.order[part]):
            into = added_to(node, places.kind)
            if into is not None and node not in places.of:
                places.of[node] = places.of[into][:1]


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
    """The product, or slice of one, that only this kernel reads: its element is loaded before ours is stored."""
    group = places.group[node]
    members = [n for n, number in places.group.items() if number == group]
    for source in dict.fromkeys(s for n in members for s in n.all_input_nodes):
        if width(source) != width(node) or places.kind.get(source) not in ("slice", "product"):
            continue
        base, start = slice_of(source) if places.kind[source] == "slice" else (source, 0)
        if places.kind.get(base) != "product" or base in full or any(p.home[0] != "buffer" for p in places.of[base]):
            continue
        if any(places.group.get(user) != group for user in source.users):
            continue
        if source is not base and (source in places.of or not _only_sliced(base, places)):
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
    own = places.of.get(node, []) if width(node) is not None and places.fast else []
    if places.kind.get(node) == "slice" and node.target not in SPLITS and (not own or own[0].home[0] != "buffer"):
        base, start = slice_of(node)  # whose place has the rows of all batches, if one has
        home = place_of(base, places)
        return home.part(start, width(node) or 0) if home is not None else next(iter(own), None)
    return own[0] if own else None


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
