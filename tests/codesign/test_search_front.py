"""Budgets are read as they are written; the front is what brute force finds; the nearest miss is the nearest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bale.codesign.search import (
    Budgets,
    Candidate,
    Costs,
    Design,
    Outcome,
    Structure,
    front,
    nearest,
    pareto,
    parse_budget,
    parse_drop,
)
from bale.errors import BaleError
from bale.hardware import Encoding

DESIGN = Design((), Structure(64, 64, 2, Encoding.OFFSET, 8, 8))
point = st.tuples(*[st.integers(0, 4)] * 3)


def candidate(number, energy, area, drop, latency=1.0, copy_of=None):
    accuracy = None if drop is None else 0.9 - drop
    return Candidate(number, DESIGN, Outcome(Costs(energy, area, latency, 1, 1, 8), accuracy, drop), copy_of)


@given(st.lists(point, max_size=20))
def test_a_point_is_on_the_front_unless_another_is_nowhere_larger_and_somewhere_smaller(points):
    def betters(other, own):
        return all(a <= b for a, b in zip(other, own, strict=True)) and any(
            a < b for a, b in zip(other, own, strict=True)
        )

    assert pareto(points) == [
        place for place, own in enumerate(points) if not any(betters(other, own) for other in points)
    ]


@given(st.lists(point, min_size=1, max_size=12), st.integers(1, 4), st.integers(1, 4))
def test_the_best_within_budgets_are_on_the_front_and_come_first(points, energy, area):
    budgets = Budgets(energy=energy, area=area)
    candidates = [candidate(number, *each) for number, each in enumerate(points)]
    found = front(candidates, budgets)
    kept = [each for each in candidates if budgets.meets(each.outcome.costs, each.outcome.drop)]
    if kept:
        least = min(kept, key=lambda each: each.outcome.costs.energy)
        assert found[0].outcome.costs.energy == least.outcome.costs.energy
        assert nearest(candidates, budgets) is None
    else:
        missed = nearest(candidates, budgets)
        assert max(missed.excess.values()) == min(
            max(budgets.excess(each.outcome.costs, each.outcome.drop).values()) for each in candidates
        )


def test_latency_counts_where_it_has_a_budget():
    slow, fast = candidate(0, 1, 1, 0.1, latency=9), candidate(1, 2, 2, 0.2, latency=1)
    assert front([slow, fast], Budgets(area=5)) == [slow]
    assert front([slow, fast], Budgets(latency=2)) == [fast, slow]


def test_neither_copies_nor_what_was_not_trained_are_on_the_front():
    whole = candidate(0, 2, 2, 0.1)
    assert front([whole, candidate(1, 2, 2, 0.1, copy_of=0), candidate(2, 1, 1, None)], Budgets()) == [whole]


def test_what_was_not_trained_may_be_nearest():
    missed = nearest([candidate(0, 4, 1, 0.0), candidate(1, 3, 1, None)], Budgets(energy=2, drop=0.01))
    assert missed.candidate.number == 1 and missed.excess == {"energy": 0.5}
    assert nearest([], Budgets(area=1)) is None


def test_a_budget_of_accuracy_is_a_share_and_percentage_points():
    assert parse_drop("1%") == parse_drop("0.01") == 0.01
    assert parse_drop(" 2.5 % ".strip()) == 0.025
    assert Budgets(drop=0.01).meets(None, 0.009) and not Budgets(drop=0.01).meets(None, 0.011)
    assert Budgets(drop=0.0).meets(None, 0.0) and not Budgets(drop=0.0).meets(None, 0.001)


@pytest.mark.parametrize(
    ("text", "told"),
    [("1", "1% (a percentage point) or 0.01"), ("one", "got 'one'"), ("-1%", "got '-1'"), ("150%", "all of it")],
)
def test_a_drop_that_is_none_is_told(text, told):
    with pytest.raises(BaleError, match="--accuracy-drop") as caught:
        parse_drop(text)
    assert told in str(caught.value)


def test_budgets_are_read():
    assert parse_budget("area=5, energy=2.5,latency=1e2") == {"area": 5, "energy": 2.5, "latency": 100}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("area", "expected NAME=NUMBER"),
        ("", "expected NAME=NUMBER"),
        ("power=3", "no budget 'power'; there are area (mm2), energy (uJ), latency (us)"),
        ("accuracy=1", "--accuracy-drop"),
        ("area=1,area=2", "stands there twice"),
        ("area=0", "a number of mm2 above 0, got '0'"),
        ("energy=2uJ", "a number of uJ above 0, got '2uJ'"),
        ("energy=nan", "got 'nan'"),
    ],
)
def test_a_budget_that_is_none_is_told(text, told):
    with pytest.raises(BaleError, match="--budget") as caught:
        parse_budget(text)
    assert told in str(caught.value)
