"""Which designs can no other better in every respect? And if none keeps the budgets: which comes nearest?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bale.codesign.search.budgets import Budgets
from bale.codesign.search.design import Outcome
from bale.codesign.search.space import Design


@dataclass(frozen=True)
class Candidate:
    """A design of a study, what became of it, and the earlier one that it repeats, if it does."""

    number: int
    design: Design
    outcome: Outcome
    copy_of: int | None = None


@dataclass(frozen=True)
class Nearest:
    """A design that keeps not all budgets, and by which share each that it does not keep is exceeded."""

    candidate: Candidate
    excess: dict[str, float]


def pareto(points: Sequence[Sequence[float]]) -> list[int]:
    """The places of points that no other point betters: smaller or equal everywhere, and smaller somewhere.

    Of equal points all stay. O(points^2).

    >>> pareto([(1, 3), (2, 2), (3, 3), (3, 1), (2, 2)])
    [0, 1, 3, 4]
    """
    return [
        place
        for place, point in enumerate(points)
        if not any(
            all(other <= own for other, own in zip(others, point, strict=True)) and tuple(others) != tuple(point)
            for others in points
        )
    ]


def front(candidates: Sequence[Candidate], budgets: Budgets) -> list[Candidate]:
    """The Pareto front of energy, area and accuracy drop: designs that keep the budgets first, then by energy.

    Where latency has a budget it counts, too: the front then has the best of those that keep all budgets.
    """
    done = [each for each in candidates if each.outcome.complete and each.copy_of is None]
    found = [done[place] for place in pareto([_objectives(each.outcome, budgets) for each in done])]
    return sorted(found, key=lambda each: (not meets(each, budgets), *_objectives(each.outcome, budgets)))


def meets(candidate: Candidate, budgets: Budgets) -> bool:
    """Was it trained, and does it keep all budgets?"""
    outcome = candidate.outcome
    return outcome.complete and budgets.meets(outcome.costs, outcome.drop)


def nearest(candidates: Sequence[Candidate], budgets: Budgets) -> Nearest | None:
    """Of designs that exceed a budget the one whose largest excess is least; None where one keeps all of them.

    Designs that were not trained count by what they cost. None, too, where there are no costs of any.
    """
    known = [each for each in candidates if each.outcome.costs is not None]
    if not known or any(meets(each, budgets) for each in known):
        return None
    missed = [Nearest(each, _exceeded(each, budgets)) for each in known]
    return min(missed, key=lambda each: max(each.excess.values()))


def _exceeded(candidate: Candidate, budgets: Budgets) -> dict[str, float]:
    outcome = candidate.outcome
    excess = budgets.excess(outcome.costs, outcome.drop)
    return {name: share for name, share in excess.items() if share > 0}


def _objectives(outcome: Outcome, budgets: Budgets) -> tuple[float, ...]:
    costs = outcome.costs
    assert costs is not None and outcome.drop is not None  # it is complete
    return (costs.energy, costs.area, outcome.drop, *(() if budgets.latency is None else (costs.latency,)))
