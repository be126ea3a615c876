"""Where does each value of a network lie, and what does each layer need to know before it runs at one size?

Values that a layer joins along the channels lie side by side in one map, so that joining costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from bale.errors import VideoError
from bale.video.sparse.convolution import Kernel
from bale.video.sparse.copies import Gather, Scatter
from bale.video.sparse.layer import INPUT, Layer
from bale.video.sparse.maps import Bordered, border_for, overlapping
from bale.video.sparse.mask import Spans, windows_of
from bale.video.sparse.tiles import Tiling

LEAST = 4
"""Side of the smallest tile that is run as a convolution."""

Axes = tuple[Spans, Spans]
"""Down and across."""


@dataclass(frozen=True, eq=False)
class Source:
    """What a layer reads.

    map     all of it
    pieces  where what it joins lies apart: those maps, to be copied together into `map` first
    """

    map: Bordered
    pieces: tuple[Bordered, ...]

    def join(self) -> None:
        """Copy the pieces together, if there are any."""
        first = 0
        for piece in self.pieces:
            self.map.inside.narrow(2, first, piece.memory.shape[2]).copy_(piece.inside)
            first += piece.memory.shape[2]


@dataclass(frozen=True, eq=False)
class Step:
    """A layer at one size.

    tiling          of its output
    source, target  what it reads and writes
    gather          copies what its tiles read from `source`
    scatter         writes its tiles to `target`
    cell            side of its outputs' cells, cells of the network's input
    blocks          the blocks of a mask that each row and column of its tiles asks about
    macs            multiply-accumulates of all of its output
    """

    name: str
    kernel: Kernel
    tiling: Tiling
    source: Source
    target: Bordered
    gather: Gather
    scatter: Scatter
    cell: Fraction
    blocks: Axes
    macs: int


@dataclass(frozen=True, eq=False)
class _Value:
    """An output, before it has a place: `cell` is the side of its cells in cells of the input, `reads` which of those
    each of its rows and columns depends on."""

    size: tuple[int, int]
    channels: int
    cell: Fraction
    reads: Axes


def plan(
    layers: Sequence[Layer], size: tuple[int, int], channels: int, block: Fraction, tile: int, exact: bool
) -> tuple[dict[str, Bordered], list[Step]]:
    """Return the map of every value, and the layers as steps, for inputs of `size` (rows, columns).

    block, tile  side of a mask's blocks and of tiles, cells of the input
    exact        whether tiles ask about all blocks that they depend on, or only about those that lie over them

    Raises `VideoError` that names the layer which reads too few or too many channels, or maps of unlike sizes.
    """
    values = {INPUT: _Value(size, channels, Fraction(1), (Spans.of_cells(size[0]), Spans.of_cells(size[1])))}
    tilings: dict[str, Tiling] = {}
    borders: dict[str, tuple[int, int]] = {INPUT: (0, 0)}
    for layer in layers:
        value = values[layer.name] = _measure(layer, values)
        down, across = windows_of(layer.module)
        tiling = Tiling(value.size, _tile_of(layer, tile, value.cell), (down.ahead, across.ahead))
        tilings[layer.name], borders[layer.name] = tiling, (0, 0)
        need = border_for((down, across), values[layer.inputs[0]].size, tiling.tile)
        for name in layer.inputs:
            borders[name] = max(borders[name][0], need[0]), max(borders[name][1], need[1])
    joined = _lay(_homes(layers), values, borders, layers[0].module.weight)
    maps = {name: each for names, each in joined.items() for name in names if len(names) == 1}
    sources = {layer.name: _source(layer, joined, tilings[layer.name]) for layer in layers}
    tiles_of = {
        layer.name: overlapping(sources[layer.name].map, windows_of(layer.module), tilings[layer.name])
        for layer in layers
    }
    # One after the other layers gather into the same memory, which therefore stays in the caches.
    memory = layers[0].module.weight.new_empty(max(tiles.numel() for tiles in tiles_of.values()))
    steps = []
    for layer in layers:
        value, tiling = values[layer.name], tilings[layer.name]
        gather = Gather.of(tiling, tiles_of[layer.name], memory)
        blocks = _blocks_of(value, tiling, block, exact)
        steps.append(_step(layer, sources[layer.name], gather, maps[layer.name], value.cell, blocks))
    return maps, steps


def _measure(layer: Layer, values: dict[str, _Value]) -> _Value:
    """Return a layer's output, given what is before it."""
    windows, inputs = windows_of(layer.module), [values[name] for name in layer.inputs]
    channels, sizes = sum(each.channels for each in inputs), sorted({each.size for each in inputs})
    if len(sizes) > 1 or channels != layer.module.in_channels:
        raise VideoError(
            f"layer {layer.name}: it is given {channels} channels of {' and '.join(map(str, sizes))}, "
            f"expected {layer.module.in_channels} of one size; give frames whose sides are multiples of its stride"
        )
    down, across = (window.outputs(cells) for window, cells in zip(windows, sizes[0], strict=True))
    if min(down, across) < 1:
        raise VideoError(f"layer {layer.name}: nothing is left of its input of {sizes[0]}; give larger frames")
    stride = Fraction(windows[0].stride)
    cell = inputs[0].cell * (1 / stride if windows[0].transposed else stride)
    reads = inputs[0].reads
    for other in inputs[1:]:
        reads = reads[0].hull(other.reads[0]), reads[1].hull(other.reads[1])
    through = reads[0].read_through(windows[0]), reads[1].read_through(windows[1])
    return _Value((down, across), layer.module.out_channels, cell, through)


def _tile_of(layer: Layer, tile: int, cell: Fraction) -> int:
    """Return the side of a layer's tiles in its own cells; if it is transposed, a multiple of its stride.

    As a convolution tiles of two or three cells cost what four do, so that single cells, a product of matrices, are
    less work.
    """
    window = windows_of(layer.module)[0]
    unit = window.stride if window.transposed else 1
    units = int(tile / cell) // unit
    return unit * (units if units >= LEAST else 1)


def _blocks_of(value: _Value, tiling: Tiling, block: Fraction, exact: bool) -> Axes:
    """Return the blocks that the rows and columns of tiles depend on, or only those that lie over them."""
    axes = value.reads if exact else [Spans.of_cells(cells, value.cell) for cells in value.size]
    down, across = (
        each.grouped(tiling.tile, ahead).in_blocks(block) for each, ahead in zip(axes, tiling.ahead, strict=True)
    )
    return down, across


def _homes(layers: Sequence[Layer]) -> list[tuple[str, ...]]:
    """Return the values that share a map, because a layer joins them, and the others each alone.

    A value lies in one map: where a second layer joins it with others, that layer's input is copied together.
    """
    homes: list[tuple[str, ...]] = []
    taken: set[str] = set()
    for inputs in sorted({layer.inputs for layer in layers}, key=lambda names: (-len(names), names)):
        if not taken.intersection(inputs) and len(set(inputs)) == len(inputs):
            homes.append(inputs)
            taken.update(inputs)
    return homes + [(name,) for name in (INPUT, *(layer.name for layer in layers)) if name not in taken]


def _lay(
    homes: Sequence[tuple[str, ...]], values: dict[str, _Value], borders: dict[str, tuple[int, int]], like: Tensor
) -> dict[tuple[str, ...], Bordered]:
    """Return the maps, by the names of what lies in them; those of several values, and each value's own channels."""
    maps: dict[tuple[str, ...], Bordered] = {}
    for names in homes:
        border = max(borders[name][0] for name in names), max(borders[name][1] for name in names)
        home = Bordered.zeros(sum(values[name].channels for name in names), values[names[0]].size, border, like)
        maps[names], first = home, 0
        for name in names:
            maps[(name,)] = home.channels(first, values[name].channels)
            first += values[name].channels
    return maps


def _source(layer: Layer, maps: dict[tuple[str, ...], Bordered], tiling: Tiling) -> Source:
    module, windows = layer.module, windows_of(layer.module)
    pieces: tuple[Bordered, ...] = ()
    if layer.inputs in maps:
        joined = maps[layer.inputs]
    else:
        pieces = tuple(maps[(name,)] for name in layer.inputs)
        border = border_for(windows, pieces[0].size, tiling.tile)
        joined = Bordered.zeros(module.in_channels, pieces[0].size, border, module.weight)
    return Source(joined, pieces)


def _step(layer: Layer, source: Source, gather: Gather, target: Bordered, cell: Fraction, blocks: Axes) -> Step:
    module, windows, tiling = layer.module, windows_of(layer.module), gather.tiling
    weight = module.weight.detach().clone(memory_format=torch.channels_last)
    bias = None if module.bias is None else module.bias.detach().clone()
    # Every output of a convolution meets every tap once, and so does every input of a transposed one.
    rows, columns = source.map.size if windows[0].transposed else target.size
    return Step(
        name=layer.name,
        kernel=Kernel.of(weight, bias, windows, module.groups, layer.activation, tiling.tile),
        tiling=tiling,
        source=source,
        target=target,
        gather=gather,
        scatter=Scatter.of(tiling, target.inside),
        cell=cell,
        blocks=blocks,
        macs=rows * columns * weight.numel(),
    )
