"""What is one cell of the table?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

PHASES = ("inference", "training")


@dataclass(frozen=True)
class Cell:
    """A workload at one width of its states, one size of mini-batch and one number of threads.

    phase   inference: forward and loss, without autograd; training: forward, loss and backward
    """

    workload: str
    hidden: int
    batch: int
    phase: str
    threads: int
    seed: int

    @property
    def training(self) -> bool:
        return self.phase == "training"

    def __str__(self) -> str:
        return f"{self.workload}, hidden {self.hidden}, batch {self.batch}, {self.phase}"

    def fields(self) -> dict[str, Any]:
        """Those of a line of JSON, which name the cell again."""
        return asdict(self)

    @classmethod
    def of(cls, line: dict[str, Any]) -> Cell:
        return cls(*(line[name] for name in cls.__dataclass_fields__))


def grid(
    workloads: Iterable[str],
    widths: Iterable[int],
    sizes: Iterable[int],
    phases: Iterable[str],
    threads: int,
    seed: int,
) -> list[Cell]:
    """All cells, a workload and a width after another, so that these are made once."""
    return [Cell(*chosen, threads, seed) for chosen in product(workloads, widths, sizes, phases)]
