"""How do active tiles come from one map, and get into another?

On a CPU by loops of our own: PyTorch's indexing takes several times as long, which where maps are small is much of a
layer's time, and tiles that the map's edges cut off would have to be written apart. What the loops need to know of maps
is found when a network is planned: between two convolutions, which fill the caches, little Python takes long.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from torch import Tensor

from bale.errors import VideoError
from bale.video.sparse.tiles import Tiles, Tiling

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""As what values of so many bytes are copied: numba knows no bfloat16."""


@dataclass(frozen=True, eq=False)
class Gather:
    """Copies what active tiles read side by side.

    tiling      of the map that the tiles are of
    every_tile  what each tile reads, `overlapping` (maps.py): [tile rows, tile columns, rows, columns, channels]
    gathered    [tiles, rows, columns, channels]: memory for all tiles, whose first ones a call overwrites and returns
    loop        what `_gather` is told of both; None: PyTorch's indexing copies, to new memory
    """

    tiling: Tiling
    every_tile: Tensor
    gathered: Tensor
    loop: tuple[np.ndarray, ...] | None

    @staticmethod
    def of(tiling: Tiling, every_tile: Tensor, memory: Tensor | None = None) -> Gather:
        """Return the copier.

        `memory`, of as many values as all tiles have or more, may be that of others as well: what each call returns is
        then good until any of them is called. None: its own.
        """
        if every_tile.shape[:2] != tiling.grid:  # the loops read wherever they are told to
            raise VideoError(
                f"there are {list(every_tile.shape[:2])} tiles to gather from, the map has {list(tiling.grid)}"
            )
        if not _by_loops(every_tile):
            return Gather(tiling, every_tile, every_tile.new_empty(0), None)
        memory = every_tile.new_empty(every_tile.numel()) if memory is None else memory[: every_tile.numel()]
        if memory.shape != (every_tile.numel(),) or memory.dtype != every_tile.dtype or not memory.is_contiguous():
            raise VideoError(f"{every_tile.numel()} values of {every_tile.dtype} do not fit {list(memory.shape)} of "
                             f"{memory.dtype}")  # fmt: skip
        gathered = memory.view(-1, *every_tile.shape[2:])
        lines, places, channels = every_tile.shape[2:]
        steps, strides = every_tile.stride()[:2], every_tile.stride()[2:4]
        if strides[1] == channels:  # a line is one piece of memory
            places, channels = 1, places * channels
        where = np.array([every_tile.storage_offset(), *steps, *strides, lines, places, channels])
        return Gather(tiling, every_tile, gathered, (where, _memory(every_tile), _bits(gathered).ravel()))

    def __call__(self, tiles: Tiles) -> Tensor:
        """Return what these tiles read, [tiles, rows, columns, channels], in one piece."""
        _check(tiles, self.tiling)
        if self.loop is None:
            return self.every_tile[_on(self.every_tile, tiles.rows), _on(self.every_tile, tiles.columns)]
        _gather(tiles.rows, tiles.columns, *self.loop)
        return self.gathered[: len(tiles)]


@dataclass(frozen=True, eq=False)
class Scatter:
    """Writes tiles to their places in a map; what of a tile lies beyond its edges is left out.

    tiling  of the map
    target  the map, [rows, columns, channels]
    loop    what `_scatter` is told of it; None: PyTorch's indexing copies
    """

    tiling: Tiling
    target: Tensor
    loop: tuple[np.ndarray, ...] | None

    @staticmethod
    def of(tiling: Tiling, target: Tensor) -> Scatter:
        """Return the copier."""
        if target.shape[:2] != tiling.size:
            raise VideoError(f"tiles of a map of {list(tiling.size)} cannot be written to {list(target.shape)}")
        if not _by_loops(target):
            return Scatter(tiling, target, None)
        rows, columns, channels = target.stride(0), target.stride(1), target.shape[2]
        where = [tiling.tile, *tiling.size, *tiling.ahead, target.storage_offset(), rows, columns, channels]
        return Scatter(tiling, target, (np.array(where), _memory(target)))

    def __call__(self, values: Tensor, tiles: Tiles) -> None:
        """Write `values`, [tiles, tile, tile, channels]."""
        _check(tiles, self.tiling)
        shape = (len(tiles), self.tiling.tile, self.tiling.tile, self.target.shape[2])
        if values.shape != shape:
            raise VideoError(f"values of {list(values.shape)}: {len(tiles)} tiles here are {list(shape)}")
        if self.loop is None:
            _scatter_by_index(values, tiles, self.target)
        else:
            _scatter(_bits(values.contiguous()).ravel(), tiles.rows, tiles.columns, *self.loop)


def _check(tiles: Tiles, tiling: Tiling) -> None:
    if tiles.of != tiling:
        raise VideoError(f"an index of {tiles.of}, where it must be of {tiling}")


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
def _gather(rows, columns, where, memory, gathered):
    # where: the first tile's begin in memory, the steps from tile to tile down and across, the strides from line to
    # line and from place to place, and how many lines, places and channels a tile has
    begin, down, across, line_stride, place_stride, lines, places, channels = where
    to = 0
    for tile in range(len(rows)):
        first = begin + rows[tile] * down + columns[tile] * across
        for line in range(lines):
            for place in range(places):
                _copy(memory, first + line * line_stride + place * place_stride, gathered, to, channels)
                to += channels


@njit(cache=True, nogil=True)
def _scatter(values, rows, columns, where, memory):
    # where: a tile's side; the map's height, width, and how far ahead of it tiles begin; its begin in memory, the
    # strides from row to row and from column to column, and how many channels it has
    side, height, width, above, before, begin, row_stride, column_stride, channels = where
    for tile in range(len(rows)):
        top, left = rows[tile] * side - above, columns[tile] * side - before
        for row in range(max(top, 0), min(top + side, height)):
            for column in range(max(left, 0), min(left + side, width)):
                at = ((tile * side + row - top) * side + column - left) * channels
                _copy(values, at, memory, begin + row * row_stride + column * column_stride, channels)


@njit(cache=True, nogil=True)
def _copy(source, at, target, to, count):
    # Signed indices might count from the end: numba asks that of each, and vectorizes nothing; that takes four times
    # as long.
    at, to = np.uint64(at), np.uint64(to)
    for value in range(np.uint64(count)):
        target[to + value] = source[at + value]


def _scatter_by_index(values: Tensor, tiles: Tiles, target: Tensor) -> None:
    tile, ahead, size = tiles.of.tile, tiles.of.ahead, tiles.of.size
    cells = torch.arange(tile, device=target.device)
    down = (_on(target, tiles.rows) * tile - ahead[0])[:, None] + cells  # [tiles, rows of a tile]
    across = (_on(target, tiles.columns) * tile - ahead[1])[:, None] + cells
    in_rows, in_columns = (down >= 0) & (down < size[0]), (across >= 0) & (across < size[1])
    each, row, column = (in_rows[:, :, None] & in_columns[:, None, :]).nonzero(as_tuple=True)
    target[down[each, row], across[each, column]] = values[each, row, column]


def _on(like: Tensor, places: np.ndarray) -> Tensor:
    return torch.from_numpy(places).to(like.device)
