"""What does a network cost on an array of MACs: forms of its weights side by side, and training? Tables, a dict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from bale import __version__
from bale.hardware.constants import value
from bale.hardware.mac_array import ArrayLayer, MacArray, MacArrayCost, TrainingCost
from bale.report.grids import Facts, fact_grid, plain_table, titled, warned
from bale.report.hardware import FORMAT
from bale.report.quantities import COUNT, ENERGY, TIME, column, digits, percent, quantity, unit_for

_NOT_MODELLED = (
    "not modelled: leakage and clocks, wires, inputs that move within a line, bits of the index of activations, scales "
    "and biases of sums"
)


def mac_array_dict(costs: Sequence[MacArrayCost], training: Sequence[TrainingCost] = ()) -> dict[str, Any]:
    """Return costs as JSON can hold them: units stand in the keys; of inference by form, of training by scheme."""
    return {
        "format": FORMAT,
        "bale": __version__,
        "model": costs[0].model,
        "macs": costs[0].macs,
        "forms": {cost.form: cost.to_dict() for cost in costs},
        "training": {cost.scheme: cost.to_dict() for cost in training},
        "claims": {name: value(f"claim_training_{name}") for name in ("storage", "energy")} if training else {},
        "warnings": array_warnings(costs),
    }


def mac_array_table(
    costs: Sequence[MacArrayCost],
    training: Sequence[TrainingCost] = (),
    facts: Facts = (),
    warnings: Sequence[str] = (),
) -> RenderableType:
    """Return costs of one network on one array for a rich console: forms of its weights side by side, then training.

    `facts` and `warnings` of the caller's come before the others. Matrices are told of the last form.
    """
    first, last = costs[0], costs[-1]
    parts: list[RenderableType] = [fact_grid([*_model_facts(first), *facts])]
    parts += warned([*warnings, *array_warnings(costs)])
    parts += [Text(), _form_table(costs), Text(), _layer_table(last)]
    if training:
        parts += [Text(), training_tensor_table(training)]
    return Group(*parts, Text(), fact_grid(_left_out(first)))


def array_warnings(costs: Sequence[MacArrayCost]) -> list[str]:
    """Products that no line does."""
    products = [op for op in costs[0].digital if op.kind == "product"]
    if not products:
        return []
    named = ", ".join(dict.fromkeys(f"{op.layer} ({op.function})" for op in products))
    return [f"products that are on no line and cost nothing here: {named}"]


def _model_facts(cost: MacArrayCost) -> Facts:
    array = cost.array
    samples = f"{cost.samples} sample{'s' if cost.samples > 1 else ''}"
    return [
        ("model", f"{cost.model}: {len(cost.layers)} matrices, {quantity(cost.macs, COUNT)} MACs a sample"),
        ("array", _array_text(array)),
        ("inputs", f"Booth digits of {array.input_bits} bits, mean over {samples}; the same for all forms of weights"),
    ]


def _array_text(array: MacArray) -> str:
    kib = [f"{size / 1024:g}" for size in (array.input_buffer, array.weight_buffer, array.output_buffer)]
    return (
        f"{array.name}: {array.slices} slices x {array.lines} lines x {array.macs} MACs at {array.clock_ghz:g} GHz; "
        f"buffers of {', '.join(kib)} KiB for inputs, weights, outputs; MACs wait after each {array.wait}"
    )


def _form_table(costs: Sequence[MacArrayCost]) -> RenderableType:
    """Energy by component and time, a column for each form of the weights."""
    by_component = [cost.by_component() for cost in costs]
    totals = [cost.energy_pj for cost in costs]
    size, unit = unit_for(totals, ENERGY)
    most = max(totals)
    table = plain_table([f"{unit} a sample", *(cost.form for cost in costs)])
    for name in by_component[0]:
        values = [parts[name] for parts in by_component]
        if any(values):
            table.add_row(name, *column(values, size, most))
    table.add_row("all", *column(totals, size), style="bold")
    if len(costs) > 1:
        table.add_row(f"  less than {costs[0].form}", *(f"{digits(totals[0] / total)}x" for total in totals))
    rows = {
        "weights, bytes": [quantity(cost.weight_bits / 8, COUNT) for cost in costs],
        "cycles": [quantity(round(cost.cycles), COUNT) for cost in costs],
        "latency": [quantity(cost.latency_ns, TIME) for cost in costs],
        "MACs busy": [percent(cost.utilisation, 1) for cost in costs],
    }
    for name, texts in rows.items():
        table.add_row(name, *texts)
    return titled("energy of a sample by component, on the same array with the same inputs", table)


def _layer_table(cost: MacArrayCost) -> RenderableType:
    """Where cycles and energy go, matrix by matrix."""
    size, unit = unit_for([cost.energy_pj], ENERGY)
    headings = ["matrix", "rows x\noutputs", "posi-\ntions", "weights,\nbytes", "zero\nrows", "cycles:\nlines"]
    table = plain_table([*headings, "\nDRAM", f"\n{unit}", "\nshare"])
    by_layer = cost.by_layer()
    energies = dict(zip(by_layer, column(list(by_layer.values()), size), strict=True))
    for layer in cost.layers:
        table.add_row(
            Text(layer.name),
            _shape(layer),
            f"{layer.positions:,}",
            quantity(layer.weight_bits / 8, COUNT),
            percent(layer.zero_rows, 1),
            quantity(round(layer.counts.compute_cycles), COUNT),
            quantity(round(layer.counts.dram_cycles), COUNT),
            energies[layer.name],
            percent(layer.total_pj, cost.energy_pj),
        )
    for name in by_layer.keys() - {layer.name for layer in cost.layers}:
        table.add_row(Text(name), *[""] * 6, energies[name], percent(by_layer[name], cost.energy_pj))
    note = Text("Of the lines and of DRAM beside them the slower counts.", style="dim")
    return titled(f"matrices on the array, weights {cost.form}", table, note)


def _shape(layer: ArrayLayer) -> str:
    groups = "" if layer.groups == 1 else f"{layer.groups:,} x "
    return f"{groups}{layer.rows:,} x {layer.outputs:,}"


def training_tensor_table(training: Sequence[TrainingCost]) -> RenderableType:
    """What a step of training stores and spends, a column for each scheme, compared with the first."""
    first = training[0]
    size, unit = unit_for([cost.total_pj for cost in training], ENERGY)
    most = max(cost.total_pj for cost in training)
    table = plain_table(["", *(cost.scheme.replace(", ", "\n") for cost in training)])
    for kind in first.by_kind():
        table.add_row(f"{kind}, bytes", *(quantity(round(cost.by_kind()[kind]), COUNT) for cost in training))
    table.add_row("all, bytes", *(quantity(round(cost.bytes), COUNT) for cost in training), style="bold")
    table.add_row("  less than the first", *(f"{digits(first.bytes / cost.bytes)}x" for cost in training))
    for name in first.energy_pj:
        values = [cost.energy_pj[name] for cost in training]
        if any(values):
            table.add_row(f"{name}, {unit}", *column(values, size, most))
    table.add_row(f"all, {unit}", *column([cost.total_pj for cost in training], size), style="bold")
    table.add_row("  less than the first", *(f"{digits(first.total_pj / cost.total_pj)}x" for cost in training))
    claims = (
        f"Published of SmartDeal: {value('claim_training_storage')}x less storage, {value('claim_training_energy')}x "
        "less energy, of other networks; nothing here is fitted to that."
    )
    return titled(f"a step of training with {first.batch} samples", table, Text(claims, style="dim"))


def _left_out(cost: MacArrayCost) -> Facts:
    kinds: dict[str, int] = {}
    for op in cost.digital:
        kinds[op.function] = kinds.get(op.function, 0) + op.elements
    listed = ", ".join(f"{name} {quantity(many, COUNT)}" for name, many in kinds.items())
    digital = [("digital", f"results a sample that cost nothing here: {listed}")] if listed else []
    return [*digital, ("left out", _NOT_MODELLED)]
