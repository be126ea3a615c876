"""How is a map cut into tiles, and which of them are active?

An index layer turns a mask into the places of active tiles, once for all layers of one resolution; a layer gathers what
those tiles read, halo included, convolves them as one batch (convolution.py) and scatters the results (copies.py; SSI's
two parts; Mao et al., TECS 2022; how tiles are cut is our reconstruction, after SBNet, Ren et al., CVPR 2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bale.errors import VideoError


@dataclass(frozen=True)
class Tiling:
    """A map cut into tiles.

    size   rows and columns of the map, cells
    tile   side of a tile, cells
    ahead  how many rows and columns before the map the first tiles begin (`Window.ahead`)
    """

    size: tuple[int, int]
    tile: int
    ahead: tuple[int, int] = (0, 0)

    @property
    def grid(self) -> tuple[int, int]:
        """How many rows and columns of tiles there are, those that the map's edges cut off counted."""
        down, across = (-(-(cells + ahead) // self.tile) for cells, ahead in zip(self.size, self.ahead, strict=True))
        return down, across

    def index(self, active: np.ndarray) -> Tiles:
        """Return the index of the tiles that are set in `active`, bool [rows of tiles, columns of tiles]."""
        if active.shape != self.grid:
            raise VideoError(
                f"{active.shape} tiles: a map of {self.size} has {self.grid} of {self.tile} x {self.tile} cells"
            )
        # In one piece each: of other arrays the loops would be compiled once more.
        rows, columns = map(np.ascontiguousarray, np.nonzero(active))
        return Tiles(self, rows, columns)


@dataclass(frozen=True, eq=False)
class Tiles:
    """The index layer: which tiles of a map are active.

    rows, columns  int64 [tiles]: where they are, in tiles
    """

    of: Tiling
    rows: np.ndarray
    columns: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)
