"""Does the accelerator model say what is published of ISAAC, and what of other chips?

    python -m benchmarks.validate_hardware [--targets 1,2,...] [--json FILE|-]

A line a figure: target (its number in the list below), figure, unit, reference, ours, error, tolerance, gated, within,
source. Errors and tolerances are fractions of the reference, for target 8 differences of the two gains. No constant is
tuned to a target. A gated figure beyond its tolerance ends the command with 1.

1  ISAAC's power and area                       2  its peak operations, by area and by power
3  the converters' share of power; storage      4  BookSim2's latencies on a mesh of 8 x 8
5  NeuroSim's VGG-8: multiply-accumulates and operations
6  NeuroSim, 22 nm, 4 bit converters: what 64 rows gain over 32 (not gated)
7  NeuRRAM's silicon, by bits of inputs (not gated: another technology, 130 nm)
8  ISAAC with 4 bit converters

These are all eight targets. Uniform traffic is measured as BookSim does it by default: packets of cycles 3,000 to
10,000, those before warm the network up; above .3 ours are the mean of four seeds. At a load of .42 the mesh is at its
limit: queues grow for as long as one measures, seeds differ by half, and the figure is one of that window. What a
delivered bit costs stands beside silicon's (45 nm, not gated).

By "events" ISAAC's power is what its units' events cost when all
are busy: crossbars, and what serves their rows and columns, have so many events in a cycle; for buffers, bus, router
and link no source states the rate, and it is taken from their power. "Counted" is an IMA of a full tile, by the events
of a network that fills it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from rich.table import Table
from torch import nn

from bale.hardware import (
    Adc,
    Chip,
    Encoding,
    Mesh,
    NocEnergy,
    Packets,
    Ways,
    cost,
    isaac_adc,
    isaac_ce,
    peak,
    simulate_noc,
    uniform_packets,
    way_energy_pj,
)
from bale.hardware.constants import PARK, value
from bale.hardware.presets import crossbar_of, ima_units
from bale.hardware.roll_up import tile_area_mm2, tile_gops, tile_power_mw
from bale.models import VGG8
from benchmarks import command

ISAAC = "ISAAC-CE (Shafiee et al., ISCA 2016)"
NEUROSIM = "NeuroSim's manual, VGG-8, 8 bit"
NEUROSIM_22 = "NeuroSim, 22 nm RRAM, 4 bit ADC"
NEURRAM = "NeuRRAM (Wan et al., Nature 2022), 130 nm, 48 cores of 256 x 256, 4 bit weights"
ROLL_UP = "ISAAC's table, added up (our arithmetic)"
BOOKSIM = "BookSim2, run by us: 8 x 8, dimension order, 1 flit, all delays 1, 4 VCs of 8"
_MEASURED, _SEEDS = (3_000, 10_000), 4  # BookSim's warm-up of 3 periods of 1,000 cycles, and at most 10 in all
INFERRED = "ISAAC's table with the default law at 4 bits (our arithmetic)"


@dataclass(frozen=True)
class Figure:
    """One published number beside ours."""

    target: int
    figure: str
    unit: str
    reference: float
    ours: float
    tolerance: float | None
    source: str
    gain: bool = False  # reference and ours are gains: their difference counts, not their quotient

    @property
    def error(self) -> float:
        difference = abs(self.ours - self.reference)
        return difference if self.gain else difference / self.reference

    @property
    def within(self) -> bool | None:
        return None if self.tolerance is None else self.error <= self.tolerance

    def line(self) -> command.Line:
        line = asdict(self)
        del line["gain"]
        return line | {"error": self.error, "gated": self.tolerance is not None, "within": self.within}


def power_and_area() -> Iterator[Figure]:
    """Target 1."""
    chip = isaac_ce()
    whole = peak(chip)
    yield Figure(1, "power, fixed", "W", 65.8, whole.power_w, 0.005, ISAAC)
    yield Figure(1, "power, events", "W", 65.8, whole.event_power_w, 0.005, ISAAC)
    yield Figure(1, "power of an IMA, events counted", "mW", 24.08, _counted_ima_mw(chip), 0.005, ROLL_UP)
    yield Figure(1, "area", "mm2", 85.4, whole.area_mm2, 0.005, ISAAC)


def operations() -> Iterator[Figure]:
    """Target 2."""
    whole = peak(isaac_ce())
    yield Figure(2, "peak", "TOPS", 41.3, whole.tops, 0.02, ISAAC)
    yield Figure(2, "peak by area", "TOPS/mm2", 0.48, whole.tops / whole.area_mm2, 0.02, ISAAC)
    yield Figure(2, "peak by power, fixed", "TOPS/W", 0.63, whole.tops / whole.power_w, 0.02, ISAAC)
    yield Figure(2, "peak by power, events", "TOPS/W", 0.63, whole.tops / whole.event_power_w, 0.02, ISAAC)


def shares() -> Iterator[Figure]:
    """Target 3."""
    whole = peak(isaac_ce())
    fixed, events = whole.power_by_unit_w["ADC"], whole.event_power_by_unit_w["ADC"]
    yield Figure(3, "ADC share of power, fixed", "1", 0.49, fixed / whole.power_w, 0.01, ISAAC)
    yield Figure(3, "ADC share of power, events", "1", 0.49, events / whole.event_power_w, 0.01, ISAAC)
    yield Figure(3, "storage by area", "MiB/mm2", 0.74, whole.storage_mib / whole.area_mm2, 0.01, ISAAC)


def mesh_latency() -> Iterator[Figure]:
    """Target 4: a packet alone exactly, by the routers that it passes; uniform traffic by its load."""
    mesh = Mesh(8, 8)
    for routers, (a, b) in {1: (9, 9), 2: (0, 1), 8: (0, 7), 15: (63, 0)}.items():
        for flits in (1, 5):
            latency = simulate_noc(mesh, Packets.of([(0, a, b, flits)])).mean_latency
            what = f"latency alone, {routers} routers, {flits} flit{'s' if flits > 1 else ''}"
            yield Figure(4, what, "cycles", 5 * routers + 2 + flits - 1, latency, 0.0, BOOKSIM)
    curve = {0.05: 33.4, 0.2: 35.2, 0.3: 38.1, 0.4: 54.9, 0.42: 96.6}
    for load, reference in curve.items():
        seeds = 1 if load <= 0.3 else _SEEDS
        latency = sum(_uniform_latency(mesh, load, seed) for seed in range(seeds)) / seeds
        tolerance = 0.05 if load <= 0.3 else 0.15
        yield Figure(4, f"latency, {load} flits a router and cycle", "cycles", reference, latency, tolerance, BOOKSIM)
    small, energy = Mesh(4, 4), NocEnergy.of()
    node = np.arange(small.nodes)
    pairs = Ways.pairs(np.repeat(node, small.nodes), np.tile(node, small.nodes))
    bit = float(way_energy_pj(small, pairs, np.ones(len(pairs)), energy).mean())
    yield Figure(4, "a delivered bit, mesh of 4 x 4", "pJ", value("noc_delivered_bit"), bit, None, PARK)


def neurosim_vgg8() -> Iterator[Figure]:
    """Target 5: shapes exactly; energies and area beside ours, of ISAAC's components at 8 bits."""
    model = VGG8(channels=3, size=32, width=128, hidden=1024)
    report = cost(model, "isaac_ce", torch.rand(1, 3, 32, 32), weight_bits=8, input_bits=8)
    yield Figure(
        5, "multiply-accumulates", "1", _vgg8_macs(), report.macs, 0.0, f"{NEUROSIM}: its shapes (our arithmetic)"
    )
    yield Figure(5, "multiply-accumulates, as printed", "10^6", 615.9, round(report.macs * 1e-6, 1), 0.0, NEUROSIM)
    tops = round(2 * report.macs * 686.75 * 1e-12, 3)
    yield Figure(5, "operations at its 686.75 images a second", "TOPS", 0.846, tops, 0.0, NEUROSIM)
    units = report.energy.by_unit()
    adding = sum(units[name] for name in ("S+A", "output register", "tile S+A"))
    rest = report.energy.total_pj - units["ADC"] - adding
    for name, reference, ours in (
        ("energy", 37.75, report.energy.total_pj),
        ("energy of converters", 18.27, units["ADC"]),
        ("energy of accumulation", 5.17, adding),
        ("energy of the rest", 14.31, rest),
    ):
        yield Figure(5, name, "uJ", reference, ours * 1e-6, None, NEUROSIM)
    one = cost(model, "isaac_ce", torch.rand(1, 3, 32, 32), weight_bits=8, input_bits=8, copy=False)
    yield Figure(5, "area, one copy of each layer", "mm2", 45.55, one.area_mm2, None, NEUROSIM)


def more_rows() -> Iterator[Figure]:
    """Target 6: the same chip with 32 and 64 rows a crossbar."""
    few, many = (peak(_with_rows(rows)) for rows in (32, 64))
    gain = (many.tops / many.power_w) / (few.tops / few.power_w)
    yield Figure(6, "64 over 32 rows, operations by power", "1", 19.88 / 11.25, gain, None, NEUROSIM_22)
    yield Figure(6, "64 over 32 rows, operations", "1", 8.16 / 6.25, many.tops / few.tops, None, NEUROSIM_22)


def neurram() -> Iterator[Figure]:
    """Target 7: a chip of its sizes, of ISAAC's components; by bits of inputs and of converters."""
    published = {(1, 3): (2.12, 43.1, 1.0), (4, 6): (0.744, 15.95, 2.85), (8, 10): (0.264, 6.44, 8.03)}
    first = None
    for (input_bits, adc_bits), (tops, tops_per_w, latency) in published.items():
        chip = _neurram(input_bits, adc_bits)
        whole = peak(chip)
        cycles = chip.input_cycles(signed=False)
        first = cycles if first is None else first
        bits = f"{input_bits} bit inputs"
        yield Figure(7, f"peak, {bits}", "TOPS", tops, whole.tops, None, NEURRAM)
        yield Figure(7, f"peak by power, {bits}", "TOPS/W", tops_per_w, whole.tops / whole.power_w, None, NEURRAM)
        yield Figure(7, f"latency over that of 1 bit, {bits}", "1", latency, cycles / first, None, NEURRAM)


def fewer_converter_bits() -> Iterator[Figure]:
    """Target 8: gains of 4 bit converters."""
    eight, four = isaac_ce(), isaac_adc(4)
    whole, less = peak(eight), peak(four)
    gops = tile_gops(four) / tile_gops(eight)
    for name, reference, gain in (
        ("tile, GOPS/W", 0.443, gops * tile_power_mw(eight) / tile_power_mw(four) - 1),
        ("tile, GOPS/mm2", 0.276, gops * tile_area_mm2(eight) / tile_area_mm2(four) - 1),
        ("chip, GOPS/W", 0.348, gops * whole.power_w / less.power_w - 1),
        ("chip, GOPS/mm2", 0.188, gops * whole.area_mm2 / less.area_mm2 - 1),
    ):
        yield Figure(8, f"gain of 4 bits, {name}", "1", reference, gain, 0.01, INFERRED, gain=True)


TARGETS: dict[int, Callable[[], Iterator[Figure]]] = {
    1: power_and_area,
    2: operations,
    3: shares,
    4: mesh_latency,
    5: neurosim_vgg8,
    6: more_rows,
    7: neurram,
    8: fewer_converter_bits,
}


def _uniform_latency(mesh: Mesh, load: float, seed: int) -> float:
    """Mean over the packets of the cycles that BookSim measures in; all are sent to their end."""
    packets = uniform_packets(mesh, load, _MEASURED[1], seed=seed)
    return float(simulate_noc(mesh, packets).latency[packets.cycle >= _MEASURED[0]].mean())


def _counted_ima_mw(chip: Chip) -> float:
    """The power of an IMA, by the events of a layer whose weights fill all cells of a tile."""
    rows, weights = chip.crossbar.rows, chip.crossbar.columns // chip.slices
    layer = nn.Linear(rows * chip.crossbars_per_ima, weights * chip.imas_per_tile)
    report = cost(layer, chip, torch.rand(1, rows * chip.crossbars_per_ima), copy=False)
    assert report.crossbars == chip.tile_crossbars and report.utilisation == 1
    of_ima = {unit.name for unit in chip.all_units if unit.per == "ima"}
    energy = sum(pj for name, pj in report.energy.by_unit().items() if name in of_ima)
    return energy / report.bottleneck_ns / chip.imas_per_tile  # pJ / ns = mW


def _vgg8_macs() -> int:
    """By hand: 3x3 convolutions of 128-128-256-256-512-512 channels on 32, 16, 8 pixels a side, two layers on top."""
    convolutions = ((32, 3, 128), (32, 128, 128), (16, 128, 256), (16, 256, 256), (8, 256, 512), (8, 512, 512))
    return sum(side**2 * 9 * before * after for side, before, after in convolutions) + 8192 * 1024 + 1024 * 10


def _with_rows(rows: int) -> Chip:
    chip = isaac_adc(4)
    others = tuple(unit for unit in chip.units if unit.per != "ima")
    return replace(chip, crossbar=crossbar_of(rows, 128), units=(*ima_units(8, rows, 128), *others))


def _neurram(input_bits: int, adc_bits: int) -> Chip:
    chip = isaac_ce()
    others = tuple(unit for unit in chip.units if unit.per == "tile")
    return replace(
        chip,
        name="neurram",
        weight_bits=4,
        input_bits=input_bits,
        encoding=Encoding.DIFFERENTIAL,
        flip=False,
        cell=replace(chip.cell, bits=3),
        crossbar=crossbar_of(256, 256),
        adc=Adc(adc_bits, "exponential", rate_gsps=2.56, per_ima=1),
        crossbars_per_ima=1,
        imas_per_tile=1,
        tiles=48,
        units=(*ima_units(1, 256, 256), *others),
    )


def table_of(lines: Sequence[command.Line]) -> Table:
    table = Table("target", "figure", "unit", box=None, padding=(0, 2, 0, 0))
    for name in ("reference", "ours", "error", "tolerance"):
        table.add_column(name, justify="right")
    table.add_column("")
    said = {True: "within", False: "BEYOND", None: ""}
    for line in lines:
        tolerance = "" if line["tolerance"] is None else f"{line['tolerance']:.1%}"
        numbers = (f"{line['reference']:,.5g}", f"{line['ours']:,.5g}", f"{line['error']:.1%}", tolerance)
        table.add_row(str(line["target"]), line["figure"], line["unit"], *numbers, said[line["within"]])
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    options = command.parser("validate_hardware", __doc__)
    options.add_argument("--targets", type=command.some_of(int, TARGETS), default=list(TARGETS), metavar="1,2,...")
    command.add_json(options)
    chosen = options.parse_args(arguments)
    torch.manual_seed(0)
    lines = [figure.line() for target in chosen.targets for figure in TARGETS[target]()]
    command.tell(lines, chosen.json, table_of, width=120)
    return 1 if any(line["within"] is False for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
