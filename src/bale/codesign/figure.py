"""What is one measured number of a system, and what stands beside it?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """How many times better a system is than a baseline, or another number of it, and what its paper claims.

    figure      what is measured, such as "throughput, N = 1.2"
    baseline    what it is measured against; "" for a number that stands for itself
    ours        the number; of a ratio above 1: the system is better; None: what it would need is not known
    unit        "x" for ratios
    claim       the paper's number, where this figure is what it speaks of; None: it claims nothing of the kind
    conditions  both sides' own numbers, with units in their names, and all that the figure depends on, as JSON has it
    """

    figure: str
    baseline: str
    ours: float | None
    unit: str = "x"
    claim: float | None = None
    conditions: Mapping[str, Any] = field(default_factory=dict)
