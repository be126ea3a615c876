"""How is a network of convolutions computed again where its input changed, and only there?

Every layer keeps its output of the call before. A call comes with a mask of the input's changed blocks; each layer
computes the tiles that the mask asks for and leaves the others as they were (SSI; Mao et al., TECS 2022; buffers,
growth and fall-back are our reconstruction).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, Never

import numpy as np
import torch
from torch import Tensor, nn

from bale.errors import VideoError
from bale.video.sparse.buffers import Axes, Step, plan
from bale.video.sparse.layer import INPUT, Layer
from bale.video.sparse.mask import BLOCK, dilate, sums_of, touched, windows_of
from bale.video.sparse.tiles import Tiles, Tiling


@dataclass(frozen=True)
class SparseConfig:
    """How much is computed again.

    tile         side of the tiles, cells of the network's input; a layer of stride s has tiles of tile / s of its own
                 cells, where that is fewer than four of one cell
    grow         "exact": a layer computes every output that depends on a changed block, so that the result is the dense
                 network's if the mask covers all pixels that changed. "mask": a layer computes what lies under the mask
                 and no more; what a change reaches further out stays stale
    dilate       by how many blocks the mask is widened first, with "mask" only
    dense_from   stride of the layers all of which are computed always, with "mask" only: coarse layers see far, so that
                 what goes stale in them spoils even what is under the mask, and cost less. None: no layer
    dense_above  share of a map in active tiles above which all of it is computed; on one CPU thread tiles were faster
                 up to .3 in every layer of FlowNet-S at 1/8 of its width, up to .5 in most, and in all at 1/4
                 (`python -m benchmarks.video.sparse --layers`)
    """

    tile: int = 16
    grow: Literal["exact", "mask"] = "exact"
    dilate: int = 1
    dense_from: int | None = None
    dense_above: float = 0.45

    def __post_init__(self) -> None:
        if self.tile < 1:
            raise VideoError(f"tile {self.tile}: expected 1 or more cells")
        if self.grow not in ("exact", "mask"):
            raise VideoError(f'grow {self.grow!r}: expected "exact" or "mask"')
        if self.dilate < 0:
            raise VideoError(f"dilate {self.dilate}: expected 0 or more blocks")
        if self.dense_from is not None and self.dense_from < 1:
            raise VideoError(f"dense_from {self.dense_from}: expected a stride of 1 or more, or None")
        if not 0 <= self.dense_above <= 1:
            raise VideoError(f"dense_above {self.dense_above}: expected a share from 0 to 1")


@dataclass(frozen=True)
class Work:
    """Multiply-accumulates of one call: of the tiles that were computed, whole, and of the dense network."""

    computed: int
    dense: int

    @property
    def share(self) -> float:
        """Computed over dense."""
        return self.computed / self.dense


class SparseNetwork:
    """Layers in an order in which they can run, and the names of those whose outputs are wanted."""

    def __init__(self, layers: Sequence[Layer], outputs: Sequence[str], config: SparseConfig | None = None):
        """Raises `VideoError` that names the layer which cannot run, or cannot run on tiles."""
        self.layers, self.outputs, self.config = tuple(layers), tuple(outputs), config or SparseConfig()
        known = {INPUT}
        for layer in self.layers:
            missing = [name for name in layer.inputs if name not in known]
            if missing or not layer.inputs:
                raise VideoError(f"layer {layer.name}: nothing before it makes {', '.join(missing) or 'its input'}")
            if layer.name in known:
                raise VideoError(f"layer {layer.name}: two values of this name")
            known.add(layer.name)
            if windows_of(layer.module)[0].stride != windows_of(layer.module)[1].stride:
                raise VideoError(f"layer {layer.name}: its strides {layer.module.stride} differ")
        unknown = [name for name in self.outputs if name not in known - {INPUT}]
        if unknown or not self.outputs:
            raise VideoError(f"outputs {', '.join(unknown) or 'missing'}: expected names of layers")

    def start(self, size: tuple[int, int], channels: int, block: Fraction | int = BLOCK) -> SparseStream:
        """Return a worker with buffers for inputs of `size` (rows, columns); it copies the weights as they are now.

        `block`: side of a mask's blocks, cells of the input.
        """
        return SparseStream(self, size, channels, Fraction(block))


class SparseStream:
    """A `SparseNetwork` on inputs of one size, and its outputs of the call before; `SparseNetwork.start` makes it."""

    def __init__(self, network: SparseNetwork, size: tuple[int, int], channels: int, block: Fraction):
        self.config, self.outputs = network.config, network.outputs
        self.maps, self.steps = plan(
            network.layers, size, channels, block, self.config.tile, exact=self.config.grow == "exact"
        )
        self.work = Work(0, sum(step.macs for step in self.steps))
        self._filled = False
        self._spans: tuple[tuple[int, int], dict[str, Axes]] | None = None

    @torch.inference_mode()
    def run(self, *parts: Tensor | None, changed: np.ndarray | None = None) -> dict[str, Tensor]:
        """Return the outputs, [1, channels, rows, columns] by name, computed again where the input changed.

        parts    [1, channels, rows, columns] each, joined along the channels: the input. None, for one of two halves:
                 as in the call before
        changed  bool [rows, columns] of blocks from the left top; beyond its edges it goes on as at the edge. None, and
                 the first call: everything changed

        `work` then says what was computed. Raises `VideoError` for an input of another size, or what is no mask.
        """
        if changed is not None and (changed.ndim != 2 or not changed.size):
            raise VideoError(f"changed {list(changed.shape)}: expected a mask [rows, columns] of blocks")
        self._take(parts)
        wanted = self._active(changed) if changed is not None and self._filled else [None] * len(self.steps)
        self._filled = False  # until all is done the maps are of two calls
        computed = 0
        for step, tiles in zip(self.steps, wanted, strict=True):
            computed += run_all(step) if tiles is None else run_tiles(step, tiles)
        self._filled = True
        self.work = Work(computed, self.work.dense)
        return {name: self.maps[name].inside.permute(2, 0, 1)[None].clone() for name in self.outputs}

    def __reduce__(self) -> Never:
        raise VideoError("the buffers of a sparse stream are tied to its memory: start another instead of copying it")

    def _active(self, changed: np.ndarray) -> list[Tiles | None]:
        # Of all layers at once: between two convolutions, which fill the caches, it takes four times as long.
        shape = (changed.shape[0], changed.shape[1])
        if self._spans is None or self._spans[0] != shape:  # the blocks that tiles ask about, of a mask of this shape
            within = {s.name: (s.blocks[0].within(shape[0]), s.blocks[1].within(shape[1])) for s in self.steps}
            self._spans = shape, within
        active = _Active(self.config, changed, self._spans[1])
        return [active.tiles(step) for step in self.steps]

    def _take(self, parts: Sequence[Tensor | None]) -> None:
        inside = self.maps[INPUT].inside
        rows, columns, channels = inside.shape
        given = sum(part.shape[1] for part in parts if part is not None)
        kept = channels - given
        sizes = {(part.shape[0], *part.shape[2:]) for part in parts if part is not None}
        skipped = sum(part is None for part in parts)
        if sizes - {(1, rows, columns)} or skipped > 1 or (kept != 0 if not skipped else kept < 0 or not self._filled):
            shapes = [None if part is None else tuple(part.shape) for part in parts]
            raise VideoError(f"input of {shapes}: this stream is for [1, {channels}, {rows}, {columns}]")
        first = 0
        for part in parts:
            width = kept if part is None else part.shape[1]
            if part is not None:
                inside.narrow(2, first, width).copy_(part[0].permute(1, 2, 0))
            first += width


class _Active:
    """Which tiles each layer computes in one call."""

    def __init__(self, config: SparseConfig, changed: np.ndarray, spans: dict[str, Axes]):
        self.config, self.spans = config, spans
        self.sums = sums_of(dilate(changed, config.dilate) if config.grow == "mask" else changed)
        self.shared: dict[Tiling, Tiles | None] = {}

    def tiles(self, step: Step) -> Tiles | None:
        """Return the layer's active tiles; None where all of its output is to be computed."""
        if self.config.grow == "exact":
            return self._index(step)
        if self.config.dense_from is not None and step.cell >= self.config.dense_from:
            return None
        # Layers of one resolution lie under the same blocks: one index for all of them.
        if step.tiling not in self.shared:
            self.shared[step.tiling] = self._index(step)
        return self.shared[step.tiling]

    def _index(self, step: Step) -> Tiles | None:
        active = touched(self.sums, *self.spans[step.name])
        if np.count_nonzero(active) > self.config.dense_above * active.size:
            return None
        return step.tiling.index(active)


def compile_loops() -> None:
    """Have all loops compiled, for single precision: the first time on a machine that takes seconds, and frames wait.

    The smallest network there is runs one of its tiles.
    """
    same = nn.Conv2d(1, 1, 1, device="meta").to_empty(device="cpu")  # which draws no random numbers
    layer = Layer("same", (INPUT,), same)
    stream = SparseNetwork([layer], [layer.name], SparseConfig(tile=1)).start((2, 2), 1, 1)
    stream.run(torch.zeros(1, 1, 2, 2))
    stream.run(torch.ones(1, 1, 2, 2), changed=np.array([[True, False], [False, False]]))


def run_all(step: Step) -> int:
    """Compute all of a layer's output; returns the multiply-accumulates."""
    step.source.join()
    step.target.inside.copy_(step.kernel.on_map(step.source.map)[0].permute(1, 2, 0))
    return step.macs


def run_tiles(step: Step, tiles: Tiles) -> int:
    """Compute a layer's active tiles; returns the multiply-accumulates."""
    if not len(tiles):
        return 0
    step.source.join()
    step.scatter(step.kernel.on_tiles(step.gather(tiles)), tiles)
    rows, columns = step.target.size
    return step.macs * len(tiles) * step.tiling.tile**2 // (rows * columns)
