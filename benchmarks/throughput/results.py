"""What does a line of JSON say, and which cells are done?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.race.contestant import Contestant, Step
from benchmarks.race.machine import processor
from benchmarks.race.medians import cpu_ms, stages_ms, step_ms
from benchmarks.throughput.cell import Cell

Line = dict[str, Any]

STAGES = {
    "build": ("build",),
    "schedule": ("schedule",),
    "execute": ("forward", "backward", "products"),
    "backward": ("backward",),
}
"""What is reported, and of which stages it is the sum."""


def lines_of(cell: Cell, data: str, contestants: Sequence[Contestant], steps: Sequence[list[Step]]) -> list[Line]:
    """Medians, in the order of the contestants; of one contestant's variants only the fastest."""
    taken_by = list(zip(contestants, steps, strict=True))
    floors = [step_ms(taken) for contestant, taken in taken_by if contestant.impl == "floor"]
    lines: dict[str, Line] = {}
    for contestant, taken in taken_by:
        median = step_ms(taken)
        line = {
            **cell.fields(),
            "data": data,
            "impl": contestant.impl,
            "variant": contestant.variant,
            "instances_per_s": round(1e3 * cell.batch / median, 1),
            "step_ms": round(median, 3),
            **{f"{stage}_ms": stages_ms(taken, *parts) for stage, parts in STAGES.items()},
            "cpu_ms": round(cpu_ms(taken), 3),
            "floor_ratio": round(median / floors[0], 3) if floors else None,
            "rounds": len(taken),
            "versions": contestant.versions,
            "processor": processor(),
        }
        other = lines.get(contestant.impl)
        if other is None or line["step_ms"] < other["step_ms"]:
            lines[contestant.impl] = line
    return list(lines.values())


class Results:
    """The lines of a file and those that come after them; without a file, in memory alone.

    A cell is done when the file has a line of it: all lines of a cell are written at once, at its end.
    """

    def __init__(self, path: Path | None):
        self.path = path
        self.lines: list[Line] = []
        if path is not None and path.exists():
            self.lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines() if text.strip()]
        self.done = {Cell.of(line) for line in self.lines}

    def add(self, lines: Sequence[Line]) -> None:
        self.lines += lines
        self.done |= {Cell.of(line) for line in lines}
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(to_text(lines))


def to_text(lines: Sequence[Line]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)
