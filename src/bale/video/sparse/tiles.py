"""Which tiles of a map are active, and how do they come from one map and get into another?

An index layer turns a mask into the places of active tiles, once for all layers of one resolution; a layer gathers what
those tiles read, halo included, convolves them as one batch (convolution.py) and scatters the results (SSI's two parts;
Mao et al., TECS 2022; how tiles are cut is our reconstruction, after SBNet, Ren et al., CVPR 2018).

On a CPU the two copies are loops of our own: PyTorch's indexing takes two to three times as long on one thread, which
where maps are small is much of a layer's time, and tiles that the map's edges cut off would have to be written apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from torch import Tensor

from bale.errors import VideoError

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""As what values of so many bytes are copied: numba knows no bfloat16."""


@dataclass(frozen=True, eq=False)
class Tiles:
    """The index layer: which tiles of a map are active, `tile` x `tile` cells each.

    size           rows and columns of the map, cells
    ahead          how many rows and columns before the map the first tiles begin (`Window.ahead`)
    rows, columns  int64 [tiles]: where the active tiles are, in tiles
    """

    size: tuple[int, int]
    tile: int
    ahead: tuple[int, int]
    rows: np.ndarray
    columns: np.ndarray

    @staticmethod
    def of(active: np.ndarray, size: tuple[int, int], tile: int, ahead: tuple[int, int] = (0, 0)) -> Tiles:
        """Return the index of the tiles that are set in `active`, bool [rows of tiles, columns of tiles]."""
        grid = grid_of(size, tile, ahead)
        if active.shape != grid:
            raise VideoError(f"{active.shape} tiles: a map of {size} has {grid} of {tile} x {tile} cells")
        # In one piece each: of other arrays the loops would be compiled once more.
        rows, columns = map(np.ascontiguousarray, np.nonzero(active))
        return Tiles(size, tile, ahead, rows, columns)

    def __len__(self) -> int:
        return len(self.rows)


def grid_of(size: tuple[int, int], tile: int, ahead: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """Return how many rows and columns of tiles a map has, those that its edges cut off counted."""
    return -(-(size[0] + ahead[0]) // tile), -(-(size[1] + ahead[1]) // tile)


def gather(every_tile: Tensor, tiles: Tiles) -> Tensor:
    """Return the active ones of `overlapping` tiles (maps.py): [tiles, rows, columns, channels], in one piece."""
    grid = grid_of(tiles.size, tiles.tile, tiles.ahead)
    if every_tile.shape[:2] != grid:  # the loops read wherever they are told to
        raise VideoError(f"there are {list(every_tile.shape[:2])} tiles to gather from, the index is of {list(grid)}")
    if not _by_loops(every_tile):
        return every_tile[_on(every_tile, tiles.rows), _on(every_tile, tiles.columns)]
    gathered = every_tile.new_empty(len(tiles), *every_tile.shape[2:])
    lines, places, channels = gathered.shape[1:]
    strides = every_tile.stride()
    if strides[3] == channels:  # a line is one piece of memory
        places, channels = 1, places * channels
    to = _bits(gathered).reshape(-1, lines, places, channels)
    memory, begin = _memory(every_tile), every_tile.storage_offset()
    _gather(memory, begin, strides[:2], strides[2:4], tiles.rows, tiles.columns, to)
    return gathered


def scatter(values: Tensor, tiles: Tiles, target: Tensor) -> None:
    """Write tiles, [tiles, tile, tile, channels], to their places in `target`, [rows, columns, channels].

    What of a tile lies beyond the edges of the map is left out.
    """
    shape = (len(tiles), tiles.tile, tiles.tile, target.shape[2])
    if values.shape != shape or target.shape[:2] != tiles.size:
        raise VideoError(
            f"tiles of {list(shape)}, of a map of {list(tiles.size)}, cannot be {list(values.shape)}, "
            f"or written to a map of {list(target.shape[:2])}"
        )
    if not _by_loops(target):
        _scatter_by_index(values, tiles, target)
        return
    memory, begin = _memory(target), target.storage_offset()
    _scatter(_bits(values.contiguous()), tiles.rows, tiles.columns, tiles.size, tiles.ahead, memory, begin,
             target.stride()[:2])  # fmt: skip


def _by_loops(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.stride(-1) == 1


def _memory(tensor: Tensor) -> np.ndarray:
    """Return all of the memory that a tensor is a view of."""
    values = tensor.untyped_storage().nbytes() // tensor.element_size()
    return _bits(tensor.as_strided((values,), (1,), 0))


def _bits(tensor: Tensor) -> np.ndarray:
    """Return a tensor's values as integers of their size."""
    return tensor.detach().view(_BITS[tensor.element_size()]).numpy()


@njit(cache=True, nogil=True)
def _gather(memory, begin, steps, strides, rows, columns, gathered):
    # memory [values]; steps from tile to tile, strides from line to line and from place to place, values;
    # gathered [tiles, lines, places, channels]
    tiles, lines, places, channels = gathered.shape
    for tile in range(tiles):
        first = begin + rows[tile] * steps[0] + columns[tile] * steps[1]
        for line in range(lines):
            at = first + line * strides[0]
            for place in range(places):
                gathered[tile, line, place, :] = memory[at : at + channels]
                at += strides[1]


@njit(cache=True, nogil=True)
def _scatter(values, rows, columns, size, ahead, memory, begin, strides):
    # values [tiles, tile, tile, channels]; memory [values], in which a map of `size` begins at `begin`
    tiles, side, _, channels = values.shape
    for tile in range(tiles):
        top, left = rows[tile] * side - ahead[0], columns[tile] * side - ahead[1]
        for row in range(max(top, 0), min(top + side, size[0])):
            for column in range(max(left, 0), min(left + side, size[1])):
                at = begin + row * strides[0] + column * strides[1]
                memory[at : at + channels] = values[tile, row - top, column - left]


def _scatter_by_index(values: Tensor, tiles: Tiles, target: Tensor) -> None:
    cells = torch.arange(tiles.tile, device=target.device)
    down = (_on(target, tiles.rows) * tiles.tile - tiles.ahead[0])[:, None] + cells  # [tiles, rows of a tile]
    across = (_on(target, tiles.columns) * tiles.tile - tiles.ahead[1])[:, None] + cells
    in_rows, in_columns = (down >= 0) & (down < tiles.size[0]), (across >= 0) & (across < tiles.size[1])
    tile, row, column = (in_rows[:, :, None] & in_columns[:, None, :]).nonzero(as_tuple=True)
    target[down[tile, row], across[tile, column]] = values[tile, row, column]


def _on(like: Tensor, places: np.ndarray) -> Tensor:
    return torch.from_numpy(places).to(like.device)
