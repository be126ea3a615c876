"""What did the race show? One line per contestant, as JSON or as a table."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.train_step.contestant import STAGES, Contestant, Step
from benchmarks.train_step.workload import Workload

Line = dict[str, Any]


def lines_of(
    workload: Workload, contestants: Sequence[Contestant], steps: Sequence[list[Step]], threads: int
) -> list[Line]:
    """Medians, in the order of the contestants; of one contestant's variants only the fastest."""
    batch, machine = len(workload.samples), processor()
    conditions = {"workload": workload.name, "batch": batch, "hidden": workload.hidden}
    floors = [
        _step_ms(taken) for contestant, taken in zip(contestants, steps, strict=True) if contestant.impl == "floor"
    ]
    lines: dict[str, Line] = {}
    for contestant, taken in zip(contestants, steps, strict=True):
        step_ms = _step_ms(taken)
        line = {
            **conditions,
            "impl": contestant.impl,
            "variant": contestant.variant,
            "step_ms": round(step_ms, 3),
            **{f"{stage}_ms": _stage_ms(taken, stage) for stage in STAGES},
            "cpu_ms": round(1e3 * statistics.median(step.cpu_seconds for step in taken), 3),
            "trees_per_s": round(1e3 * batch / step_ms, 1),
            "floor_ratio": round(step_ms / floors[0], 3) if floors else None,
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


def processor() -> str:
    """The processor's name; Linux alone knows it in words."""
    try:
        described = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in described.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _step_ms(steps: Sequence[Step]) -> float:
    return 1e3 * statistics.median(step.seconds for step in steps)


def _stage_ms(steps: Sequence[Step], stage: str) -> float | None:
    if stage not in steps[0].stages:
        return None
    return round(1e3 * statistics.median(step.stages[stage] for step in steps), 3)
