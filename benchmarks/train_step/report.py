"""What did the race show? One line per contestant, as JSON or as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.race.contestant import Contestant, Step
from benchmarks.race.machine import processor
from benchmarks.race.medians import cpu_ms, stages_ms, step_ms
from benchmarks.race.workload import Workload

Line = dict[str, Any]

STAGES = {"build": ("build", "schedule"), "forward": ("forward",), "backward": ("backward",)}
"""What is reported, and of which stages it is the sum."""


def lines_of(
    workload: Workload, contestants: Sequence[Contestant], steps: Sequence[list[Step]], threads: int
) -> list[Line]:
    """Medians, in the order of the contestants; of one contestant's variants only the fastest."""
    batch, machine = len(workload.samples), processor()
    conditions = {"workload": workload.name, "batch": batch, "hidden": workload.hidden}
    taken_by = list(zip(contestants, steps, strict=True))
    floors = [step_ms(taken) for contestant, taken in taken_by if contestant.impl == "floor"]
    lines: dict[str, Line] = {}
    for contestant, taken in taken_by:
        median = step_ms(taken)
        line = {
            **conditions,
            "impl": contestant.impl,
            "variant": contestant.variant,
            "step_ms": round(median, 3),
            **{f"{stage}_ms": stages_ms(taken, *parts) for stage, parts in STAGES.items()},
            "cpu_ms": round(cpu_ms(taken), 3),
            "trees_per_s": round(1e3 * batch / median, 1),
            "floor_ratio": round(median / floors[0], 3) if floors else None,
            "threads": threads,
            "runs": len(taken),
            "versions": contestant.versions,
            "processor": machine,
        }
        other = lines.get(contestant.impl)
        if other is None or line["step_ms"] < other["step_ms"]:
            lines[contestant.impl] = line
    return list(lines.values())


def table_of(lines: Sequence[Line]) -> Table:
    first = lines[0]
    title = "{workload}, batch {batch}, hidden {hidden}, {threads} thread(s), {processor}".format(**first)
    table = Table(title=title, caption="medians, ms per training step, and samples per second")
    columns = {"step_ms": "step", **{f"{stage}_ms": stage for stage in STAGES}, "cpu_ms": "cpu"}
    columns |= {"trees_per_s": "per s", "floor_ratio": "/ floor", "runs": "runs"}
    table.add_column("impl", no_wrap=True)
    for heading in columns.values():
        table.add_column(heading, justify="right")
    for line in lines:
        name = f"{line['impl']} ({line['variant']})" if line["variant"] else line["impl"]
        table.add_row(name, *("-" if line[column] is None else f"{line[column]:,}" for column in columns))
    return table


def show(lines: Sequence[Line], *, on_stderr: bool) -> None:
    Console(stderr=on_stderr, width=120).print(table_of(lines))
