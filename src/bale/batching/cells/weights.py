"""Weights: which gradients of weights are parts of one product, or of one sum, over the rows of all batches?

Those of one operand whose gradients lie side by side. A gradient of a weight is then some rows of the product, and no
two have an element in common: whoever owns one may write into it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from torch import fx

from bale.batching.cells.kinds import width
from bale.batching.cells.places import Place, Places, place_of
from bale.batching.cells.together import weight_gradient


@dataclass(frozen=True, eq=False)
class WeightGroup:
    """`nodes` are the rows of t(what lies at `place`) @ rows, one after another; or, without `rows`, of its sum."""

    nodes: tuple[fx.Node, ...]
    rows: fx.Node | None
    place: Place
    widths: tuple[int, ...]


def weight_groups(places: Places) -> list[WeightGroup]:
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
    for (rows, _), members in found.items():
        members.sort(key=lambda member: member[0].column)
        run: list[tuple[Place, fx.Node]] = []
        for place, node in [*members, (None, None)]:
            if place is not None and (not run or run[-1][0].column + run[-1][0].width == place.column):
                run.append((place, node))  # type: ignore[arg-type]
                continue
            if len(run) > 1:
                widths = tuple(at.width for at, _ in run)
                whole = Place(run[0][0].home, run[0][0].column, sum(widths))
                groups.append(WeightGroup(tuple(member for _, member in run), rows, whole, widths))
            run = [] if place is None else [(place, node)]  # type: ignore[list-item]
    return groups
