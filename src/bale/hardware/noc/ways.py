"""From which router to which others does something go, and over which links?

A way has one source and one destination (unicast) or several (multicast): the routes to them are a tree, whose links
the destinations share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bale.errors import BaleError
from bale.hardware.noc.topology import DIRECTIONS, Mesh

HERE = DIRECTIONS  # the bit of a router that is a destination


@dataclass(frozen=True, eq=False)
class Ways:
    """Way w goes from router `source[w]` to the routers `to[start[w] : start[w + 1]]`, none of them twice."""

    source: np.ndarray  # int64 [ways]
    start: np.ndarray  # int64 [ways + 1]
    to: np.ndarray  # int64 [destinations of all ways]

    def __len__(self) -> int:
        return len(self.source)

    @staticmethod
    def of(ways: Iterable[tuple[int, Sequence[int]]]) -> Ways:
        """From (source, destinations) each. Raises `BaleError` for a way that leads nowhere."""
        ways = [(source, sorted(set(to))) for source, to in ways]
        for index, (source, to) in enumerate(ways):
            if not to:
                raise BaleError(f"way {index}, from {source}: has no destination")
        start = np.cumsum([0, *(len(to) for _, to in ways)])
        source = np.array([source for source, _ in ways], np.int64)
        return Ways(source, start.astype(np.int64), np.array([b for _, to in ways for b in to], np.int64))

    @staticmethod
    def pairs(source: np.ndarray, to: np.ndarray) -> Ways:
        """Of one destination each."""
        return Ways(source.astype(np.int64), np.arange(len(source) + 1), to.astype(np.int64))

    @staticmethod
    def joined(many: Sequence[Ways]) -> Ways:
        """All ways of several, in their order."""
        sizes = np.concatenate([np.diff(ways.start) for ways in many])
        return Ways(
            np.concatenate([ways.source for ways in many]),
            np.cumsum(np.concatenate([[0], sizes])),
            np.concatenate([ways.to for ways in many]),
        )

    def unicast(self) -> tuple[Ways, np.ndarray]:
        """A way for each destination, and which way it was."""
        way = np.repeat(np.arange(len(self)), np.diff(self.start))
        return Ways.pairs(self.source[way], self.to), way

    def placed(self, router: np.ndarray) -> Ways:
        """The same ways where what was called i is at `router[i]`; two destinations at the same are one."""
        if len(self.to) == len(self):
            return Ways.pairs(router[self.source], router[self.to])
        ends = zip(self.start[:-1], self.start[1:], strict=True)
        to = [router[self.to[low:high]].tolist() for low, high in ends]
        return Ways.of(zip(router[self.source].tolist(), to, strict=True))

    def trees(self, mesh: Mesh) -> np.ndarray:
        """uint8 [ways, nodes]: at each router, a bit for each direction in which it goes on, and 16 at a destination.

        Raises `BaleError` for routers that the mesh does not have.
        """
        for nodes in (self.source, self.to):
            if len(nodes) and not (nodes.min() >= 0 and nodes.max() < mesh.nodes):
                raise BaleError(f"routers {nodes.min()} to {nodes.max()}: the mesh has 0 to {mesh.nodes - 1}")
        found = np.zeros((len(self), mesh.nodes), np.uint8)
        neighbours = mesh.neighbours()
        single, way = self.unicast()
        at, to = single.source.copy(), self.to
        found[way, to] |= 1 << HERE
        going = np.flatnonzero(at != to)
        while len(going):  # all a link further, the longest way's number of times
            direction = mesh.directions(at[going], to[going])
            np.bitwise_or.at(found, (way[going], at[going]), (1 << direction).astype(np.uint8))
            at[going] = neighbours[at[going], direction]
            going = going[at[going] != to[going]]
        return found

    def link_counts(self, mesh: Mesh) -> np.ndarray:
        """int64 [ways]: links of each way, shared ones once."""
        return self.link_table(mesh).sum(axis=(1, 2), dtype=np.int64)

    def link_table(self, mesh: Mesh) -> np.ndarray:
        """bool [ways, nodes, 4]: is a link part of a way?"""
        return (self.trees(mesh)[:, :, None] >> np.arange(DIRECTIONS, dtype=np.uint8) & 1).astype(bool)
