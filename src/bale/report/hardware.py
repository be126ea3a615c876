"""What did a simulation find, as data for programs, and what of it must nobody miss?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite
from typing import Any

from bale import __version__
from bale.hardware import LAWS, Chip, Cost, Event, LayerCost, LayerRun, Peak, Run, Simulation, chip_dict, peak
from bale.hardware.bounds import converter_bits
from bale.hardware.network import Digital
from bale.report.quantities import COUNT, percent, quantity

FORMAT = 1
_RARE = 0.001  # so many inputs of a matrix beyond the range that calibration saw are no matter


def simulation_dict(simulation: Simulation) -> dict[str, Any]:
    """Return a simulation as JSON can hold it: units stand in the keys, shares are from 0 to 1.

    Energies and events are those of one sample. Accuracies are null where there were no labels.
    """
    cost, run = simulation.cost, simulation.run
    runs = {layer.name: layer for layer in run.layers}
    return {
        "format": FORMAT,
        "bale": __version__,
        "model": cost.model,
        "chip": chip_dict(cost.chip),
        "adc": adc_dict(cost.chip),
        "macs": cost.macs,
        "layers": [_layer_dict(cost, layer, runs[layer.name]) for layer in cost.layers],
        "energy_pj": {
            "total": cost.energy.total_pj,
            "by_unit": cost.energy.by_unit(),
            "by_layer": cost.energy.by_layer(),
            "by_layer_and_unit": _nested(cost.energy.parts),
        },
        "events": _nested(cost.ledger.counts),
        "unpaid_events": [str(event) for event in cost.energy.unpaid],
        "fixed_power": {
            "power_w": cost.power_w,
            "energy_pj": {"total": sum(cost.fixed_pj.values()), "by_unit": dict(cost.fixed_pj)},
        },
        "latency_ns": cost.latency_ns,
        "interval_ns": cost.interval_ns,
        "bottleneck_ns": cost.bottleneck_ns,
        "samples_per_second": 1e9 / cost.interval_ns,
        "samples_in_pipeline": cost.timeline.images,
        "tops": cost.tops,
        "tops_per_w": cost.tops_per_w,
        "area_mm2": cost.area_mm2,
        "crossbars": cost.crossbars,
        "tiles": cost.tiles,
        "turns": cost.turns,
        "utilisation": cost.utilisation,
        "peak": peak_dict(cost.peak, cost.chip),
        "digital": [{**asdict(op), "paid": is_paid(op, cost)} for op in cost.digital],
        "run": _run_dict(run),
        "warnings": warnings_of(simulation),
    }


def chip_report(chip: Chip) -> dict[str, Any]:
    """Return a chip as JSON can hold it: its fields, as its file has them, and what it draws and covers, all busy."""
    return {
        "format": FORMAT,
        "bale": __version__,
        "chip": chip_dict(chip),
        "adc": adc_dict(chip),
        "crossbars": chip.crossbars,
        "cycle_ns": chip.cycle_ns,
        "peak": peak_dict(peak(chip), chip),
    }


def peak_dict(most: Peak, chip: Chip) -> dict[str, Any]:
    """What a chip could do and draw, all units busy."""
    return {
        **asdict(most),
        "tops_per_w": most.tops / most.power_w if most.power_w else None,
        "event_tops_per_w": most.tops / most.event_power_w if most.event_power_w else None,
        "tops_per_mm2": most.tops / most.area_mm2 if most.area_mm2 else None,
        "storage_mib_per_mm2": most.storage_mib / most.area_mm2 if most.area_mm2 else None,
        "adc_share": adc_share(most.power_by_unit_w),
        "event_adc_share": adc_share(most.event_power_by_unit_w),
    }


def adc_dict(chip: Chip) -> dict[str, Any]:
    """A chip's converter, and the law that says what it costs."""
    return {
        "bits": chip.adc.bits,
        "law": chip.adc.law,
        "source": law_source(chip),
        "energy_pj": chip.converter.energy_pj,
        "area_um2": chip.converter.area_um2,
    }


def law_source(chip: Chip) -> str:
    """Where the law of a chip's converters is from."""
    return "the chip's own energy_pj and area_um2" if chip.adc.law == "given" else LAWS[chip.adc.law].source


def adc_share(by_unit: Mapping[str, float]) -> float:
    """Of all power or energy, what converters take."""
    total = sum(by_unit.values())
    return by_unit.get("ADC", 0.0) / total if total else 0.0


def is_paid(op: Digital, cost: Cost) -> bool:
    """Has the chip a unit that pays for a digital operation?"""
    events = {"activation": Event.ACTIVATION, "pool": Event.POOL}
    return op.kind in events and events[op.kind] not in cost.energy.unpaid


def warnings_of(simulation: Simulation) -> list[str]:
    """Return what nobody should miss, a line each: sums that are wrong, accuracy that is lost, products left out."""
    cost, run = simulation.cost, simulation.run
    lines = [*_of_sums(cost, run), *_of_inputs(run), *_of_accuracy(run)]
    if not isfinite(run.output_error):
        lines.append("some results on the chip are NaN or infinite, or those of the quantised network are")
    products = [op for op in cost.digital if op.kind == "product"]
    if products:
        named = ", ".join(dict.fromkeys(f"{op.layer} ({op.function})" for op in products))
        results = quantity(sum(op.elements for op in products), COUNT)
        lines.append(f"products that are on no crossbar and cost nothing here: {named}; {results} results a sample")
    return lines


def lossless_bits(cost: Cost) -> int:
    """The fewest bits of a converter that loses nothing of any layer, by the cells programmed."""
    return max(layer.adc_bits_exact for layer in cost.layers)


def _of_sums(cost: Cost, run: Run) -> list[str]:
    lines = []
    wrong, sums = sum(layer.wrong for layer in run.layers), sum(layer.sums for layer in run.layers)
    made = sum(layer.converted.conversions for layer in run.layers)
    needed = lossless_bits(cost)
    if run.clipped:
        clipped = max((layer for layer in run.layers if layer.converted.clipped), key=lambda it: it.converted.largest)
        largest = clipped.converted.largest
        bits = next(layer.adc_bits for layer in cost.layers if layer.name == clipped.name)
        came = converter_bits(round(largest))
        enough = f"{needed} bits would be lossless"
        if run.noise:
            enough = f"{max(came, needed)} bits would clip nothing of what came, {needed} are lossless without noise"
        lines.append(
            f"{percent(run.clipped, made)} of the conversions are beyond the ADC's {bits} bits and were clipped "
            f"(sums up to {largest:,.0f}, it ends at {2**bits - 1}); {enough}"
        )
    if wrong:
        error = max(layer.relative_error for layer in run.layers)
        cause = " (by noise)" if run.noise and not run.clipped else ""
        fewest = "" if run.clipped else f"; no conversion was clipped, {needed} bits are lossless without noise"
        lines.append(
            f"{percent(wrong, sums)} of the sums are not the quantised network's{cause}, by a relative error of up to "
            f"{percent(error, 1)} in a layer{fewest}"
        )
    return lines


def _of_inputs(run: Run) -> list[str]:
    worst = max(run.layers, key=lambda layer: layer.beyond / max(1, layer.inputs))
    if worst.beyond < _RARE * worst.inputs:
        return []
    return [
        f"{percent(worst.beyond, worst.inputs)} of the inputs of {worst.name} are beyond the calibrated range "
        "and became its end; calibrate on more samples, or on others"
    ]


def _of_accuracy(run: Run) -> list[str]:
    if run.accuracy is None or run.accuracy_float is None or run.accuracy_quantised is None:
        return []
    first, quantised, last = run.accuracy_float, run.accuracy_quantised, run.accuracy
    if last >= first:
        return []
    return [
        f"accuracy falls from {first:.1%} to {last:.1%} on the chip: {_points(quantised - first)} by quantisation, "
        f"{_points(last - quantised)} by conversions and devices"
    ]


def _points(change: float) -> str:
    return f"{100 * change:+.1f} points" if change else "0 points"


def _layer_dict(cost: Cost, layer: LayerCost, run: LayerRun) -> dict[str, Any]:
    plain = asdict(layer)
    bits = {name: plain.pop(f"adc_bits_{name}") for name in ("a_priori", "exact")}
    bits["chip"] = plain.pop("adc_bits")
    return {
        **plain,
        "adc_bits": bits,
        "conversions": cost.ledger.counts.get((layer.name, Event.CONVERSION), 0.0),
        "run": {
            "product_stood_in": run.stood_in,
            "both_ways": run.both_ways,
            "conversions": run.converted.conversions,
            "clipped": run.converted.clipped,
            "largest_sum": run.converted.largest,
            "sums": run.sums,
            "wrong": run.wrong,
            "largest_error": run.largest_error,
            "relative_error": run.relative_error,
            "inputs": run.inputs,
            "inputs_beyond_range": run.beyond,
        },
    }


def _run_dict(run: Run) -> dict[str, Any]:
    return {
        "samples": run.samples,
        "accuracy": {
            "float": run.accuracy_float,
            "quantised": run.accuracy_quantised,
            "on_chip": run.accuracy,
            "spread": run.spread,
            "by_trial": list(run.accuracies),
        },
        "agreement": run.agreement,
        "output_error": run.output_error if isfinite(run.output_error) else None,
        "exact": run.exact,
        "clipped": run.clipped,
        "conversions": sum(layer.converted.conversions for layer in run.layers),
        "noise": asdict(run.noise),
        "seed": run.seed,
        "trials": run.trials,
    }


def _nested(parts: Mapping[tuple[str, Any], float]) -> dict[str, dict[str, float]]:
    nested: dict[str, dict[str, float]] = {}
    for (layer, name), value in parts.items():
        nested.setdefault(layer, {})[str(name)] = value
    return nested
