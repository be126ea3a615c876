"""Which tiles need which inputs of a matrix, have parts of which sums, and finish which outputs? For all its copies.

A tile needs an input channel, and has a part of an output's sum, where a weight of it lies in the tile that is not 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bale.hardware.extent import extents
from bale.hardware.layers import Matrix
from bale.hardware.mapping import Placement


@dataclass(frozen=True, eq=False)
class Reach:
    """Of one matrix, by the tiles from `first` on.

    `needed` bool [inputs, tiles]: has a tile, in any copy, a weight of an input channel? `finished` [outputs, tiles]:
    the share of copies that finish an output in a tile, the last that has crossbars of it. `sums` int64 [parts, 2]: the
    tile of a partial sum and that in which its output is finished, for all copies together, none within a tile.
    """

    first: int
    needed: np.ndarray
    finished: np.ndarray
    sums: np.ndarray

    @property
    def tiles(self) -> np.ndarray:
        """int64 [tiles]."""
        return self.first + np.arange(self.needed.shape[1])


def reach(placement: Placement, matrix: Matrix, kept: np.ndarray) -> Reach:
    """Find out from where the crossbars lie; `kept` bool [outputs, rows], of all groups: which weights are not 0?"""
    placed, mapped = placement.places[matrix.name], placement.matrices[matrix.name]
    slot = placed.first + np.arange(placed.copies * mapped.crossbars).reshape(placed.copies, -1)
    tile = slot // placement.chip.tile_crossbars  # [copies, crossbars of one]
    first, tile = int(tile[0, 0]), tile - tile[0, 0]
    tiles = int(tile[-1, -1]) + 1
    needed = np.zeros((matrix.inputs, tiles), bool)
    last = np.zeros((placed.copies, matrix.width), np.int64)
    parts: list[tuple[np.ndarray, np.ndarray]] = []  # output and crossbar of each part of a sum that is not 0
    for extent in extents(mapped):
        there = kept[np.ix_(extent.outputs, extent.rows)]
        at, channel = _channels(there, extent.crossbar, extent.rows // matrix.taps)
        needed[np.broadcast_to(channel, (placed.copies, len(at))), tile[:, at]] = True
        last[:, extent.outputs] = tile[:, extent.crossbar]  # a later row block lies in a later tile, or the same
        parts.append((extent.outputs[there.any(1)], extent.crossbar[there.any(1)]))
    finished = np.zeros((matrix.width, tiles))
    np.add.at(finished, (np.broadcast_to(np.arange(matrix.width), last.shape), last), 1 / placed.copies)
    sums = _sums(np.concatenate([o for o, _ in parts]), tile[:, np.concatenate([c for _, c in parts])], last, tiles)
    return Reach(first, needed, finished, first + sums)


def kept_weights(matrix: Matrix, weight: np.ndarray) -> np.ndarray:
    """bool [outputs, rows], of all groups: which weights [groups, rows, outputs] are not 0? None of another group."""
    kept = np.zeros((matrix.width, matrix.groups * matrix.rows), bool)
    for group, own in enumerate(weight != 0):
        rows, outputs = group * matrix.rows, group * matrix.outputs
        kept[outputs : outputs + matrix.outputs, rows : rows + matrix.rows] = own.T
    return kept


def output_of_input(inputs: int, outputs: int) -> np.ndarray:
    """int64 [inputs]: which of its producer's outputs each input was.

    As many are matched one to one, those of a flattened plane channel by channel; otherwise (gates of an LSTM, channels
    that were joined or padded) they are taken to be spread evenly, in order.
    """
    return np.arange(inputs) * outputs // inputs


def _channels(there: np.ndarray, crossbar: np.ndarray, channel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The crossbar and input channel of each pair that has a weight, of weights [outputs, rows] with these channels."""
    starts = np.flatnonzero(np.diff(crossbar, prepend=-1))
    edges = np.flatnonzero(np.diff(channel, prepend=-1))
    pairs = np.logical_or.reduceat(np.logical_or.reduceat(there, edges, axis=1), starts, axis=0)
    at, which = np.nonzero(pairs)
    return crossbar[starts][at], channel[edges][which]


def _sums(output: np.ndarray, tile: np.ndarray, last: np.ndarray, tiles: int) -> np.ndarray:
    """Partial sums that travel: of outputs [parts], in the tiles [copies, parts] of each copy, once for each tile."""
    copy = np.arange(len(tile))[:, None]
    key = np.unique((copy * last.shape[1] + output) * tiles + tile)
    key, tile = np.divmod(key, tiles)
    to = last.reshape(-1)[key]
    return np.stack((tile, to), axis=1)[tile != to]
