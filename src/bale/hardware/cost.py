"""What does a network cost on a chip: energy, time, area? From shapes, counted events and the data's statistics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from os import PathLike
from typing import Any

import numpy as np
from torch import Tensor, nn

from bale.errors import MappingError
from bale.hardware.bitserial import Digits
from bale.hardware.chip import Chip
from bale.hardware.chip_file import load_chip
from bale.hardware.circulant import CirculantMapping, find_circulants
from bale.hardware.converters import AdcBits, conversions_pj, converters_of, of_tiles, with_bits
from bale.hardware.events import Energy, Ledger, count_events, energy_of
from bale.hardware.mapping import Placement, map_matrices, place
from bale.hardware.network import Digital, Network, read_network
from bale.hardware.pipeline import Timeline, bottleneck_ns, timeline
from bale.hardware.quantize import IntegerMatrix, calibrate, integer_product, integers, run_in_integers
from bale.hardware.reach import kept_weights
from bale.hardware.roll_up import Peak, peak

BATCH = 32  # samples of a tensor that are run at a time


@dataclass(frozen=True, eq=False)
class OnChip:
    """A model on a chip, before anything is counted: what it computes, in which integers, in which crossbars.

    `converters`: by matrix the bits of those that convert its columns; the chip's own `adc.bits` are the most of them.
    """

    chip: Chip
    network: Network
    integers: Mapping[str, IntegerMatrix]
    placement: Placement
    converters: Mapping[str, int]


@dataclass(frozen=True)
class LayerCost:
    """One matrix: its shape, where it lies, which converters it needs, and what it costs for one sample."""

    name: str
    groups: int
    rows: int
    outputs: int
    positions: int
    crossbars: int  # of one copy
    copies: int
    utilisation: float  # of its crossbars' cells, those that hold weights
    adc_bits: int  # of its converters
    adc_bits_a_priori: int
    adc_bits_exact: int
    energy_pj: float
    turn: int
    block: int = 1  # of circulant blocks that are stored once
    duplicates: int = 1  # columns of such a block


@dataclass(frozen=True, eq=False)
class Cost:
    """What one sample costs, the first: samples of other lengths or shapes cost something else.

    `energy`: by counted events. `fixed_pj`, by unit: the power of all tiles in use, busy or not, times the time between
    samples. Times in ns; `interval_ns` between samples that follow one another, `latency_ns` of one alone. Digital
    operations are listed, and cost nothing but where the chip has a unit for them (`Energy.unpaid` has the rest).
    """

    chip: Chip
    model: str
    layers: tuple[LayerCost, ...]
    macs: int
    energy: Energy
    ledger: Ledger
    fixed_pj: dict[str, float]
    timeline: Timeline
    bottleneck_ns: float
    calls: tuple[str, ...]
    crossbars: int
    tiles: int
    turns: int
    power_w: float  # of the tiles in use, their routers, and what the chip has once, such as links
    area_mm2: float  # of the same
    peak: Peak
    digital: tuple[Digital, ...]

    @property
    def latency_ns(self) -> float:
        return self.timeline.latency_ns

    @property
    def interval_ns(self) -> float:
        return self.timeline.interval_ns

    @cached_property
    def tops(self) -> float:
        """10^12 operations a second; one is a multiplication or an addition."""
        return 2 * self.macs / self.interval_ns * 1e-3

    @cached_property
    def tops_per_w(self) -> float:
        """By counted events."""
        return 2 * self.macs / self.energy.total_pj

    @property
    def utilisation(self) -> float:
        """Cells that hold weights, of those of all crossbars that one copy of every matrix takes."""
        crossbars = sum(layer.crossbars for layer in self.layers)
        return sum(layer.utilisation * layer.crossbars for layer in self.layers) / crossbars


def put_on_chip(
    model: nn.Module,
    chip: Chip | str | PathLike[str],
    data: Tensor | Sequence[Any],
    *,
    weight_bits: int | None = None,
    input_bits: int | None = None,
    adc_bits: AdcBits = None,
    calibration: int = 64,
    crossbars: int | None = None,
    copy: bool = True,
    multiplex: bool = False,
    strict: bool = False,
    circulant: CirculantMapping | int | None = None,
) -> OnChip:
    """Map a model as it is: in evaluation mode, its matrices in integers calibrated on the first samples of `data`.

    `data` is a tensor [samples, ...] that the model takes in batches, or a sequence of samples that it takes one by one
    (a tuple: several arguments). `adc_bits` is that of `with_converters`, the other arguments are those of `simulate`.
    """
    chip = load_chip(chip) if not isinstance(chip, Chip) else chip
    bits = {"weight_bits": weight_bits, "input_bits": input_bits}
    chip = replace(chip, **{name: value for name, value in bits.items() if value is not None})
    if not isinstance(data, Tensor | Sequence):
        raise MappingError(f"data: expected a tensor [samples, ...] or a list of samples, got a {type(data).__name__}")
    if not len(data):
        raise MappingError("data: has no samples; a model is mapped by running it on some")
    if calibration < 1:
        raise MappingError(f"calibration: must be at least 1 sample, got {calibration}")
    network = read_network(model, next(batches(data, 1)))
    if strict:
        _check_all_mapped(network)
    how = circulant if circulant is None or isinstance(circulant, CirculantMapping) else CirculantMapping(circulant)
    circulants = {} if how is None else find_circulants(network, how, chip)
    shared = {name: found.largest for name, found in circulants.items()}
    matrices = integers(network, chip, calibrate(model, network, batches(data[:calibration])), shared)
    mapped = map_matrices(matrices, chip, circulants)
    placement = place(network, mapped, chip, crossbars=crossbars, copy=copy, multiplex=multiplex)
    return with_converters(OnChip(chip, network, matrices, placement, {}), adc_bits)


def with_converters(on_chip: OnChip, adc_bits: AdcBits, law: str | None = None) -> OnChip:
    """The same network in the same cells, its columns converted by others, whose costs are by the chip's law or `law`.

    `adc_bits`: bits by matrix name (those not named: as the chip has them); a number, of all; "a priori" or "exact":
    of each matrix the fewest that lose nothing by that bound, and that the law has figures for; None: the chip's own.
    IMAs have converters that are alike, and idle ones have the most bits of all. Raises `MappingError`, which names
    the matrix and the law, for bits that the law has no figures for, and `ChipError` for an unknown law.
    """
    chip = on_chip.chip
    if law is not None:
        chip = replace(chip, adc=replace(chip.adc, law=law, energy_pj=None, area_um2=None))
    converters = converters_of(on_chip.placement.matrices, chip, adc_bits)
    chip = with_bits(chip, max(converters.values()))
    return replace(on_chip, chip=chip, placement=replace(on_chip.placement, chip=chip), converters=converters)


def cost_on_chip(
    on_chip: OnChip, model: nn.Module, data: Tensor | Sequence[Any], *, samples: int = 16, images: int = 16
) -> Cost:
    """Count what a sample costs; `samples` of the data say how rows are driven, `images` go through the pipeline."""
    chip, network, placement = on_chip.chip, on_chip.network, on_chip.placement
    if images < 1:
        raise MappingError(f"images: must be at least 1, got {images}")
    drives = _drives(on_chip, model, islice(batches(data, 1), samples))
    kept = {
        name: kept_weights(matrix, on_chip.integers[name].weight.numpy()) for name, matrix in network.matrices.items()
    }
    ledger = count_events(network, placement, kept, drives, images)
    energy = energy_of(ledger, chip, conversions_pj(placement, on_chip.converters))
    times = timeline(network, placement, images)
    tiles = placement.tiles
    power, area = of_tiles(placement, on_chip.converters)
    by_layer = energy.by_layer()
    return Cost(
        chip=chip,
        model=type(model).__name__,
        layers=tuple(_layer(on_chip, name, by_layer[name]) for name in network.matrices),
        macs=network.macs,
        energy=energy,
        ledger=ledger,
        fixed_pj={unit: milliwatt * times.interval_ns for unit, milliwatt in power.items()},  # mW ns = pJ
        timeline=times,
        bottleneck_ns=bottleneck_ns(network, placement),
        calls=tuple(call.matrix for call in network.calls),
        crossbars=placement.used,
        tiles=tiles,
        turns=placement.turns,
        power_w=1e-3 * sum(power.values()),
        area_mm2=sum(area.values()),
        peak=peak(chip),
        digital=network.digital,
    )


def cost(model: nn.Module, chip: Chip | str | PathLike[str], data: Tensor | Sequence[Any], **options: Any) -> Cost:
    """What one sample of `data` costs on a chip; the options are those of `put_on_chip`.

    >>> import torch
    >>> linear = torch.nn.Linear(128, 16)
    >>> report = cost(linear, "isaac_ce", torch.rand(4, 128))
    >>> report.crossbars, report.layers[0].utilisation, report.interval_ns
    (1, 1.0, 1600.0)
    """
    return cost_on_chip(put_on_chip(model, chip, data, **options), model, data)


def batches(data: Tensor | Sequence[Any], size: int = BATCH) -> Iterator[tuple[Any, ...]]:
    """Yield the arguments of one call of the model after the other."""
    if isinstance(data, Tensor):
        return ((part,) for part in data.split(size))
    return (sample if isinstance(sample, tuple) else (sample,) for sample in data)


def _check_all_mapped(network: Network) -> None:
    for op in network.digital:
        if op.kind == "product":
            raise MappingError(
                f"{op.layer}: calls {op.function}, which is no module for crossbars, and would stay digital; "
                "write it as nn.Linear, nn.Conv1d, nn.Conv2d, nn.LSTM or nn.GRU, or leave strict off to let it be"
            )


def _drives(on_chip: OnChip, model: nn.Module, inputs: Iterable[tuple[Any, ...]]) -> dict[str, np.ndarray]:
    """How strongly each row is driven by one vector, summed over its digits: squares of voltages, 1 the highest."""
    rows = {name: matrix.groups * matrix.rows for name, matrix in on_chip.network.matrices.items()}
    sums = {name: np.zeros(many) for name, many in rows.items()}
    if on_chip.chip.cell.read == "fixed":
        return sums
    vectors = dict.fromkeys(rows, 0)
    digits = {
        name: Digits.of(matrix.input_bits, on_chip.chip.dac_bits, matrix.signed)
        for name, matrix in on_chip.integers.items()
    }
    highest = 2**on_chip.chip.dac_bits - 1

    def multiply(matrix: IntegerMatrix, given: Tensor, beyond: int) -> Tensor:
        driven = digits[matrix.name].of_inputs(given) / highest
        sums[matrix.name] += driven.square().sum((0, 1)).double().numpy()
        vectors[matrix.name] += len(given)
        return integer_product(given, matrix.weight, matrix.highest_input)

    for _ in run_in_integers(model, on_chip.network, on_chip.integers, inputs, multiply):
        pass
    return {name: sums[name] / max(1, vectors[name]) for name in sums}


def _layer(on_chip: OnChip, name: str, energy_pj: float) -> LayerCost:
    matrix, mapped = on_chip.network.matrices[name], on_chip.placement.matrices[name]
    placed = on_chip.placement.places[name]
    return LayerCost(
        name=name,
        groups=matrix.groups,
        rows=matrix.rows,
        outputs=matrix.outputs,
        positions=sum(call.positions for call in on_chip.network.calls if call.matrix == name),
        crossbars=mapped.crossbars,
        copies=placed.copies,
        utilisation=mapped.utilisation(on_chip.chip),
        adc_bits=on_chip.converters[name],
        adc_bits_a_priori=mapped.bounds.a_priori_bits,
        adc_bits_exact=mapped.bounds.exact_bits,
        energy_pj=energy_pj,
        turn=placed.turn,
        block=1 if mapped.circulant is None else mapped.circulant.block,
        duplicates=1 if mapped.circulant is None else mapped.circulant.duplicates,
    )
