"""What came out? A table for each workload, and whether bale is further ahead of DyNet than ED-Batch has been."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.throughput.cell import Cell
from benchmarks.throughput.published import published
from benchmarks.throughput.results import Line

SHARE = 0.75  # of the cells with published numbers: so many are to be exceeded

ByCell = dict[Cell, dict[str, Line]]
"""The lines of each cell by contestant."""


def show(lines: Sequence[Line], console: Console) -> None:
    cells: ByCell = {}
    for line in lines:
        cells.setdefault(Cell.of(line), {})[line["impl"]] = line
    for workload in dict.fromkeys(cell.workload for cell in cells):
        console.print(table_of(workload, {cell: found for cell, found in cells.items() if cell.workload == workload}))
    told = verdict(cells)
    if told is not None:
        console.print(told)


def table_of(workload: str, cells: ByCell) -> Table:
    first = next(line for found in cells.values() for line in found.values())
    title = f"{workload} ({first['data']}), samples per second; medians; {first['processor']}"
    table = Table(title=title, caption="build, schedule, execute: of bale, ms a mini-batch")
    for heading in ("hidden", "batch", "phase", "threads"):
        table.add_column(heading, justify="right")
    for heading in ("bale", "build", "schedule", "execute", "/ floor", "by hand", "DyNet", "bale / DyNet"):
        table.add_column(heading, justify="right")
    table.add_column("ED-Batch / DyNet", justify="right")
    for cell, found in cells.items():
        table.add_row(*map(str, (cell.hidden, cell.batch, cell.phase, cell.threads)), *_row(cell, found))
    return table


def _row(cell: Cell, found: dict[str, Line]) -> list[str]:
    bale = found.get("bale", {})
    ratio, other = ratios(cell, found)
    mark = "" if ratio is None or other is None else " exceeded" if ratio > other else " not exceeded"
    return [
        _number(bale.get("instances_per_s")),
        *(_number(bale.get(f"{stage}_ms")) for stage in ("build", "schedule", "execute")),
        _number(bale.get("floor_ratio"), 2),
        _number(found.get("by-hand", {}).get("instances_per_s")),
        _number(found.get("dynet", {}).get("instances_per_s")),
        _number(ratio, 2),
        _number(other, 2) + mark,
    ]


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def ratios(cell: Cell, found: dict[str, Line]) -> tuple[float | None, float | None]:
    """bale over DyNet, both of this cell, and ED-Batch over DyNet as published; None where one of a pair is missing."""
    rates = [found[impl]["instances_per_s"] for impl in ("bale", "dynet") if impl in found]
    pair = published(cell.workload, cell.hidden, cell.batch) if cell.phase == "inference" else None
    return rates[0] / rates[1] if len(rates) == 2 else None, pair.ed_batch / pair.dynet if pair else None


def verdict(cells: ByCell) -> str | None:
    """In how many cells bale is further ahead; None where no cell has both pairs."""
    pairs = [ratios(cell, found) for cell, found in cells.items()]
    known = [(ratio, other) for ratio, other in pairs if ratio is not None and other is not None]
    if not known:
        return None
    exceeded = sum(ratio > other for ratio, other in known)
    reached = "reached" if exceeded >= SHARE * len(known) else "not reached"
    return (
        f"bale / DyNet exceeds ED-Batch / DyNet in {exceeded} of {len(known)} cells;"
        f" the aim, three quarters of them, is {reached}"
    )
