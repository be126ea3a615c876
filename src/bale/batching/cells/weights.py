"""Weights: how are the gradients of what is trained computed from the rows of all batches?

Those of one operand whose gradients lie side by side are one product, those of biases one sum. A gradient of a weight
is then some rows of that, and no two have an element in common: whoever owns one may write into it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from bale.batching.cells.kinds import width
from bale.batching.cells.places import Place, Places, place_of
from bale.batching.cells.together import weight_gradient

if TYPE_CHECKING:
    from bale.batching.cells.emit import Emitter

aten = torch.ops.aten


@dataclass(frozen=True, eq=False)
class _Group:
    """`nodes` are the rows of t(what lies at `place`) @ rows, one after another; or, without `rows`, of its sum."""

    nodes: tuple[fx.Node, ...]
    rows: fx.Node | None
    place: Place
    widths: tuple[int, ...]

    @property
    def axis(self) -> int:
        return int(self.rows is None)

    def spans(self, parts: Sequence[fx.Node]) -> list[tuple[int, int]]:
        """Where these of its nodes are, what is one after another as one."""
        starts = list(accumulate(self.widths, initial=0))
        found: list[tuple[int, int]] = []
        for part in parts:
            low, high = starts[self.nodes.index(part)], starts[self.nodes.index(part) + 1]
            if found and found[-1][1] == low:
                low = found.pop()[0]
            found.append((low, high))
        return found


def _find_groups(places: Places) -> list[_Group]:
    """All groups of two or more."""
    late = set(places.pieces.weights)
    found: dict[Any, list[tuple[Place, fx.Node]]] = defaultdict(list)
    for node in places.pieces.weights:
        parts = weight_gradient(node)
        if parts is None or parts[1] in late or width(parts[0]) is None:
            continue
        place = place_of(parts[0], places)
        if place is not None and place.home[0] == "buffer":
            found[parts[1], place.home].append((place, node))
    groups = []
    for (rows, home), members in found.items():
        members.sort(key=lambda member: member[0].column)
        ends = [k for k, (a, b) in enumerate(pairwise(members), 1) if a[0].column + a[0].width != b[0].column]
        for low, high in pairwise([0, *ends, len(members)]):
            run = members[low:high]
            widths = tuple(place.width for place, _ in run)
            if len(run) > 1:
                whole = Place(home, run[0][0].column, sum(widths))
                groups.append(_Group(tuple(node for _, node in run), rows, whole, widths))
    return groups


class WeightGradients:
    """Writes `weights()` of the code of one cell, for its emitter."""

    def __init__(self, emitter: Emitter):
        self.emitter = emitter
        self.group_of = {node: group for group in _find_groups(emitter.places) for node in group.nodes}
        self.wholes: dict[_Group, str] = {}

    def lines(self) -> list[str]:
        emitter = self.emitter
        emitter.part, emitter.local = "weights", set()
        lines: list[str] = []
        needed = self._needed()
        for node in emitter.pieces.weights:
            if node not in needed or node in emitter.local:
                continue
            if node in self.group_of:
                lines += self._group(self.group_of[node], needed)
                continue
            emitter.named(node)
            text = self._from_parts(node) or emitter.call(node)
            lines.append(f"        {emitter.names[node]} = {text}")
            emitter.local.add(node)
        results, seen = [], set()
        for gradient in emitter.captured.trained_gradients:
            if gradient is None:
                results.append("None")
                continue
            text = emitter.operand(gradient)
            # two weights may have one gradient, but not one tensor: each owner may write into its own
            results.append(f"{text}.clone()" if gradient in seen else text)
            seen.add(gradient)
        gathered = [f"        {name} = {text}" for name, text in emitter.gathered.items()]
        return [*gathered, *lines, f"        return [{', '.join(results)}]"]

    def _needed(self) -> set[fx.Node]:
        """What gradients are made of, where groups are made of what lies somewhere."""
        needed = {node for node in self.emitter.captured.trained_gradients if node is not None}
        for node in reversed(self.emitter.pieces.weights):
            if node in needed:
                group = self.group_of.get(node)
                needed |= {*node.all_input_nodes} if group is None else {group.rows} - {None}  # type: ignore[operator]
        return needed

    def _group(self, group: _Group, needed: set[fx.Node]) -> list[str]:
        """Its parts are tensors of their own to autograd, though they share memory."""
        emitter = self.emitter
        names = [emitter.names[emitter.named(node)] for node in group.nodes]
        emitter.local |= {*group.nodes}
        self.wholes[group] = whole = f"{names[0]}_all"
        given = emitter.whole(group.place)
        made = (
            f"{given}.sum(0, True)" if group.rows is None else f"whole_mm({given}.t(), {emitter.operand(group.rows)})"
        )
        lines = [f"        {whole} = {made}"]
        users = {user for node in group.nodes for user in node.users if user in needed or user.op == "output"}
        if not all(map(self._reads_parts, users)):
            split = f"torch.unsafe_split_with_sizes({whole}, {group.widths}, {group.axis})"
            lines.append(f"        {', '.join(names)} = {split}")
        return lines

    def _reads_parts(self, user: fx.Node) -> bool:
        """Does it put parts of one group together (what was taken apart by unpack.py)?"""
        if user.target is not aten.cat.default:
            return False
        groups = {self.group_of.get(part) for part in user.all_input_nodes}
        (group, *others) = groups
        return group is not None and not others and bool(user.args[1] == group.axis)

    def _from_parts(self, node: fx.Node) -> str:
        if not self._reads_parts(node):
            return ""
        parts: Any = node.args[0]
        group, spans = self.group_of[parts[0]], self.group_of[parts[0]].spans(parts)
        whole = self.wholes[group]
        if spans == [(0, sum(group.widths))] and all(len(part.users) == 1 for part in parts):
            return whole
        rows = "" if group.axis == 0 else ":, "
        return f"torch.cat(({''.join(f'{whole}[{rows}{low}:{high}], ' for low, high in spans)}), {group.axis})"
