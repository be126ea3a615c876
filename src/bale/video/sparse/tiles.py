"""How is a convolution computed on some tiles of its output only?

An index layer turns a mask into the places of active tiles, once for all layers of one resolution; a layer gathers what
those tiles read, halo included, convolves them as one batch and scatters the results (SSI's two parts; Mao et al., TECS
2022; how tiles are cut is our reconstruction, after SBNet, Ren et al., CVPR 2018).

Maps lie as [rows, columns, channels]: a row of a tile is then one piece of memory, and the gathered batch is what
PyTorch calls channels last, the layout in which oneDNN convolves small maps fastest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bale.errors import VideoError
from bale.video.sparse.mask import Window

Activation = Callable[[Tensor], Tensor]
Windows = tuple[Window, Window]
"""Down and across."""


@dataclass(frozen=True, eq=False)
class Part:
    """Active tiles of which the edges of the map leave the same: all, in the middle, or what an edge or two cut off.

    first          row and column of the map where the first of them would begin, cells
    skip, shape    how many rows and columns of a tile lie before the map, and how many then in it
    which          int64 [tiles of the part]: their places among all active tiles; None: they are all of them
    rows, columns  int64 [tiles of the part]: where they are, in tiles, from `first` on
    """

    first: tuple[int, int]
    skip: tuple[int, int]
    shape: tuple[int, int]
    which: Tensor | None
    rows: Tensor
    columns: Tensor


@dataclass(frozen=True, eq=False)
class Tiles:
    """The index layer: which tiles of a map are active, `tile` x `tile` cells each.

    size           rows and columns of the map, cells
    ahead          how many rows and columns before the map the first tiles begin (`Window.ahead`)
    rows, columns  int64 [tiles]: where the active tiles are, in tiles
    parts          the same tiles by shape
    """

    size: tuple[int, int]
    tile: int
    ahead: tuple[int, int]
    rows: Tensor
    columns: Tensor
    parts: tuple[Part, ...]

    @staticmethod
    def of(
        active: np.ndarray,
        size: tuple[int, int],
        tile: int,
        ahead: tuple[int, int] = (0, 0),
        device: torch.device | str = "cpu",
    ) -> Tiles:
        """Return the index of the tiles that are set in `active`, bool [rows of tiles, columns of tiles]."""
        grid = grid_of(size, tile, ahead)
        if active.shape != grid:
            raise VideoError(f"{active.shape} tiles: a map of {size} has {grid} of {tile} x {tile} cells")
        rows, columns = np.nonzero(active)
        parts = []
        for down in _segments(size[0], tile, ahead[0]):
            for across in _segments(size[1], tile, ahead[1]):
                which = np.flatnonzero(down.holds(rows) & across.holds(columns))
                if not which.size:
                    continue
                parts.append(
                    Part(
                        first=(down.cell, across.cell),
                        skip=(down.skip, across.skip),
                        shape=(down.cells, across.cells),
                        which=None if which.size == rows.size else torch.from_numpy(which).to(device),
                        rows=torch.from_numpy(rows[which] - down.tile).to(device),
                        columns=torch.from_numpy(columns[which] - across.tile).to(device),
                    )
                )
        rows, columns = torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device)
        return Tiles(size, tile, ahead, rows, columns, tuple(parts))

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class _Segment:
    """`count` tiles in a row along one axis, from the tile `tile` on, of each of which `cells` lie in the map: those
    after the first `skip`, and of the first tile from the map's `cell` on."""

    tile: int
    count: int
    cell: int
    skip: int
    cells: int

    def holds(self, tiles: np.ndarray) -> np.ndarray:
        return (tiles >= self.tile) & (tiles < self.tile + self.count)


def _segments(cells: int, tile: int, ahead: int) -> list[_Segment]:
    segments, done = [], 0
    if ahead:
        segments.append(_Segment(0, 1, 0, ahead, min(tile - ahead, cells)))
        done = 1
    whole = (cells + ahead) // tile - done
    if whole > 0:
        segments.append(_Segment(done, whole, done * tile - ahead, 0, tile))
        done += whole
    if done * tile - ahead < cells:
        segments.append(_Segment(done, 1, done * tile - ahead, 0, (cells + ahead) % tile))
    return segments


def grid_of(size: tuple[int, int], tile: int, ahead: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """Return how many rows and columns of tiles a map has, those that its edges cut off counted."""
    return -(-(size[0] + ahead[0]) // tile), -(-(size[1] + ahead[1]) // tile)


@dataclass(frozen=True, eq=False)
class Bordered:
    """A map inside a border of zeros, so that a tile and its halo are a view of it, at the edges too.

    memory   float [before + rows + after, before + columns + after, channels]
    before   cells of the border above and on the left
    size     rows and columns of the map
    """

    memory: Tensor
    before: int
    size: tuple[int, int]

    @staticmethod
    def zeros(channels: int, size: tuple[int, int], border: tuple[int, int], like: Tensor) -> Bordered:
        """Return a map of zeros; `border` is before and after, `like` gives type and device."""
        rows, columns = (border[0] + each + border[1] for each in size)
        return Bordered(like.detach().new_zeros(rows, columns, channels), border[0], size)

    @property
    def inside(self) -> Tensor:
        """The map, [rows, columns, channels]; a view."""
        rows, columns = self.size
        return self.memory[self.before : self.before + rows, self.before : self.before + columns]

    def channels(self, first: int, count: int) -> Bordered:
        """Return some of the channels; a view."""
        return Bordered(self.memory.narrow(2, first, count), self.before, self.size)


def border_for(windows: Windows, size: tuple[int, int], tile: int) -> tuple[int, int]:
    """Return the border, before and after, that a map of `size` needs for the tiles of its reader to lie in it."""
    before = after = 0
    for window, inputs in zip(windows, size, strict=True):
        covered = -(-(window.outputs(inputs) + window.ahead) // tile) * tile
        first, count = window.reads(-window.ahead, covered)
        before, after = max(before, -first), max(after, first + count - inputs)
    return before, after


def overlapping(source: Bordered, windows: Windows, tile: int, size: tuple[int, int]) -> Tensor:
    """Return what each tile of an output of `size` reads: [tile rows, tile columns, rows, columns, channels], a view.

    Neighbours overlap by the halo, so it is not to be written to.
    """
    memory, strides = source.memory, source.memory.stride()
    begin, steps, counts = memory.storage_offset(), [], []
    for axis, window in enumerate(windows):
        first, count = window.reads(-window.ahead, tile)
        begin += (source.before + first) * strides[axis]
        steps.append((window.reads(tile - window.ahead, tile)[0] - first) * strides[axis])
        counts.append(count)
    grid = grid_of(size, tile, (windows[0].ahead, windows[1].ahead))
    return memory.as_strided((*grid, *counts, memory.shape[2]), (*steps, *strides), begin)


def gather(every_tile: Tensor, tiles: Tiles) -> Tensor:
    """Return the active ones of `overlapping` tiles, [tiles, rows, columns, channels], one piece of memory."""
    return every_tile[tiles.rows, tiles.columns]


def scatter(values: Tensor, tiles: Tiles, target: Tensor) -> None:
    """Write tiles, [tiles, tile, tile, channels], to their places in `target`, [rows, columns, channels]."""
    strides = target.stride()
    for part in tiles.parts:
        (top, left), (above, before), (height, width) = part.first, part.skip, part.shape
        places = target.as_strided(
            ((tiles.size[0] - top) // height, (tiles.size[1] - left) // width, height, width, target.shape[2]),
            (height * strides[0], width * strides[1], *strides),
            target.storage_offset() + top * strides[0] + left * strides[1],
        )
        chosen = values if part.which is None else values[part.which]
        if height != tiles.tile or width != tiles.tile:
            chosen = chosen[:, above : above + height, before : before + width]
        places[part.rows, part.columns] = chosen


@dataclass(frozen=True, eq=False)
class Kernel:
    """A convolution, or a transposed one, for tiles of one side, and what follows it cell by cell, perhaps in place.

    weight, bias            as PyTorch has them
    tile_weight, tile_bias  with which gathered tiles are convolved: the same; of a transposed one, `_sub_pixel`
    as_matrix               the weight as [filters, taps * channels], where a tile is so small that it is a product of
                            matrices: one cell, or of a transposed convolution the cells of one stride
    """

    weight: Tensor
    bias: Tensor | None
    windows: Windows
    groups: int
    activation: Activation | None
    tile: int
    tile_weight: Tensor
    tile_bias: Tensor | None
    as_matrix: Tensor | None

    @staticmethod
    def of(
        weight: Tensor,
        bias: Tensor | None,
        windows: Windows,
        groups: int,
        activation: Activation | None,
        tile: int,
    ) -> Kernel:
        """Return the kernel; a transposed convolution's tile must be a multiple of its stride."""
        tile_weight, tile_bias, single = weight, bias, tile == 1
        if windows[0].transposed:
            places = windows[0].stride * windows[1].stride
            tile_weight = _sub_pixel(weight, windows, groups)
            tile_bias = None if bias is None else bias.reshape(groups, 1, -1).repeat(1, places, 1).flatten()
            single = (tile, tile) == (windows[0].stride, windows[1].stride)
        tile_weight = tile_weight.contiguous(memory_format=torch.channels_last)
        whole = groups == 1 and windows[0].dilation == windows[1].dilation == 1
        as_matrix = tile_weight.permute(0, 2, 3, 1).flatten(1) if single and whole else None
        return Kernel(weight, bias, windows, groups, activation, tile, tile_weight, tile_bias, as_matrix)

    def on_tiles(self, gathered: Tensor) -> Tensor:
        """Return the outputs of gathered tiles, [tiles, tile, tile, filters]; they bring their padding along."""
        if self.as_matrix is not None:
            # oneDNN is slow at maps of one cell. What such a tile reads is one row of a matrix.
            made = self._finish(F.linear(gathered.flatten(1), self.as_matrix, self.tile_bias))
            return made.view(len(gathered), self.tile, self.tile, -1)
        transposed = self.windows[0].transposed
        stride, dilation = ((1, 1), (1, 1)) if transposed else self._pairs()
        x = gathered.permute(0, 3, 1, 2)
        made = F.conv2d(x, self.tile_weight, self.tile_bias, stride, 0, dilation, self.groups)
        made = self._finish(made).permute(0, 2, 3, 1)
        return self._spread(made) if transposed else made

    def _spread(self, made: Tensor) -> Tensor:
        """Return what `_sub_pixel` made, a stride's outputs in the channels of each place, each at its own place."""
        stride = self._pairs()[0]
        down, across = self.tile // stride[0], self.tile // stride[1]
        made = made.reshape(len(made), down, across, self.groups, *stride, -1)
        return made.permute(0, 1, 4, 2, 5, 3, 6).reshape(len(made), self.tile, self.tile, -1)

    def on_map(self, source: Bordered) -> Tensor:
        """Return all outputs, [1, filters, rows, columns]."""
        stride, dilation = self._pairs()
        down, across = self.windows
        if down.transposed:
            padding, extra = (down.padding, across.padding), (down.extra, across.extra)
            x = source.inside.permute(2, 0, 1)[None]
            return self._finish(
                F.conv_transpose2d(x, self.weight, self.bias, stride, padding, extra, self.groups, dilation)
            )
        # The border is the padding. Where it is no wider than that the map is read as it lies, without a copy.
        memory = source.memory
        for axis, window in enumerate(self.windows):
            first, count = window.reads(0, window.outputs(source.size[axis]))
            memory = memory.narrow(axis, source.before + first, count)
        x = memory.permute(2, 0, 1)[None]
        return self._finish(F.conv2d(x, self.weight, self.bias, stride, 0, dilation, self.groups))

    def _pairs(self) -> tuple[tuple[int, int], tuple[int, int]]:
        down, across = self.windows
        return (down.stride, across.stride), (down.dilation, across.dilation)

    def _finish(self, values: Tensor) -> Tensor:
        return values if self.activation is None else self.activation(values)


def _sub_pixel(weight: Tensor, windows: Windows, groups: int) -> Tensor:
    """Return the weight of the plain convolution of stride 1 that makes stride x stride outputs at each place at once.

    weight    of a transposed convolution, [channels, filters of a group, taps, taps]
    returned  [groups * stride * stride * filters of a group, channels of a group, places, places]; the places are those
              that `stride` outputs read

    oneDNN's transposed convolution is slow at small maps. Taps that an output lacks are zeros; none does where the
    stride divides the kernel, as in FlowNet-S.
    """
    channels, filters = weight.shape[0] // groups, weight.shape[1]
    down, across = windows
    (_, rows), (_, columns) = (window.reads(-window.ahead, window.stride) for window in windows)
    made = weight.new_zeros(groups, down.stride, across.stride, filters, channels, rows, columns)
    by_group = weight.reshape(groups, channels, filters, *weight.shape[2:]).transpose(1, 2)
    for output_row, row, tap_down in _taps(down):
        for output_column, column, tap_across in _taps(across):
            made[:, output_row, output_column, :, :, row, column] = by_group[..., tap_down, tap_across]
    return made.reshape(-1, channels, rows, columns)


def _taps(window: Window) -> list[tuple[int, int, int]]:
    """Return output, place read (from the first that is) and tap, for each of a stride's outputs and taps that meet."""
    first, count = window.reads(-window.ahead, window.stride)
    met = []
    for output in range(window.stride):
        for place in range(count):
            tap, rest = divmod(
                output - window.ahead + window.padding - (first + place) * window.stride, window.dilation
            )
            if not rest and 0 <= tap < window.kernel:
                met.append((output, place, tap))
    return met


def sparse_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: int,
    tiles: Tiles,
    out: Tensor,
    groups: int = 1,
    activation: Activation | None = None,
) -> Tensor:
    """Write the active tiles of `F.conv2d(x, weight, bias, stride, padding)` to `out`, and return it.

    x [1, channels, rows, columns]; out [1, filters, rows, columns of the output], elsewhere left as it is. What is
    written equals the dense convolution up to the order of its sums: oneDNN chooses another kernel for another size, so
    the last bits differ, by about 1e-6 of the largest value. Raises `VideoError` where sizes disagree. x is copied into
    a border here; a network keeps its maps in one (network.py).
    """
    down, across = (Window(taps, stride, padding) for taps in weight.shape[2:])
    kernel = Kernel.of(weight, bias, (down, across), groups, activation, tiles.tile)
    return _on_tensors(x, kernel, tiles, out)


def sparse_conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: int,
    tiles: Tiles,
    out: Tensor,
    groups: int = 1,
    activation: Activation | None = None,
) -> Tensor:
    """The same of `F.conv_transpose2d`.

    The tiles' side must be a multiple of the stride, and they begin `padding % stride` cells ahead of the map.
    """
    if tiles.tile % stride or tiles.ahead != (padding % stride,) * 2:
        raise VideoError(
            f"tiles of {tiles.tile} cells, {tiles.ahead} ahead: a transposed convolution of stride {stride} needs a "
            f"multiple of it, {padding % stride} ahead"
        )
    down, across = (Window(taps, stride, padding, transposed=True) for taps in weight.shape[2:])
    kernel = Kernel.of(weight, bias, (down, across), groups, activation, tiles.tile)
    return _on_tensors(x, kernel, tiles, out)


def _on_tensors(x: Tensor, kernel: Kernel, tiles: Tiles, out: Tensor) -> Tensor:
    size = (x.shape[2], x.shape[3])
    expected = tuple(window.outputs(cells) for window, cells in zip(kernel.windows, size, strict=True))
    if x.shape[0] != 1 or tuple(out.shape[2:]) != expected or tiles.size != expected:
        raise VideoError(
            f"x {tuple(x.shape)} makes one map of {expected}; out is {tuple(out.shape)}, the tiles are of {tiles.size}"
        )
    if len(tiles):
        source = Bordered.zeros(x.shape[1], size, border_for(kernel.windows, size, tiles.tile), like=x)
        source.inside.copy_(x[0].permute(1, 2, 0))
        every_tile = overlapping(source, kernel.windows, tiles.tile, tiles.size)
        scatter(kernel.on_tiles(gather(every_tile, tiles)), tiles, out[0].permute(1, 2, 0))
    return out
