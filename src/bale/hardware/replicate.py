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

    `budget` has room for one copy of each; else as `allocate`, with one way to lay each matrix.
    """
    return [copies for _, copies in allocate([[load] for load in loads], budget)]


def allocate(ways: Sequence[Sequence[Load]], budget: int) -> list[tuple[int, int]]:
    """The way to lay each matrix, and its copies, with which the slowest is fastest, and no crossbar more is spent.

    Exact: a bound on the slowest decides what each matrix needs at least, and so whether the budget is enough, and is
    found by bisection. The same for every kind of mapping. Vectors of all calls of a matrix go to its copies in
    turn. `budget` has room for one copy of each, laid in the first of its ways; of ways that cost the same the first
    is taken.
    """
    assert sum(loads[0].cost(1) for loads in ways) <= budget

    def fits(time: int) -> bool:
        spent = 0
        for loads in ways:
            found = _least(loads, time)
            if found is None:
                return False
            way, copies = found
            spent += loads[way].cost(copies)
        return spent <= budget

    low, high = 0, max(loads[0].time(1) for loads in ways)  # low is too fast, high is not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    found = [_least(loads, high) for loads in ways]
    return [each for each in found if each is not None]


def _least(loads: Sequence[Load], time: int) -> tuple[int, int] | None:
    """The cheapest way and its copies of which none is occupied for longer than `time`; None if there is none."""
    copies = [load.copies_for(time) for load in loads]
    able = [way for way, load in enumerate(loads) if copies[way] <= load.most]
    way = min(able, key=lambda way: loads[way].cost(copies[way]), default=None)
    return None if way is None else (way, copies[way])
