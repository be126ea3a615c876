"""How is a convolution computed on some tiles of its output only?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bale.errors import VideoError
from bale.video.sparse.copies import Gather, Scatter
from bale.video.sparse.maps import Bordered, border_for, overlapping
from bale.video.sparse.mask import Window, Windows
from bale.video.sparse.tiles import Tiles

Activation = Callable[[Tensor], Tensor]


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
    kernel = Kernel.of(weight, bias, (down, across), groups, activation, tiles.of.tile)
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
    tiling = tiles.of
    if tiling.tile % stride or tiling.ahead != (padding % stride,) * 2:
        raise VideoError(
            f"tiles of {tiling.tile} cells, {tiling.ahead} ahead: a transposed convolution of stride {stride} needs a "
            f"multiple of it, {padding % stride} ahead"
        )
    down, across = (Window(taps, stride, padding, transposed=True) for taps in weight.shape[2:])
    kernel = Kernel.of(weight, bias, (down, across), groups, activation, tiling.tile)
    return _on_tensors(x, kernel, tiles, out)


def _on_tensors(x: Tensor, kernel: Kernel, tiles: Tiles, out: Tensor) -> Tensor:
    tiling, size = tiles.of, (x.shape[2], x.shape[3])
    expected = tuple(window.outputs(cells) for window, cells in zip(kernel.windows, size, strict=True))
    if x.shape[0] != 1 or tuple(out.shape[2:]) != expected or tiling.size != expected:
        raise VideoError(
            f"x {tuple(x.shape)} makes one map of {expected}; out is {tuple(out.shape)}, the tiles are of {tiling.size}"
        )
    if len(tiles):
        source = Bordered.zeros(x.shape[1], size, border_for(kernel.windows, size, tiling.tile), like=x)
        source.inside.copy_(x[0].permute(1, 2, 0))
        gathered = Gather.of(tiling, overlapping(source, kernel.windows, tiling))(tiles)
        Scatter.of(tiling, out[0].permute(1, 2, 0))(kernel.on_tiles(gathered), tiles)
    return out
