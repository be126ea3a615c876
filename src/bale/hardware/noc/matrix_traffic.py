"""What does each matrix receive and send between tiles, channel by channel, for one sample?

A tile needs an input channel where a weight of that channel lies in it that is not zero; the channel's numbers are sent
there once (unicast: once for each such tile). Partial sums travel to the tile in which the output is finished. The
group (input channel, tile) is so what a sparse connection saves: section 6, our reconstruction of CANNON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bale.errors import MappingError
from bale.hardware.call import Edge
from bale.hardware.cost import OnChip
from bale.hardware.events import sum_bits
from bale.hardware.extent import extents
from bale.hardware.layers import Matrix
from bale.hardware.mapping import Placement
from bale.hardware.reach import kept_weights, output_of_input


@dataclass(frozen=True, eq=False)
class MatrixTraffic:
    """Where a matrix's inputs come from, where its weights lie, where its sums are finished: logical tiles 0..

    These are the tiles of the mapping, in its order; which router each stands at is a placement's affair. Rows are
    those of `weight.flatten(1)`; with groups an output has rows for the inputs of all groups, in the order of inputs
    and taps, and the tile of those that are not its own group's is -1. An output whose slices straddle two crossbars
    cannot be: all of its columns in a row block stand in one (`encode`), that of its first column.
    """

    name: str
    sources: np.ndarray  # int64 [edges, inputs]: the tile in which each input channel was finished, for each producer
    # that feeds it; -1: from outside of the chip
    sent: np.ndarray  # float64 [edges]: numbers that one input channel sends for one sample by that edge
    tile: np.ndarray  # int64 [outputs, rows]: the tile of each weight, rows = inputs x taps
    accumulator: np.ndarray  # int64 [outputs]: the tile in which partial sums are added up and finished
    positions: int  # of outputs, one sample
    input_bits: int
    sum_bits: int

    @property
    def inputs(self) -> int:
        """Input channels, or features."""
        return self.sources.shape[1]

    @property
    def taps(self) -> int:
        """Rows of one input."""
        return self.tile.shape[1] // self.inputs

    def needed(self, tiles: int, mask: np.ndarray | None = None) -> np.ndarray:
        """bool [inputs, tiles]: has a tile a weight of a channel, of those that `mask` [outputs, rows] leaves?"""
        there = self._there(mask)
        channel = np.broadcast_to(np.arange(self.tile.shape[1]) // self.taps, self.tile.shape)
        needed = np.zeros((self.inputs, tiles), bool)
        needed[channel[there], self.tile[there]] = True
        return needed

    def summed(self, tiles: int, mask: np.ndarray | None = None) -> np.ndarray:
        """bool [outputs, tiles]: has a tile a weight, and so a partial sum, of an output?"""
        there = self._there(mask)
        output = np.broadcast_to(np.arange(len(self.tile))[:, None], self.tile.shape)
        summed = np.zeros((len(self.tile), tiles), bool)
        summed[output[there], self.tile[there]] = True
        return summed

    def _there(self, mask: np.ndarray | None) -> np.ndarray:
        if mask is None:
            return self.tile >= 0
        if mask.shape != self.tile.shape:
            raise MappingError(f"{self.name}: a mask of {list(mask.shape)}, expected {list(self.tile.shape)}")
        return (self.tile >= 0) & (mask != 0)


def matrix_traffic(on_chip: OnChip) -> dict[str, MatrixTraffic]:
    """Of each matrix of a model on a chip; one copy of each, all of them at a time.

    Outputs are finished where events are counted to be: in the last tile that has a part of them, that of their last
    row block. Which of a producer's outputs an input was, `output_of_input` says. A sum of several matrices' outputs (a
    residual connection) is added up where it is needed: each of them sends its own. Inputs that come from outside are
    an edge of tile -1, where they are all that a call receives. Calls of the same matrix, and edges from the same, add
    up. Left out are edges that send nothing, and the states of an LSTM or GRU: as in the ledger, they and the sums of
    its two products are taken to be at home, in the tile that needs them next.

    Raises `MappingError` where matrices have copies or take turns, in which case a weight has not one tile.
    """
    placement, network = on_chip.placement, on_chip.network
    _check_one_copy(placement)
    tiles = {name: _tiles(matrix, placement) for name, matrix in network.matrices.items()}
    accumulators = {name: tile.max(axis=1) for name, tile in tiles.items()}
    sent: dict[str, dict[str, float]] = {name: {} for name in network.matrices}  # by consumer, producer; "": outside
    positions = dict.fromkeys(network.matrices, 0)
    for call in network.calls:
        positions[call.matrix] += call.positions
        inputs = network.matrices[call.matrix].inputs
        if not call.inputs and not call.use.of_state:
            _add(sent[call.matrix], "", int(np.prod(call.use.input_plane)))
        for edge in call.inputs:
            _add(sent[call.matrix], _producer(on_chip, edge), edge.elements / inputs)
    return {
        name: MatrixTraffic(
            name=name,
            sources=np.array(
                [_sources(accumulators.get(producer), matrix.inputs) for producer in sent[name]], np.int64
            ).reshape(-1, matrix.inputs),
            sent=np.array(list(sent[name].values()), np.float64),
            tile=tiles[name],
            accumulator=accumulators[name],
            positions=positions[name],
            input_bits=on_chip.chip.input_bits,
            sum_bits=sum_bits(on_chip.chip),
        )
        for name, matrix in network.matrices.items()
    }


def tiles_of(traffic: Mapping[str, MatrixTraffic]) -> int:
    """How many logical tiles there are."""
    return 1 + max(int(max(matrix.tile.max(), matrix.sources.max(initial=0))) for matrix in traffic.values())


def weight_masks(on_chip: OnChip) -> dict[str, np.ndarray]:
    """Of each matrix, bool [outputs, rows] as `MatrixTraffic.tile` has them: which weights on the chip are not 0?"""
    matrices = on_chip.network.matrices
    return {name: kept_weights(matrix, on_chip.integers[name].weight.numpy()) for name, matrix in matrices.items()}


def tile_flows(traffic: Mapping[str, MatrixTraffic], masks: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
    """float64 [tiles, tiles]: bits for one sample from each logical tile to each other, unicast.

    An activation is sent once to each tile that has a weight of its channel, a partial sum from each tile that has a
    weight of its output to the output's accumulator. `masks`, by name of a matrix, bool [outputs, rows] or weights:
    which are not zero; a matrix without one has them all. Nothing is sent within a tile.
    """
    tiles = tiles_of(traffic)
    flows = np.zeros((tiles, tiles))
    for name, matrix in traffic.items():
        mask = None if masks is None else masks.get(name)
        needed = matrix.needed(tiles, mask)
        for sources, sent in zip(matrix.sources, matrix.sent, strict=True):
            inside = sources >= 0
            np.add.at(flows, sources[inside], needed[inside] * (sent * matrix.input_bits))
        to = np.zeros((tiles, tiles))
        np.add.at(to, matrix.accumulator, matrix.summed(tiles, mask) * float(matrix.positions * matrix.sum_bits))
        flows += to.T
    np.fill_diagonal(flows, 0)
    return flows


def _add(sums: dict[str, float], name: str, many: float) -> None:
    if many:
        sums[name] = sums.get(name, 0.0) + many


def _producer(on_chip: OnChip, edge: Edge) -> str:
    return on_chip.network.calls[edge.producer].matrix


def _sources(finished: np.ndarray | None, inputs: int) -> np.ndarray:
    """The tile of each input, of a producer whose outputs are finished in those tiles; None: outside."""
    if finished is None:
        return np.full(inputs, -1, np.int64)
    return finished[output_of_input(inputs, len(finished))]


def _tiles(matrix: Matrix, placement: Placement) -> np.ndarray:
    """int64 [outputs, rows], of all groups."""
    tile = np.full((matrix.width, matrix.groups * matrix.rows), -1, np.int64)
    first = placement.places[matrix.name].first
    for extent in extents(placement.matrices[matrix.name]):
        of_output = (first + extent.crossbar) // placement.chip.tile_crossbars
        tile[np.ix_(extent.outputs, extent.rows)] = of_output[:, None]
    return tile


def _check_one_copy(placement: Placement) -> None:
    if placement.turns > 1 or any(placed.parts > 1 for placed in placement.places.values()):
        raise MappingError(
            f"traffic between tiles: matrices take turns on {placement.chip.name}; take a chip with room for all"
        )
    for name, placed in placement.places.items():
        if placed.copies > 1:
            raise MappingError(f"{name}: has {placed.copies} copies; put the network on the chip with copy=False")
