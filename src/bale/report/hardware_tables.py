"""How does a simulation read to a person: one by its layers and components, several side by side?"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from bale.hardware import Cost, Event, LayerCost, LayerRun, Run, Simulation
from bale.report.grids import Facts, fact_grid, plain_table, titled, warned
from bale.report.hardware import warnings_of
from bale.report.hardware_compared import comparison
from bale.report.hardware_texts import adc_text, bits_text, digits_text, left_out_grid, noise_text, plural
from bale.report.quantities import COUNT, ENERGY, TIME, column, digits, percent, quantity, unit_for


def simulation_table(
    simulations: Sequence[Simulation], facts: Facts = (), warnings: Sequence[str] = ()
) -> RenderableType:
    """Return simulations for a rich console: one with its layers and components, several side by side.

    `facts` (such as what was trained on what) and `warnings` of the caller's come before those of the simulations.
    """
    if len(simulations) != 1:
        return comparison(simulations, facts, warnings)
    (simulation,) = simulations
    cost, run = simulation.cost, simulation.run
    parts: list[RenderableType] = [fact_grid([*_model_facts(cost), *facts, *_result_facts(cost, run)])]
    parts += warned([*warnings, *warnings_of(simulation)])
    parts += [Text(), _layer_table(cost), Text(), _conversion_table(cost, run), Text(), _component_table(cost)]
    return Group(*parts, Text(), left_out_grid([cost]))


def _model_facts(cost: Cost) -> Facts:
    chip = cost.chip
    matrices = f"{len(cost.layers)} matri{'ces' if len(cost.layers) > 1 else 'x'}"
    return [
        ("model", f"{cost.model}: {matrices} on crossbars, {quantity(cost.macs, COUNT)} MACs a sample"),
        ("chip", f"{chip.name}: {chip.crossbars:,} crossbars of {chip.crossbar.rows} x {chip.crossbar.columns}"),
        ("numbers", digits_text(chip)),
        ("ADC", adc_text(chip)),
    ]


def _result_facts(cost: Cost, run: Run) -> Facts:
    turns = "" if cost.turns == 1 else f", in {cost.turns} turns, for each of which cells are written anew"
    fixed = sum(cost.fixed_pj.values())
    facts = [
        (
            "placed",
            f"{cost.crossbars:,} crossbar{plural(cost.crossbars)} on {cost.tiles:,} tile{plural(cost.tiles)}, "
            f"{cost.utilisation:.1%} of their cells hold weights{turns}",
        ),
        (
            "energy",
            f"{quantity(cost.energy.total_pj, ENERGY)} a sample by counted events; {quantity(fixed, ENERGY)} by power "
            "x time",
        ),
        (
            "size",
            f"{digits(cost.area_mm2)} mm2, {digits(cost.power_w)} W, busy or not: these tiles, their routers, and what "
            "the chip has once",
        ),
        (
            "time",
            f"latency {quantity(cost.latency_ns, TIME)}; one sample every {quantity(cost.interval_ns, TIME)}, "
            f"{_each_second(cost)}",
        ),
        (
            "efficiency",
            f"{digits(cost.tops)} TOPS of the chip's {digits(cost.peak.tops)}; {digits(cost.tops_per_w)} TOPS/W by "
            "events",
        ),
    ]
    return [*facts, *_run_facts(run)]


def _run_facts(run: Run) -> Facts:
    facts = []
    if run.accuracy is not None:
        facts.append(
            (
                "accuracy",
                f"{run.accuracy_float:.1%} in floating point, {run.accuracy_quantised:.1%} quantised, "
                f"{_on_chip(run)} on the chip, of {run.samples:,} samples",
            )
        )
    if run.noise:
        facts.append(("noise", noise_text(run)))
    if run.exact:
        facts.append(("sums", "all are the quantised network's integers"))
    return facts


def _on_chip(run: Run) -> str:
    spread = f" +- {run.spread:.1%} ({run.trials} trials)" if run.trials > 1 else ""
    return f"{run.accuracy:.1%}{spread}"


def _each_second(cost: Cost) -> str:
    return f"{quantity(1e9 / cost.interval_ns, COUNT)} a second"


def _layer_table(cost: Cost) -> RenderableType:
    """Where matrices lie, and what they cost for one sample."""
    by_layer = cost.energy.by_layer()
    rest = {name: energy for name, energy in by_layer.items() if name not in {layer.name for layer in cost.layers}}
    energies = [*(layer.energy_pj for layer in cost.layers), *rest.values()]
    size, unit = unit_for(energies, ENERGY)
    headings = ["matrix", "rows x\noutputs", "positions", "crossbars\nx copies", "cells\nused", unit, "share"]
    turns = [] if cost.turns == 1 else ["turn"]
    stored = ["circulant\nblocks"] if any(layer.block > 1 for layer in cost.layers) else []
    table = plain_table(headings + stored + turns)
    numbers = column(energies, size)
    for layer, energy in zip(cost.layers, numbers, strict=False):
        table.add_row(
            Text(layer.name),
            _shape(layer),
            f"{layer.positions:,}",
            f"{layer.crossbars:,} x {layer.copies:,}",
            f"{layer.utilisation:.0%}",
            energy,
            percent(layer.energy_pj, cost.energy.total_pj),
            *([_stored(layer)] if stored else []),
            *([str(layer.turn + 1)] if turns else []),
        )
    for (name, pj), energy in zip(rest.items(), numbers[len(cost.layers) :], strict=True):
        table.add_row(Text(name), "", "", "", "", energy, percent(pj, cost.energy.total_pj))
    return titled("matrices on crossbars, and the energy of a sample", table)


def _shape(layer: LayerCost) -> str:
    groups = "" if layer.groups == 1 else f"{layer.groups:,} x "
    return f"{groups}{layer.rows:,} x {layer.outputs:,}"


def _stored(layer: LayerCost) -> str:
    """k, and how many columns hold such a block."""
    return "" if layer.block == 1 else f"{layer.block}, {layer.duplicates} x"


def _conversion_table(cost: Cost, run: Run) -> RenderableType:
    """Which converters matrices need, and what the chip's did to their sums."""
    bits = bits_text(cost)
    unlike = ["\nthere"] if len({layer.adc_bits for layer in cost.layers}) > 1 else []
    title = f"bits that lose nothing, and what the chip's {bits} did in {run.samples:,} samples" + _times(run)
    headings = ["matrix", "bits\na priori", "\nexact", *unlike, "sums\nby", "conver-\nsions", "\nclipped"]
    table = plain_table([*headings, "wrong\nsums", "relative\nerror"])
    costs = {layer.name: layer for layer in cost.layers}
    for layer in run.layers:
        needed = costs[layer.name]
        table.add_row(
            Text(layer.name),
            str(needed.adc_bits_a_priori),
            str(needed.adc_bits_exact),
            *([str(needed.adc_bits)] if unlike else []),
            "product" if layer.stood_in else "ADC",
            quantity(layer.converted.conversions, COUNT),
            percent(layer.converted.clipped, layer.converted.conversions),
            percent(layer.wrong, layer.sums),
            percent(layer.relative_error, 1),
            style="red" if layer.wrong else "",
        )
    return titled(title, table, Text(_how(run.layers), style="dim"))


def _times(run: Run) -> str:
    return "" if run.trials == 1 else f", {run.trials} trials"


def _how(layers: Sequence[LayerRun]) -> str:
    both = [layer.both_ways for layer in layers if layer.stood_in]
    if not both:
        return "Every conversion was made."
    some = f"{min(both):,}" if min(both) == max(both) else f"{min(both):,} to {max(both):,}"
    return (
        "product: the chip's bits lose nothing of any sum (exact bound), so an integer product stood in for the "
        f"conversions; {some} vectors of each matrix ran both ways, and agreed."
    )


def _component_table(cost: Cost) -> RenderableType:
    """Which units take the energy: by what was counted, and by power times time."""
    events, fixed = cost.energy.by_unit(), cost.fixed_pj
    total, fixed_total = cost.energy.total_pj, sum(fixed.values())
    names = sorted({*events, *fixed}, key=lambda name: -events.get(name, 0.0))
    counted = {unit.name: cost.ledger.total(unit.event) for unit in cost.chip.all_units if unit.event is not None}
    counted["cell writes"] = cost.ledger.total(Event.CELL_WRITE)
    size, unit = unit_for([total], ENERGY)
    fixed_size, fixed_unit = unit_for([fixed_total], ENERGY)
    table = plain_table(
        ["component", "\nevents", f"{unit}\nby events", "\nshare", f"{fixed_unit}\nby power", "\nshare"]
    )
    rows = zip(
        names,
        column([events.get(name, 0.0) for name in names], size),
        column([fixed.get(name, 0.0) for name in names], fixed_size),
        strict=True,
    )
    for name, energy, power in rows:
        table.add_row(
            Text(name),
            quantity(round(counted.get(name, 0.0)), COUNT),
            energy,
            percent(events.get(name, 0.0), total),
            power,
            percent(fixed.get(name, 0.0), fixed_total),
        )
    table.add_row("all", "", *column([total], size), "100%", *column([fixed_total], fixed_size), "100%", style="bold")
    return titled("energy of a sample by component: counted events, and power x time", table)
