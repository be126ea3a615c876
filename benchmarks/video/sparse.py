"""When is sparse FlowNet-S faster than the dense one, and by how much?

    python -m benchmarks.video.sparse --json -
    python -m benchmarks.video.sparse --layers --widths 1/8

Frames of 768 x 576 pixels at half resolution, as in the stream of the benchmark, on one thread. Active blocks are those
of people (3 x 6 blocks) at random places, so many that they cover a share of the frame. Both take turns; times are
medians of the thread's own CPU time, since other processes would otherwise be measured too. Before anything is timed,
full masks must give the dense flow.

With --layers: for each layer the share of active tiles up to which gathering, convolving and scattering them is faster
than all of the layer, from which the default of `SparseConfig.dense_above` was chosen.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import partial

import numpy as np
import torch
from rich.table import Table

from bale.video.flow.estimator import Flow
from bale.video.flow.flownet import FlowNetS
from bale.video.flow.learned import FlowNetFlow
from bale.video.sparse.flow import SparseFlowNetFlow, SparseFlowNetStream, sparse_flownet
from bale.video.sparse.network import SparseConfig, run_all, run_tiles
from benchmarks import command
from benchmarks.race.machine import processor

Line = command.Line

FRAME = (576, 768)
BLOCKS = (36, 48)
PERSON = (6, 3)
"""Rows and columns of 16-pixel blocks that a moving person covers, the margin of one block included."""


def people(share: float, rng: np.random.Generator) -> np.ndarray:
    """Blocks of a frame, bool [rows, columns], of which people cover at least a share."""
    mask = np.full(BLOCKS, share >= 1)
    while mask.mean() < share:
        row, column = (rng.integers(0, all_of - own + 1) for all_of, own in zip(BLOCKS, PERSON, strict=True))
        mask[row : row + PERSON[0], column : column + PERSON[1]] = True
    return mask


def medians(contestants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds of each, taking turns."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds + 1):
        for name, run in contestants.items():
            begin = time.thread_time()
            run()
            taken[name].append(time.thread_time() - begin)
    return {name: 1e3 * statistics.median(each[1:]) for name, each in taken.items()}


class Dense:
    """The whole network, and a pair of frames for it."""

    def __init__(self, network: FlowNetS):
        self.stream = FlowNetFlow(network).start()
        draw = torch.Generator().manual_seed(0)
        self.key, self.frame = (self.stream.prepare(torch.rand(1, 3, *FRAME, generator=draw)) for _ in range(2))

    def flow(self) -> Flow:
        return self.stream.flow(self.frame, self.key, None)


def sparse_stream(network: FlowNetS, config: SparseConfig, dense: Dense) -> SparseFlowNetStream:
    """Return a stream that has seen a pair; raises AssertionError unless a full mask then gives the dense flow."""
    stream = SparseFlowNetFlow(network, 1 / 2, config).start()
    stream.flow(dense.key, dense.key, None)
    found = stream.flow(dense.frame, dense.key, np.ones(BLOCKS, bool)).field
    torch.testing.assert_close(found, dense.flow().field, rtol=1e-4, atol=1e-3)
    return stream


def lines_of_network(network: FlowNetS, mask: np.ndarray, tiles: Sequence[int], rounds: int) -> list[Line]:
    """One line per tile and growth."""
    dense = Dense(network)
    streams = {
        f"{grow} {tile}": sparse_stream(network, SparseConfig(tile, grow, 0), dense)
        for tile in tiles
        for grow in ("exact", "mask")
    }
    contestants: dict[str, Callable[[], Flow]] = {"dense": dense.flow}
    for name, stream in streams.items():
        contestants[name] = partial(stream.flow, dense.frame, dense.key, mask)
    ms = medians(contestants, rounds)
    lines = []
    for name, stream in streams.items():
        assert stream.work is not None
        line = {"width": network.width, "active": round(float(mask.mean()), 3), "grow": stream.layers.config.grow}
        line |= {"tile": stream.layers.config.tile, "macs": round(stream.work.share, 3)}
        line |= {
            "dense_ms": round(ms["dense"], 2),
            "ms": round(ms[name], 2),
            "speedup": round(ms["dense"] / ms[name], 2),
        }
        lines.append(line | machine())
    return lines


def lines_of_networks(args: argparse.Namespace) -> list[Line]:
    """One line per width, share, tile and growth."""
    lines, rng = [], np.random.default_rng(0)
    for width in args.widths:
        for share in args.shares:
            lines += lines_of_network(FlowNetS(width=width), people(share, rng), args.tiles, args.rounds)
            print(f"width {width}, {share} of the blocks: done", file=sys.stderr)
    return lines


def lines_of_layers(args: argparse.Namespace) -> list[Line]:
    """One line per width, layer and share of active tiles: how much faster they are than all of the layer."""
    lines = []
    for width in args.widths:
        stream = sparse_flownet(FlowNetS(width=width), SparseConfig()).start((320, 384), 6, 8)
        rng = np.random.default_rng(0)
        for step in stream.steps:
            ratios = {}
            for share in args.shares:
                active = rng.random(step.tiling.grid) < share
                active.flat[0] = True
                tiles = step.tiling.index(active)
                with torch.inference_mode():
                    ms = medians({"all": lambda s=step: run_all(s), "tiles": lambda s=step, t=tiles: run_tiles(s, t)},
                                 args.rounds)  # fmt: skip
                ratios[round(share, 3)] = round(ms["all"] / ms["tiles"], 2)
            line = {"width": width, "layer": step.name, "mmacs": round(step.macs / 1e6, 2), "tile": step.tiling.tile}
            lines.append(line | {"speedup": ratios} | machine())
    return lines


def machine() -> Line:
    """What the numbers depend on."""
    return {"threads": torch.get_num_threads(), "torch": torch.__version__, "processor": processor()}


def table_of(lines: Sequence[Line]) -> Table:
    """All that differs between the lines."""
    columns = [name for name in lines[0] if name not in machine()]
    table = Table(*columns, title="FlowNet-S, 768 x 576 pixels at half resolution, one thread")
    for line in lines:
        table.add_row(*(str(line[name]) for name in columns))
    return table


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)
    lines = lines_of_layers(args) if args.layers else lines_of_networks(args)
    command.tell(lines, args.json, table_of, width=120)


def arguments() -> argparse.Namespace:
    parser = command.parser("video.sparse", __doc__)
    shares = [0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0]
    parser.add_argument("--widths", type=command.some_of(ratio), default=[1 / 8, 1 / 4], metavar="A,B,...")
    parser.add_argument("--shares", type=command.some_of(ratio), default=shares, metavar="A,B,...")
    parser.add_argument("--tiles", type=command.some_of(int), default=[8, 16, 32], metavar="A,B,...")
    parser.add_argument("--rounds", type=command.at_least(1), default=15)
    parser.add_argument("--layers", action="store_true", help="layer by layer")
    command.add_json(parser)
    return parser.parse_args()


def ratio(text: str) -> float:
    return float(Fraction(text))


if __name__ == "__main__":
    main()
