"""How does a simulation read to a person: one by its layers and components, several side by side?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.table import Table
from rich.text import Text

from bale.hardware import Chip, Cost, Event, LayerCost, LayerRun, Run, Simulation
from bale.report.hardware import adc_share, is_paid, law_source, lossless_bits, warnings_of
from bale.report.quantities import COUNT, ENERGY, TIME, column, digits, percent, quantity, unit_for

Facts = Sequence[tuple[str, str]]

_NOTHING = "-"
_NAME = 12  # characters that a name has at least, however narrow the console
_NOT_MODELLED = "not modelled: scales and biases of sums, control, waiting for full buffers and busy routers"


def simulation_table(
    simulations: Sequence[Simulation], facts: Facts = (), warnings: Sequence[str] = ()
) -> RenderableType:
    """Return simulations for a rich console: one with its layers and components, several side by side.

    `facts` (such as what was trained on what) and `warnings` of the caller's come before those of the simulations.
    """
    if len(simulations) != 1:
        return _compared(simulations, facts, warnings)
    (simulation,) = simulations
    cost, run = simulation.cost, simulation.run
    parts: list[RenderableType] = [fact_grid([*_model_facts(cost), *facts, *_result_facts(cost, run)])]
    parts += _warned([*warnings, *warnings_of(simulation)])
    parts += [Text(), _layer_table(cost)]
    if run is not None:
        parts += [Text(), _conversion_table(cost, run)]
    return Group(*parts, Text(), _component_table(cost), Text(), _left_out([cost]))


def simulation_labels(simulations: Sequence[Simulation]) -> list[str]:
    """Names that tell simulations apart: model, chip, or both, and a number where that is not enough."""
    models = {simulation.cost.model for simulation in simulations}
    chips = {simulation.cost.chip.name for simulation in simulations}
    names = []
    for simulation in simulations:
        model, chip = simulation.cost.model, simulation.cost.chip.name
        one = chip if len(models) == 1 and len(chips) > 1 else model
        names.append(f"{model}, {chip}" if len(models) > 1 and len(chips) > 1 else one)
    return [
        name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})"
        for place, name in enumerate(names)
    ]


def fact_grid(facts: Facts) -> Table:
    """Facts, a line each."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    for name, value in facts:
        grid.add_row(name, Text(value))
    return grid


def plain_table(headings: Sequence[str]) -> Table:
    """A table without lines, its first column words, the others numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for place, heading in enumerate(headings):
        word = place == 0
        justify, least = ("left", _NAME) if word else ("right", None)
        table.add_column(heading, justify=justify, min_width=least, no_wrap=not word, overflow="fold")
    return table


def titled(title: str, *parts: RenderableType) -> RenderableType:
    """Parts below a title, which may be wider than they are."""
    return Group(Text(title, style="bold"), *parts)


def digits_text(chip: Chip) -> str:
    """The numbers that a chip computes with."""
    flip = ", flipped" if chip.flip else ""
    return (
        f"weights of {chip.weight_bits} bits ({chip.encoding}{flip}, {chip.cell.bits} bits a cell), "
        f"inputs of {chip.input_bits} ({chip.dac_bits} at a time)"
    )


def adc_text(chip: Chip) -> str:
    """A chip's converters, and by which law."""
    return (
        f"{chip.adc.bits} bits, {digits(chip.converter.energy_pj)} pJ a conversion by the law {chip.adc.law}: "
        f"{law_source(chip)}"
    )


def _model_facts(cost: Cost) -> Facts:
    chip = cost.chip
    matrices = f"{len(cost.layers)} matri{'ces' if len(cost.layers) > 1 else 'x'}"
    return [
        ("model", f"{cost.model}: {matrices} on crossbars, {quantity(cost.macs, COUNT)} MACs a sample"),
        ("chip", f"{chip.name}: {chip.crossbars:,} crossbars of {chip.crossbar.rows} x {chip.crossbar.columns}"),
        ("numbers", digits_text(chip)),
        ("ADC", adc_text(chip)),
    ]


def _result_facts(cost: Cost, run: Run | None) -> Facts:
    turns = "" if cost.turns == 1 else f", in {cost.turns} turns, for each of which cells are written anew"
    fixed = sum(cost.fixed_pj.values())
    facts = [
        (
            "placed",
            f"{cost.crossbars:,} crossbar{_s(cost.crossbars)} on {cost.tiles:,} tile{_s(cost.tiles)}, "
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
    return facts if run is None else [*facts, *_run_facts(run)]


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
        facts.append(("noise", _noise(run)))
    if run.exact:
        facts.append(("sums", "all are the quantised network's integers"))
    return facts


def _noise(run: Run) -> str:
    return f"{run.noise}; {run.trials} trial{_s(run.trials)} from seed {run.seed}"


def _on_chip(run: Run) -> str:
    spread = f" +- {run.spread:.1%} ({run.trials} trials)" if run.trials > 1 else ""
    return f"{run.accuracy:.1%}{spread}"


def _each_second(cost: Cost) -> str:
    return f"{quantity(1e9 / cost.interval_ns, COUNT)} a second"


def _s(many: int) -> str:
    return "" if many == 1 else "s"


def _warned(lines: Sequence[str]) -> list[RenderableType]:
    if not lines:
        return []
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold red", no_wrap=True)
    grid.add_column(style="red")
    for line in lines:
        grid.add_row("WARNING", Text(line))
    return [Text(), grid]


def _layer_table(cost: Cost) -> RenderableType:
    """Where matrices lie, and what they cost for one sample."""
    by_layer = cost.energy.by_layer()
    rest = {name: energy for name, energy in by_layer.items() if name not in {layer.name for layer in cost.layers}}
    energies = [*(layer.energy_pj for layer in cost.layers), *rest.values()]
    size, unit = unit_for(energies, ENERGY)
    headings = ["matrix", "rows x\noutputs", "positions", "crossbars\nx copies", "cells\nused", unit, "share"]
    turns = [] if cost.turns == 1 else ["turn"]
    table = plain_table(headings + turns)
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
            *([str(layer.turn + 1)] if turns else []),
        )
    for (name, pj), energy in zip(rest.items(), numbers[len(cost.layers) :], strict=True):
        table.add_row(Text(f"({name})"), "", "", "", "", energy, percent(pj, cost.energy.total_pj))
    return titled("matrices on crossbars, and the energy of a sample", table)


def _shape(layer: LayerCost) -> str:
    groups = "" if layer.groups == 1 else f"{layer.groups:,} x "
    return f"{groups}{layer.rows:,} x {layer.outputs:,}"


def _conversion_table(cost: Cost, run: Run) -> RenderableType:
    """Which converters matrices need, and what the chip's did to their sums."""
    bits = cost.chip.adc.bits
    title = f"bits that lose nothing, and what the chip's {bits} did in {run.samples:,} samples" + _times(run)
    headings = ["matrix", "bits\na priori", "\nexact", "sums\nby", "conver-\nsions", "\nclipped", "wrong\nsums"]
    table = plain_table([*headings, "relative\nerror"])
    costs = {layer.name: layer for layer in cost.layers}
    for layer in run.layers:
        needed = costs[layer.name]
        table.add_row(
            Text(layer.name),
            str(needed.adc_bits_a_priori),
            str(needed.adc_bits_exact),
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


def _left_out(costs: Sequence[Cost]) -> Table:
    """What the chips have no unit for, and what the model of them leaves out: it is in no figure above."""
    chips: dict[tuple[str, str], list[str]] = {}
    for cost in costs:
        for line in left_out(cost):
            chips.setdefault((cost.model, line), []).append(cost.chip.name)
    every = len({cost.chip.name for cost in costs})
    lines = [
        (f"{model}: " if len(costs) > 1 else "") + line + (f" ({', '.join(names)})" if len(names) < every else "")
        for (model, line), names in chips.items()
    ]
    return fact_grid([("left out", "\n".join((*lines, _NOT_MODELLED)))])


def left_out(cost: Cost) -> list[str]:
    """What costs nothing in a simulation, in words: operations and events that no unit of the chip pays for."""
    missing = sorted((op for op in cost.digital if not is_paid(op, cost)), key=lambda op: op.function)
    parts = []
    for function, group in groupby(missing, key=lambda op: op.function):
        ops = list(group)
        times, elements = sum(op.times for op in ops), sum(op.elements for op in ops)
        parts.append(f"{function} ({times:,} call{_s(times)}, {quantity(elements, COUNT)} elements)")
    lines = [f"digital operations without a unit on the chip: {', '.join(parts)}"] if parts else []
    if cost.energy.unpaid:
        lines.append(f"events that no unit of the chip pays for: {', '.join(map(str, cost.energy.unpaid))}")
    return lines


def _compared(simulations: Sequence[Simulation], facts: Facts, warnings: Sequence[str]) -> RenderableType:
    labels = simulation_labels(simulations)
    lines = list(warnings)
    for label, simulation in zip(labels, simulations, strict=True):
        lines += [f"{label}: {line}" for line in warnings_of(simulation)]
    chips = {simulation.cost.chip.name: simulation.cost.chip for simulation in simulations}
    about = [fact for name, chip in chips.items() for fact in ((name, digits_text(chip)), ("  ADC", adc_text(chip)))]
    costs = [simulation.cost for simulation in simulations]
    noisy = [simulation.run for simulation in simulations if simulation.run is not None and simulation.run.noise]
    noises = dict.fromkeys(map(_noise, noisy))
    about += [("noise", noise) for noise in noises]
    return Group(
        fact_grid([*facts, *about]), *_warned(lines), Text(), _SideBySide(simulations), Text(), _left_out(costs)
    )


@dataclass(frozen=True)
class _SideBySide:
    """A column for each simulation, as many beside one another as the console is wide, the others below."""

    simulations: Sequence[Simulation]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        rows = _rows(self.simulations)
        heads = [f"{simulation.cost.model}\n{simulation.cost.chip.name}" for simulation in self.simulations]
        first = max(len(name) for name, _ in rows) + 2
        widths = [
            2 + max(len(text) for text in (*heads[place].split("\n"), *(values[place] for _, values in rows)))
            for place in range(len(heads))
        ]
        for low, high in _pages(widths, options.max_width - first):
            if low:
                yield Text()
            table = plain_table(["", *heads[low:high]])
            table.columns[0].no_wrap = True
            for name, values in rows:
                table.add_row(Text(name), *values[low:high])
            yield table


def _pages(widths: Sequence[int], room: int) -> Iterator[tuple[int, int]]:
    """From which to which column there is room beside one another; a column at least."""
    low = 0
    while low < len(widths):
        high = low + 1
        while high < len(widths) and sum(widths[low : high + 1]) <= room:
            high += 1
        yield low, high
        low = high


def _rows(simulations: Sequence[Simulation]) -> list[tuple[str, list[str]]]:
    """What stands below one another, for all simulations."""
    costs = [simulation.cost for simulation in simulations]
    runs = [simulation.run for simulation in simulations]
    energies = [cost.energy.total_pj for cost in costs]
    fixed = [sum(cost.fixed_pj.values()) for cost in costs]
    size, unit = unit_for(energies, ENERGY)
    fixed_size, fixed_unit = unit_for(fixed, ENERGY)
    blank = [""] * len(costs)

    def of_cost(value: Callable[[Cost], str]) -> list[str]:
        return [value(cost) for cost in costs]

    def of_run(value: Callable[[Run], str]) -> list[str]:
        return [_NOTHING if run is None or run.accuracy is None else value(run) for run in runs]

    rows = [
        ("accuracy, floating point", of_run(lambda run: f"{run.accuracy_float:.1%}")),
        ("accuracy, quantised", of_run(lambda run: f"{run.accuracy_quantised:.1%}")),
        ("accuracy on the chip", of_run(lambda run: f"{run.accuracy:.1%}")),
        ("  +- over trials", of_run(lambda run: f"{run.spread:.1%}" if run.trials > 1 else "")),
        ("conversions clipped", [_NOTHING if run is None else _clipped(run) for run in runs]),
        ("wrong sums", [_NOTHING if run is None else _wrong(run) for run in runs]),
        ("ADC bits", of_cost(lambda cost: str(cost.chip.adc.bits))),
        ("  lossless, exact", of_cost(lambda cost: str(lossless_bits(cost)))),
        ("MACs a sample", of_cost(lambda cost: quantity(cost.macs, COUNT))),
        ("latency", of_cost(lambda cost: quantity(cost.latency_ns, TIME))),
        ("one sample every", of_cost(lambda cost: quantity(cost.interval_ns, TIME))),
        ("samples a second", of_cost(lambda cost: quantity(1e9 / cost.interval_ns, COUNT))),
        ("TOPS", of_cost(lambda cost: digits(cost.tops))),
        ("TOPS/W by events", of_cost(lambda cost: digits(cost.tops_per_w))),
        ("crossbars in use", of_cost(lambda cost: f"{cost.crossbars:,}")),
        ("tiles in use", of_cost(lambda cost: f"{cost.tiles:,}")),
        ("turns", of_cost(lambda cost: str(cost.turns))),
        ("cells used", of_cost(lambda cost: f"{cost.utilisation:.0%}")),
        ("mm2 of these tiles", of_cost(lambda cost: digits(cost.area_mm2))),
        ("W of these tiles", of_cost(lambda cost: digits(cost.power_w))),
        ("", blank),
        (f"{unit} a sample, events", column(energies, size)),
    ]
    by_unit = [cost.energy.by_unit() for cost in costs]
    names = sorted({name for units in by_unit for name in units}, key=lambda name: -_largest(name, by_unit))
    most = max(energies)
    rows += [(f"  {name}", column([units.get(name, 0.0) for units in by_unit], size, most)) for name in names]
    rows.append(("  ADC's share", of_cost(lambda cost: f"{adc_share(cost.energy.by_unit()):.1%}")))
    rows.append((f"{fixed_unit} a sample, power", column(fixed, fixed_size)))
    return [(name, values) for name, values in rows if any(values) or not name]


def _largest(name: str, by_unit: Sequence[dict[str, float]]) -> float:
    return max(units.get(name, 0.0) for units in by_unit)


def _clipped(run: Run) -> str:
    return percent(run.clipped, sum(layer.converted.conversions for layer in run.layers))


def _wrong(run: Run) -> str:
    return percent(sum(layer.wrong for layer in run.layers), sum(layer.sums for layer in run.layers))
