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
    tables: dict[tuple[str, int], ByCell] = {}
    for cell, found in cells.items():
        tables.setdefault((cell.workload, cell.threads), {})[cell] = found
    for (workload, threads), found in tables.items():
        console.print(table_of(f"{workload}, {threads} thread(s)", found))
    for told in verdict(cells):
        console.print(told)


def table_of(title: str, cells: ByCell) -> Table:
    first = next(line for found in cells.values() for line in found.values())
    table = Table(
        title=f"{title}, data: {first['data']}; samples per second; {first['processor']}",
        caption="build, schedule, execute: of bale, ms a mini-batch; cpu: both by processor time",
    )
    headings = ("hidden", "batch", "phase", "bale", "build", "schedule", "execute", "/ floor", "by hand", "DyNet")
    for heading in (*headings, "bale / DyNet", "cpu", "ED-Batch / DyNet"):
        table.add_column(heading, justify="right")
    for cell, found in cells.items():
        table.add_row(str(cell.hidden), str(cell.batch), cell.phase, *_row(cell, found))
    return table


def _row(cell: Cell, found: dict[str, Line]) -> list[str]:
    bale, other = found.get("bale", {}), ed_batch_over_dynet(cell)
    ratio = bale_over_dynet(found, "step_ms")
    mark = "" if ratio is None or other is None else " exceeded" if ratio > other else " not exceeded"
    return [
        _number(bale.get("instances_per_s")),
        *(_number(bale.get(f"{stage}_ms")) for stage in ("build", "schedule", "execute")),
        _number(bale.get("floor_ratio"), 2),
        _number(found.get("by-hand", {}).get("instances_per_s")),
        _number(found.get("dynet", {}).get("instances_per_s")),
        _number(ratio, 2),
        _number(bale_over_dynet(found, "cpu_ms"), 2),
        _number(other, 2) + mark,
    ]


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def bale_over_dynet(found: dict[str, Line], time: str) -> float | None:
    """How many times faster bale is than DyNet in a cell, by `step_ms` or `cpu_ms`; None where one is missing."""
    return found["dynet"][time] / found["bale"][time] if {"bale", "dynet"} <= set(found) else None


def ed_batch_over_dynet(cell: Cell) -> float | None:
    """The same of ED-Batch as it was published, which is inference alone."""
    pair = published(cell.workload, cell.hidden, cell.batch) if cell.phase == "inference" else None
    return pair.ed_batch / pair.dynet if pair else None


def verdict(cells: ByCell) -> list[str]:
    """In how many cells bale is further ahead; nothing where no cell has both pairs."""
    told: list[str] = []
    for time, name in (("step_ms", "time"), ("cpu_ms", "processor time")):
        pairs = [(bale_over_dynet(found, time), ed_batch_over_dynet(cell)) for cell, found in cells.items()]
        known = [(ratio, other) for ratio, other in pairs if ratio is not None and other is not None]
        exceeded = sum(ratio > other for ratio, other in known)
        reached = "reached" if exceeded >= SHARE * len(known) else "not reached"
        told.append(
            f"by {name}, bale / DyNet exceeds ED-Batch / DyNet in {exceeded} of {len(known)} cells; the aim, three"
            f" quarters of them, is {reached}"
        )
    return told if known else []
