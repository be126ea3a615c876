"""How does a chip read to a person, and where is every number from?"""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bale.hardware import CONSTANTS, Chip, Event, Peak, peak
from bale.report.grids import Facts, fact_grid, plain_table, titled
from bale.report.hardware import adc_share
from bale.report.hardware_texts import adc_text, digits_text, plural
from bale.report.quantities import digits, percent


def chip_table(chip: Chip) -> RenderableType:
    """Return a chip for a rich console: its parts, its units with what they draw, cover and cost, and the sum."""
    most = peak(chip)
    return Group(
        fact_grid(_facts(chip)),
        Text(),
        _unit_table(chip, most),
        Text(),
        _event_table(chip),
        Text(),
        titled("the chip, every unit busy", fact_grid(_sums(chip, most))),
        Text(),
        titled("from", _sources(chip)),
    )


def constants_table() -> RenderableType:
    """Return every constant of the accelerator model for a rich console: value, unit, source, how sure that is."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("constant", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    table.add_column("mark", no_wrap=True)
    table.add_column("source")
    for constant in CONSTANTS:
        table.add_row(constant.name, f"{constant.value:.6g}", constant.unit, constant.mark, Text(constant.source))
    marks = (
        "published: read in the source named. recalled: from it, and not read again. inferred: our own, from what else "
        "is published."
    )
    return Group(table, Text(), Text(marks))


def chip_summary(chip: Chip) -> str:
    """Return a chip in one line."""
    most = peak(chip)
    return f"a chip of {chip.crossbars:,} crossbars, {digits(most.power_w)} W, {digits(most.area_mm2)} mm2"


def _facts(chip: Chip) -> Facts:
    cell, crossbar = chip.cell, chip.crossbar
    read = f"{digits(cell.read_pj * 1e3)} fJ a read ({cell.read})"
    return [
        ("chip", f"{chip.name}, {chip.node_nm:g} nm"),
        ("numbers", digits_text(chip)),
        (
            "cell",
            f"{cell.bits} bits, {read}; {cell.on_ohm:,.0f} to {cell.off_ohm:,.0f} ohm; a write {digits(cell.write_pj)} "
            f"pJ, {digits(cell.write_ns)} ns",
        ),
        ("crossbar", f"{crossbar.rows} x {crossbar.columns} cells, read in {digits(crossbar.read_ns)} ns"),
        ("ADC", adc_text(chip)),
        (
            "converters",
            f"{chip.adc.per_ima} an IMA, {digits(chip.adc.rate_gsps)} GS/s each: a cycle is {digits(chip.cycle_ns)} ns",
        ),
        ("structure", _structure(chip)),
        ("tiles", "may be shared by layers" if chip.share_tiles else "hold one layer each"),
    ]


def _structure(chip: Chip) -> str:
    counts = [(chip.crossbars_per_ima, "crossbar", "an IMA"), (chip.imas_per_tile, "IMA", "a tile")]
    counts += [(chip.tiles, "tile", "on the chip"), (chip.tiles_per_router, "tile", "a router")]
    parts = [f"{many:,} {what}{plural(many)} {each}" for many, what, each in counts]
    return f"{', '.join(parts)}: {chip.crossbars:,} crossbars"


def _unit_table(chip: Chip, most: Peak) -> RenderableType:
    table = plain_table(["unit", "many", "per", "mW", "mm2", "W, all", "share", "mm2, all", "from"])
    table.padding = (0, 1, 0, 0)
    table.columns[2].justify = "left"
    numbers = {source: str(place + 1) for place, source in enumerate(_all_sources(chip))}
    for unit in chip.all_units:
        power = most.power_by_unit_w[unit.name]
        table.add_row(
            Text(unit.name),
            f"{unit.count:,}",
            str(unit.per),
            digits(unit.power_mw),
            digits(unit.area_mm2),
            digits(power),
            percent(power, most.power_w),
            digits(most.area_by_unit_mm2[unit.name]),
            numbers.get(unit.source, ""),
        )
    return titled("units: power and area of all in one place, and of all on the chip", table)


def _event_table(chip: Chip) -> RenderableType:
    table = plain_table(["unit", "pays for", "pJ each"])
    table.columns[1].justify = "left"
    for unit in chip.all_units:
        if unit.event is not None:
            table.add_row(Text(unit.name), str(unit.event), digits(unit.energy_pj))
    table.add_row("cells", str(Event.CELL_WRITE), digits(chip.cell.write_pj))
    unpaid = [
        str(event) for event in Event if event not in {Event.CELL_WRITE, *(unit.event for unit in chip.all_units)}
    ]
    missing = [Text(f"no unit pays for {', '.join(unpaid)}", style="red")] if unpaid else []
    return titled("events", table, *missing)


def _sums(chip: Chip, most: Peak) -> Facts:
    """The whole chip, all units busy."""
    facts = [
        (
            "power",
            f"{digits(most.power_w)} W by the units' power (ADC {adc_share(most.power_by_unit_w):.1%}); "
            f"{digits(most.event_power_w)} W by events (ADC {adc_share(most.event_power_by_unit_w):.1%})",
        ),
        ("area", f"{digits(most.area_mm2)} mm2"),
        ("peak", f"{digits(most.tops)} TOPS of {chip.weight_bits} x {chip.input_bits} bits"),
        ("storage", f"{digits(most.storage_mib)} MiB"),
    ]
    if most.power_w and most.event_power_w:
        each = f"{digits(most.tops / most.power_w)} TOPS/W by power, {digits(most.tops / most.event_power_w)} by events"
        facts.append(("per W", each))
    if most.area_mm2:
        each = f"{digits(most.tops / most.area_mm2)} TOPS/mm2, {digits(most.storage_mib / most.area_mm2)} MiB/mm2"
        facts.append(("per mm2", each))
    return facts


def _all_sources(chip: Chip) -> list[str]:
    return list(dict.fromkeys(unit.source for unit in chip.all_units if unit.source))


def _sources(chip: Chip) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column()
    for place, source in enumerate(_all_sources(chip)):
        grid.add_row(str(place + 1), Text(source))
    return grid
