"""How long do a cost report and a simulation of every conversion take?

    python -m benchmarks.simulation [--samples N] [--width N] [--threads N] [--json FILE|-]

VGG-8 (--width 32) at 8 bit on ISAAC, random weights and images, which cost what others would: `cost_s` for the cost of
one image, `simulate_s` for every conversion of --samples images, compared with exact products all the while; `floor_s`
for the products of all bit planes with all cells alone, `conversions` and `ns` a conversion. Times are of one run, wall
clock; the exact sums and the clipped conversions are checked.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from rich.table import Table

from bale.hardware import CrossbarMatrix, OnChip, cost_on_chip, put_on_chip, run_on_chip
from bale.hardware.bitserial import Digits
from bale.models import VGG8
from benchmarks import command
from benchmarks.race.machine import processor

Result = TypeVar("Result")

_VECTORS = 256  # of the floor's products at a time


def measure(width: int, samples: int) -> command.Line:
    """One line."""
    torch.manual_seed(0)
    model, images = VGG8(width=width), torch.rand(samples, 1, 28, 28)
    bits = {"weight_bits": 8, "input_bits": 8}
    cost_on_chip(put_on_chip(model, "isaac_ce", images, **bits), model, images)  # numba compiles or loads its loops
    cost_s, on_chip = _timed(lambda: put_on_chip(model, "isaac_ce", images, **bits))
    counted_s, _ = _timed(lambda: cost_on_chip(on_chip, model, images))
    simulate_s, run = _timed(lambda: run_on_chip(on_chip, model, images, every_conversion=True))
    assert run.exact and run.clipped == 0, "a conversion of 8 bits has lost something"
    conversions = sum(layer.converted.conversions for layer in run.layers)
    return {
        "model": f"vgg8, width {width}",
        "samples": samples,
        "threads": torch.get_num_threads(),
        "processor": processor(),
        "cost_s": cost_s + counted_s,
        "simulate_s": simulate_s,
        "floor_s": _floor(on_chip, samples),
        "conversions": conversions,
        "ns": 1e9 * simulate_s / conversions,
    }


def _timed(work: Callable[[], Result]) -> tuple[float, Result]:
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def _floor(on_chip: OnChip, samples: int) -> float:
    """Every product of bit planes and cells, of planes that are there already; a few of each, extrapolated."""
    seconds = 0.0
    for call in on_chip.network.calls:
        mapped = on_chip.placement.matrices[call.matrix]
        matrix = CrossbarMatrix.program(call.matrix, mapped.blocks, on_chip.chip, mapped.signed)
        digits = Digits.of(on_chip.chip.input_bits, on_chip.chip.dac_bits, mapped.signed)
        for block, cells in zip(mapped.blocks, matrix.conductance, strict=True):
            planes = digits.of_inputs(torch.randint(256, (_VECTORS, block.rows), dtype=torch.int32))
            took = min(_timed(lambda planes=planes, cells=cells: planes @ cells)[0] for _ in range(5))
            seconds += took * samples * call.positions / _VECTORS
    return seconds


def table_of(lines: Sequence[command.Line]) -> Table:
    table = Table(*lines[0], box=None, padding=(0, 2, 0, 0))
    for line in lines:
        table.add_row(*(f"{value:,.3g}" if isinstance(value, float) else str(value) for value in line.values()))
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    options = command.parser("simulation", __doc__)
    options.add_argument("--samples", type=command.at_least(1), default=1000, metavar="N")
    options.add_argument("--width", type=command.at_least(1), default=32, metavar="N")
    options.add_argument("--threads", type=command.at_least(1), default=torch.get_num_threads(), metavar="N")
    command.add_json(options)
    chosen = options.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    command.tell([measure(chosen.width, chosen.samples)], chosen.json, table_of, width=140)
    return 0


if __name__ == "__main__":
    sys.exit(main())
