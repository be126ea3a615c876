"""In which words are chips and what a simulation leaves out told?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.table import Table

from bale.hardware import Chip, Cost, Run, Simulation
from bale.report.grids import fact_grid
from bale.report.hardware import is_paid, law_source
from bale.report.quantities import COUNT, digits, quantity

_NOT_MODELLED = "not modelled: scales and biases of sums, control, waiting for full buffers and busy routers"


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


def digits_text(chip: Chip) -> str:
    """The numbers that a chip computes with."""
    flip = ", flipped" if chip.flip else ""
    return (
        f"weights of {chip.weight_bits} bits ({chip.encoding}{flip}, {chip.cell.bits} bits a cell), "
        f"inputs of {chip.input_bits} ({chip.dac_bits} at a time)"
    )


def bits_text(cost: Cost) -> str:
    """The bits of a network's converters, of the fewest to of the most."""
    bits = [layer.adc_bits for layer in cost.layers]
    return str(min(bits)) if min(bits) == max(bits) else f"{min(bits)} to {max(bits)}"


def adc_text(chip: Chip) -> str:
    """A chip's converters, and by which law."""
    return (
        f"{chip.adc.bits} bits, {digits(chip.converter.energy_pj)} pJ a conversion by the law {chip.adc.law}: "
        f"{law_source(chip)}"
    )


def noise_text(run: Run) -> str:
    """What devices were drawn, how often, from which seed."""
    return f"{run.noise}; {run.trials} trial{plural(run.trials)} from seed {run.seed}"


def left_out_grid(costs: Sequence[Cost]) -> Table:
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
        parts.append(f"{function} ({times:,} call{plural(times)}, {quantity(elements, COUNT)} elements)")
    lines = [f"digital operations without a unit on the chip: {', '.join(parts)}"] if parts else []
    if cost.energy.unpaid:
        lines.append(f"events that no unit of the chip pays for: {', '.join(map(str, cost.energy.unpaid))}")
    return lines


def plural(many: int) -> str:
    """The ending of a word for so many."""
    return "" if many == 1 else "s"
