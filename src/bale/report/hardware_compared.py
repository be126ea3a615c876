"""How do several simulations read side by side?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.text import Text

from bale.hardware import Cost, Run, Simulation
from bale.report.grids import Facts, fact_grid, plain_table, warned
from bale.report.hardware import adc_share, lossless_bits, warnings_of
from bale.report.hardware_texts import adc_text, bits_text, digits_text, left_out_grid, noise_text, simulation_labels
from bale.report.quantities import COUNT, ENERGY, TIME, column, digits, percent, quantity, unit_for

_NOTHING = "-"


def comparison(simulations: Sequence[Simulation], facts: Facts, warnings: Sequence[str]) -> RenderableType:
    """Return simulations for a rich console: a column each, below what they are and what is wrong with them."""
    labels = simulation_labels(simulations)
    lines = list(warnings)
    for label, simulation in zip(labels, simulations, strict=True):
        lines += [f"{label}: {line}" for line in warnings_of(simulation)]
    chips = {simulation.cost.chip.name: simulation.cost.chip for simulation in simulations}
    about = [fact for name, chip in chips.items() for fact in ((name, digits_text(chip)), ("  ADC", adc_text(chip)))]
    costs = [simulation.cost for simulation in simulations]
    noisy = [simulation.run for simulation in simulations if simulation.run.noise]
    noises = dict.fromkeys(map(noise_text, noisy))
    about += [("noise", noise) for noise in noises]
    return Group(
        fact_grid([*facts, *about]), *warned(lines), Text(), _SideBySide(simulations), Text(), left_out_grid(costs)
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
        return [_NOTHING if run.accuracy is None else value(run) for run in runs]

    rows = [
        ("accuracy, floating point", of_run(lambda run: f"{run.accuracy_float:.1%}")),
        ("accuracy, quantised", of_run(lambda run: f"{run.accuracy_quantised:.1%}")),
        ("accuracy on the chip", of_run(lambda run: f"{run.accuracy:.1%}")),
        ("  +- over trials", of_run(lambda run: f"{run.spread:.1%}" if run.trials > 1 else "")),
        ("conversions clipped", [_clipped(run) for run in runs]),
        ("wrong sums", [_wrong(run) for run in runs]),
        ("ADC bits", of_cost(bits_text)),
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
