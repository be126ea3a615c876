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
    workload: Workload, contestants: Sequence[Contestant], steps: dict[str, list[Step]], threads: int
) -> list[Line]:
    """Medians, in the order of the contestants; of one peer's modes only the faster one."""
    batch, machine = len(workload.samples), processor()
    conditions = {"workload": workload.name, "batch": batch, "hidden": workload.hidden}
    floor = _step_ms(steps["floor"]) if "floor" in steps else None
    lines: dict[str, Line] = {}
    for contestant in contestants:
        taken = steps[contestant.impl]
        step_ms = _step_ms(taken)
        impl = contestant.impl.split(":")[0]
        line = {
            **conditions,
            "impl": impl,
            "step_ms": round(step_ms, 3),
            **{f"{stage}_ms": _stage_ms(taken, stage) for stage in STAGES},
            "trees_per_s": round(1e3 * batch / step_ms, 1),
            "floor_ratio": None if floor is None else round(step_ms / floor, 3),
            "threads": threads,
            "runs": len(taken),
            **contestant.notes,
            "versions": contestant.versions,
            "processor": machine,
        }
        if impl not in lines or line["step_ms"] < lines[impl]["step_ms"]:
            lines[impl] = line
    return list(lines.values())


def table_of(lines: Sequence[Line]) -> Table:
    first = lines[0]
    title = "{workload}, batch {batch}, hidden {hidden}, {threads} thread(s), {processor}".format(**first)
    table = Table(title=title, caption="medians, ms per training step, and samples per second")
    columns = {"step_ms": "step", **{f"{stage}_ms": stage for stage in STAGES}}
    columns |= {"trees_per_s": "per s", "floor_ratio": "/ floor", "runs": "runs"}
    table.add_column("impl")
    for heading in columns.values():
        table.add_column(heading, justify="right")
    for line in lines:
        name = f"{line['impl']} ({line['autobatch']})" if "autobatch" in line else line["impl"]
        table.add_row(name, *("-" if line[column] is None else f"{line[column]:,}" for column in columns))
    return table


def show(lines: Sequence[Line], *, on_stderr: bool) -> None:
    Console(stderr=on_stderr).print(table_of(lines))


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
