"""Overlay: which buffers of the backward run may lie over buffers of the forward run?

The gradients of a cell's gates are as wide as the gates, and the kernel that computes them is mostly the last to read
those: written where the gates lie, they take no memory of their own. It is right where one kernel both stores all that
the later buffer holds and is the only one that reads the earlier one in the backward run, at the same elements; an
element is loaded before it is stored, and no other iteration reads it.

What is overwritten is gone: whoever runs backward a second time must have kept a copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import fx

from bale.batching.cells.kinds import width
from bale.batching.cells.places import Place, Places, needed_whole, place_of


def overlay(places: Places) -> None:
    """Lay what can over what is there; the numbers of buffers close up. `places.overwritten` names the earlier ones."""
    over: dict[int, int] = {}
    for number, wide in enumerate(places.buffers):
        kernel = _only_writer(places, number)
        if kernel is None:
            continue
        for earlier, width_there in enumerate(places.buffers):
            free = earlier not in over and earlier not in over.values()
            if free and width_there == wide and _is_last_read_by(places, earlier, kernel):
                over[number] = earlier
                break
    kept = [number for number in range(len(places.buffers)) if number not in over]
    new = {number: kept.index(over.get(number, number)) for number in range(len(places.buffers))}

    def moved(place: Place) -> Place:
        kind, number = place.home
        return replace(place, home=(kind, new[number])) if kind == "buffer" else place

    places.of = {node: [moved(place) for place in at] for node, at in places.of.items()}
    for accesses in (places.columns, places.gradients):
        accesses[:] = [moved(access) if isinstance(access, Place) else access for access in accesses]
    places.buffers = [places.buffers[number] for number in kept]
    places.overwritten = sorted(new[earlier] for earlier in over.values())


def _within(places: Places, number: int) -> list[tuple[fx.Node, Place]]:
    return [(node, place) for node, at in places.of.items() for place in at if place.home == ("buffer", number)]


def _only_writer(places: Places, number: int) -> int | None:
    """The kernel of the backward run that stores everything in this buffer, a whole width beside the other; or None."""
    backward = set(places.pieces.backward)
    kernels = set()
    for node, place in _within(places, number):
        if places.kind.get(node) == "cat" and node in backward:
            continue  # its parts are what is written
        if places.kind.get(node) != "pointwise" or node not in backward or not _is_aligned(place, width(node)):
            return None
        kernels.add(places.group[node])
    return kernels.pop() if len(kernels) == 1 else None


def _is_last_read_by(places: Places, number: int, kernel: int) -> bool:
    """Does the backward run read this buffer of the forward run in this kernel only, if at all?"""
    forward, whole = set(places.pieces.forward), needed_whole(places)
    members = [node for node, group in places.group.items() if group == kernel]
    wide = width(members[0])
    for node, _ in _within(places, number):
        if node not in forward or node in whole:
            return False
        for source, user in _readers(places, node):
            if user in forward:
                continue
            place = place_of(source, places)
            if places.group.get(user) != kernel or place is None or not _is_aligned(place, wide):
                return False
    return True


def _readers(places: Places, node: fx.Node) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Who reads a value, and as which slice of it."""
    for user in node.users:
        if places.kind.get(user) == "slice":
            yield from _readers(places, user)
        else:
            yield node, user


def _is_aligned(place: Place, wide: int | None) -> bool:
    return place.width == wide and wide is not None and place.column % wide == 0
