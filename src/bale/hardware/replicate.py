"""How many copies of each matrix balance the pipeline between layers, under a budget of crossbars?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """What a matrix asks for: crossbars of a copy, vectors of a sample, cycles of a vector, the most copies of use.

    Copies are paid for in units of `unit` crossbars, such as whole tiles.
    """

    name: str
    crossbars: int
    positions: int
    cycles: int
    most: int
    unit: int = 1

    def cost(self, copies: int) -> int:
        """Crossbars that copies take."""
        return -(-self.crossbars * copies // self.unit) * self.unit

    def time(self, copies: int) -> int:
        """Cycles that a sample occupies the busiest copy for."""
        return -(-self.positions // copies) * self.cycles

    def copies_for(self, time: int) -> int:
        """The fewest copies of which none is occupied for longer than `time`; more than `most` if there are none."""
        vectors = time // self.cycles
        return -(-self.positions // vectors) if vectors else self.most + 1


def replicate(loads: Sequence[Load], budget: int) -> list[int]:
    """The copies of each matrix with which the slowest is fastest, and no copy more than that takes.

    Exact: a bound on the slowest decides the fewest copies of each, and so whether the budget is enough, and is found
    by bisection. The same for every kind of mapping. Vectors of all calls of a matrix go to its copies in
    turn. `budget` has room for one copy of each.
    """
    assert sum(load.cost(1) for load in loads) <= budget

    def fits(time: int) -> bool:
        copies = [load.copies_for(time) for load in loads]
        if any(many > load.most for many, load in zip(copies, loads, strict=True)):
            return False
        return sum(load.cost(many) for many, load in zip(copies, loads, strict=True)) <= budget

    low, high = 0, max(load.time(1) for load in loads)  # low is too fast, high is not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return [load.copies_for(high) for load in loads]
