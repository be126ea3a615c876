"""Stats: what one call did, counted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stats:
    """One call of a batched model. `bound` is the least number of batches that any schedule of its graph can have.

    seconds: wall time by stage (trace, schedule, memory, execute).
    """

    samples: int
    nodes: int
    types: int
    batches: int
    bound: int
    seconds: dict[str, float]
    policy: str
    executor: str
    unseen: int = 0  # choices that a learned policy left to height, see Schedule
