"""How does a map lie in memory, so that the tiles of its reader are views of it?

As [rows, columns, channels]: a row of a tile is then one piece of memory, and a batch of tiles is what PyTorch calls
channels last, the layout in which oneDNN convolves small maps fastest.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bale.video.sparse.mask import Windows
from bale.video.sparse.tiles import Tiling


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


def overlapping(source: Bordered, windows: Windows, tiling: Tiling) -> Tensor:
    """Return what each tile of an output reads: [tile rows, tile columns, rows, columns, channels], a view.

    Neighbours overlap by the halo, so it is not to be written to.
    """
    memory, strides = source.memory, source.memory.stride()
    begin, steps, counts = memory.storage_offset(), [], []
    for axis, window in enumerate(windows):
        first, count = window.reads(-window.ahead, tiling.tile)
        begin += (source.before + first) * strides[axis]
        steps.append((window.reads(tiling.tile - window.ahead, tiling.tile)[0] - first) * strides[axis])
        counts.append(count)
    return memory.as_strided((*tiling.grid, *counts, memory.shape[2]), (*steps, *strides), begin)
