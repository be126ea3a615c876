"""When is sparse FlowNet-S faster than the dense one, and by how much?

    python -m benchmarks.video.sparse --json -
    python -m benchmarks.video.sparse --layers --widths 1/8

Frames of 768 x 576 pixels at half resolution, as in the stream of the benchmark, on one thread. Active blocks are those
of people (3 x 6 blocks) at random places, so many that they cover a share of the frame. Dense is the faster of the
plain network and of the same in channels last. Both take turns; times are medians of the thread's own CPU time, since
other processes would otherwise be measured too. Before anything is timed, full masks must give the dense flow.

With --layers: for each layer the share of active tiles up to which gathering, convolving and scattering them is faster
than all of the layer, from which the default of `SparseConfig.dense_above` was chosen.
"""

from __future__ import annotations

import argparse
import copy
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import torch
from rich.table import Table

from bale.video.flow.flownet import FlowNetS
from bale.video.flow.learned import FlowNetFlow, Prepared
from bale.video.sparse.flow import SparseFlowNetFlow, sparse_flownet
from bale.video.sparse.network import SparseConfig, run_all, run_tiles
from bale.video.sparse.tiles import Tiles, grid_of
from benchmarks import command

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


def medians(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds of each, taking turns."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds + 1):
        for name, run in contestants.items():
            begin = time.thread_time()
            run()
            taken[name].append(time.thread_time() - begin)
    return {name: 1e3 * statistics.median(each[1:]) for name, each in taken.items()}


def in_channels_last(frame: Prepared) -> Prepared:
    """Return the same frame in the other layout."""
    return Prepared(frame.image.contiguous(memory_format=torch.channels_last), frame.seen, frame.frame)


def lines_of_networks(args: argparse.Namespace) -> list[Line]:
    """One line per width, share, tile and growth."""
    lines = []
    for width in args.widths:
        network = FlowNetS(width=width)
        last = copy.deepcopy(network).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        plain = FlowNetFlow(network).start()
        other = FlowNetFlow(last).start()
        draw, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
        key, frame = (plain.prepare(torch.rand(1, 3, *FRAME, generator=draw)) for _ in range(2))
        key_last, frame_last = in_channels_last(key), in_channels_last(frame)
        for share in args.shares:
            mask = people(share, rng)
            streams = {
                (tile, grow): SparseFlowNetFlow(network, 1 / 2, SparseConfig(tile, grow, 0)).start()
                for tile in args.tiles
                for grow in ("exact", "mask")
            }
            contestants: dict[str, Callable[[], object]] = {
                "plain": lambda: plain.flow(frame, key, None),
                "channels last": lambda: other.flow(frame_last, key_last, None),
            }
            for (tile, grow), stream in streams.items():
                expected = plain.flow(frame, key, None).field
                stream.flow(key, key, None)
                found = stream.flow(frame, key, np.ones(BLOCKS, bool)).field
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
                contestants[f"{grow} {tile}"] = lambda stream=stream: stream.flow(frame, key, mask)  # noqa: B023
            ms = medians(contestants, args.rounds)
            dense = min(ms["plain"], ms["channels last"])
            for (tile, grow), stream in streams.items():
                assert stream.work is not None
                taken = ms[f"{grow} {tile}"]
                line = {"width": width, "active": round(float(mask.mean()), 3), "grow": grow, "tile": tile}
                line |= {"macs": round(stream.work.share, 3), "dense_ms": round(dense, 2), "ms": round(taken, 2)}
                lines.append(line | {"speedup": round(dense / taken, 2)} | machine())
                print(line | {"speedup": round(dense / taken, 2)}, file=sys.stderr)
    return lines


def lines_of_layers(args: argparse.Namespace) -> list[Line]:
    """One line per width, layer and share of active tiles: how much faster they are than all of the layer."""
    lines = []
    for width in args.widths:
        stream = sparse_flownet(FlowNetS(width=width), SparseConfig()).start((320, 384), 6, 8)
        rng = np.random.default_rng(0)
        for step in stream.steps:
            size, ratios = step.target.size, {}
            for share in args.shares:
                active = rng.random(grid_of(size, step.tile, step.ahead)) < share
                active.flat[0] = True
                tiles = Tiles.of(active, size, step.tile, step.ahead)
                with torch.inference_mode():
                    ms = medians({"all": lambda s=step: run_all(s), "tiles": lambda s=step, t=tiles: run_tiles(s, t)},
                                 args.rounds)  # fmt: skip
                ratios[round(share, 3)] = round(ms["all"] / ms["tiles"], 2)
            line = {"width": width, "layer": step.name, "mmacs": round(step.macs / 1e6, 2), "tile": step.tile}
            lines.append(line | {"speedup": ratios} | machine())
            print(line, ratios, file=sys.stderr)
    return lines


def machine() -> Line:
    """What the numbers depend on."""
    return {"threads": torch.get_num_threads(), "torch": torch.__version__, "processor": platform.machine()}


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
