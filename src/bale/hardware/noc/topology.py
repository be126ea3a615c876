"""How are a chip's routers connected, and which way does a number take from one to another?

Dimension order (XY): first along the row, then along the column. Router n stands in row n // columns, column
n % columns. Link 4 n + d leaves router n in direction d: 0 east, 1 west, 2 south (the next row), 3 north.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bale.errors import BaleError
from bale.hardware.chip import Chip

DIRECTIONS = 4
EAST, WEST, SOUTH, NORTH = range(DIRECTIONS)


@dataclass(frozen=True)
class Mesh:
    """`rows` x `columns` routers, each linked with its neighbours both ways; a torus: those at the rims too.

    On a torus a number takes the shorter way round, where both are as long that to the east or south. Raises
    `BaleError` for a mesh without routers.
    """

    columns: int
    rows: int
    torus: bool = False

    def __post_init__(self) -> None:
        for name in ("columns", "rows"):
            if getattr(self, name) < 1:
                raise BaleError(f"{name}: a mesh has at least 1, got {getattr(self, name)}")

    @property
    def nodes(self) -> int:
        """Routers."""
        return self.columns * self.rows

    def hops(self, a: int, b: int) -> int:
        """Links from router `a` to router `b`; 0 on the same."""
        return int(self.distances(np.asarray(a), np.asarray(b)))

    def distances(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """`hops` from routers `a` to routers `b`, pair by pair."""
        along, down = self._ways(a, b)
        return np.abs(along) + np.abs(down)

    def hop_matrix(self) -> np.ndarray:
        """int64 [nodes, nodes], `hops` of all pairs."""
        node = np.arange(self.nodes)
        return self.distances(node[:, None], node[None, :])

    def route(self, a: int, b: int) -> tuple[int, ...]:
        """The routers from `a` to `b`, both included."""
        along, down = self._way(a, b)
        row, column = divmod(a, self.columns)
        nodes = [row * self.columns + (column + step) % self.columns for step in _walk(along)]
        nodes += [(row + step) % self.rows * self.columns + b % self.columns for step in _walk(down)[1:]]
        return tuple(nodes)

    def links(self, a: int, b: int) -> tuple[int, ...]:
        """The links of the route from `a` to `b`, in their order."""
        along, down = self._way(a, b)
        directions = [EAST if along > 0 else WEST] * abs(along) + [SOUTH if down > 0 else NORTH] * abs(down)
        nodes = self.route(a, b)[:-1]
        return tuple(DIRECTIONS * node + direction for node, direction in zip(nodes, directions, strict=True))

    def directions(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The direction of the first link from each of `a` to each of `b`; -1 on the same router."""
        along, down = self._ways(a, b)
        first = np.where(along > 0, EAST, WEST)
        return np.where(along != 0, first, np.where(down > 0, SOUTH, np.where(down < 0, NORTH, -1)))

    def tree(self, a: int, to: Sequence[int]) -> frozenset[int]:
        """The links of all routes from `a` to the routers `to`: a tree, as each router is reached by one way only."""
        return frozenset(link for b in to for link in self.links(a, b))

    def neighbours(self) -> np.ndarray:
        """int64 [nodes, 4]: the router that each link leads to; -1: no link."""
        node = np.arange(self.nodes)
        row, column = np.divmod(node, self.columns)
        found = np.empty((self.nodes, DIRECTIONS), np.int64)
        for direction, (down, along) in enumerate(((0, 1), (0, -1), (1, 0), (-1, 0))):
            rows, columns = row + down, column + along
            inside = (rows >= 0) & (rows < self.rows) & (columns >= 0) & (columns < self.columns)
            beyond = rows % self.rows * self.columns + columns % self.columns
            there = (inside | self.torus) & (beyond != node)
            found[:, direction] = np.where(there, beyond, -1)
        return found

    def snake(self) -> np.ndarray:
        """int64 [nodes]: the routers row by row, every other one backwards: each is the next one's neighbour."""
        nodes = np.arange(self.nodes).reshape(self.rows, self.columns)
        nodes[1::2] = nodes[1::2, ::-1]
        return nodes.reshape(-1)

    def _way(self, a: int, b: int) -> tuple[int, int]:
        along, down = self._ways(np.asarray(a), np.asarray(b))
        return int(along), int(down)

    def _ways(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Steps along the row, negative ones to the west, and then along the column, negative ones to the north."""
        (row, column), (to_row, to_column) = np.divmod(a, self.columns), np.divmod(b, self.columns)
        return self._shorter(to_column - column, self.columns), self._shorter(to_row - row, self.rows)

    def _shorter(self, ahead: np.ndarray, size: int) -> np.ndarray:
        """The steps `ahead`, or on a torus those the other way round where they are fewer."""
        if not self.torus:
            return ahead
        ahead = ahead % size
        return np.where(2 * ahead <= size, ahead, ahead - size)


def mesh_of(chip: Chip, torus: bool = False) -> Mesh:
    """The routers of a chip, as square a mesh as holds them all."""
    routers = chip.places("router")
    columns = int(np.ceil(np.sqrt(routers)))
    return Mesh(columns, -(-routers // columns), torus)


def _walk(steps: int) -> list[int]:
    """0, 1, ..., steps, or 0, -1, ..., steps."""
    return list(range(steps + 1)) if steps >= 0 else list(range(0, steps - 1, -1))
