"""What is a number of a report? The median of a contestant's steps, in milliseconds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.race.contestant import Step


def step_ms(steps: Sequence[Step]) -> float:
    return 1e3 * statistics.median(step.seconds for step in steps)


def cpu_ms(steps: Sequence[Step]) -> float:
    return 1e3 * statistics.median(step.cpu_seconds for step in steps)


def stages_ms(steps: Sequence[Step], *stages: str) -> float | None:
    """Of these stages together, those that are known; None where none of them is."""
    known = [stage for stage in stages if stage in steps[0].stages]
    if not known:
        return None
    return round(1e3 * statistics.median(sum(step.stages[stage] for stage in known) for step in steps), 3)
