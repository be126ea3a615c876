"""Which networks and chips do the tests of communication-aware sparsity use, and what does their traffic cost?"""

import torch
from torch import Tensor, nn

from bale.compress import Traffic, WeightTraffic, all_weights


def line(tiles: int) -> Tensor:
    """Hops between tiles that stand in a row."""
    places = torch.arange(tiles)
    return (places[:, None] - places[None, :]).abs()


def cut(weight: Tensor, first_tile: int, rows: int, outputs: int, source: Tensor, taps: int) -> WeightTraffic:
    """A weight in tiles of so many rows and outputs, sent from `source` [inputs]; sums are finished in the first."""
    matrix = weight.flatten(1)
    row_block = torch.arange(matrix.shape[1]) // rows
    output_block = torch.arange(len(matrix)) // outputs
    many = int(row_block[-1]) + 1
    tile = first_tile + output_block[:, None] * many + row_block[None, :]
    return WeightTraffic(
        sources=source[None, :],
        sent=torch.tensor([float(taps)], dtype=torch.float64),
        tile=tile,
        accumulator=tile[:, 0].clone(),
        positions=taps,
        input_bits=8,
        sum_bits=20,
    )


def on_a_line(model: nn.Module, rows: int = 12, outputs: int = 4) -> Traffic:
    """The layers of a sequential model one after the other on a chip whose tiles stand in a row."""
    weights, at, finished = {}, 0, None
    for name, weight in all_weights(model).items():
        inputs = weight.shape[1]
        outside = torch.full((inputs,), -1)
        # Of a flattened map each channel is several inputs.
        source = outside if finished is None else finished.repeat_interleave(inputs // len(finished))
        weights[name] = cut(weight, at, rows, outputs, source, 4 if weight.dim() == 4 else 1)
        finished = weights[name].accumulator
        at = int(weights[name].tile.max()) + 1
    return Traffic(line(at), weights)


def by_hand(traffic: Traffic, kept: dict[str, Tensor]) -> float:
    """C, one group after the other."""
    cost = 0.0
    for name, each in traffic.weights.items():
        matrix = kept[name].flatten(1).tolist()
        taps = len(matrix[0]) // each.sources.shape[1]
        needed, sums = set(), set()
        for output, row in enumerate(matrix):
            for place, there in enumerate(row):
                if there:
                    needed.add((place // taps, int(each.tile[output, place])))
                    sums.add((output, int(each.tile[output, place])))
        for channel, tile in needed:
            for edge, sent in enumerate(each.sent.tolist()):
                source = int(each.sources[edge, channel])
                cost += sent * each.input_bits * int(traffic.hops[source, tile]) if source >= 0 else 0
        for output, tile in sums:
            cost += each.positions * each.sum_bits * int(traffic.hops[tile, int(each.accumulator[output])])
    return cost
