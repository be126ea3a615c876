"""The portfolio is the first of height's shortest schedules, and makes no more of them than it must."""

from hypothesis import given
from random_graphs import chain, drawn, graphs

from bale.batching.schedule import lower_bound, portfolio
from bale.batching.schedule.height import Variant, height_schedules
from bale.batching.schedule.portfolio import by_height_portfolio


@drawn
@given(graphs(max_nodes=24))
def test_the_first_of_the_shortest_wins(graph):
    members = [schedule for backward in (False, True) for schedule in height_schedules(graph, Variant, backward)]
    assert by_height_portfolio(graph) == min(members, key=len)  # min keeps the first of equals


def tries(graph, monkeypatch):
    """The policies that the portfolio asks for."""
    asked = []

    def listening(graph, variants, backward, height=None):
        for schedule in height_schedules(graph, variants, backward, height):
            asked.append(schedule.policy)
            yield schedule

    monkeypatch.setattr(portfolio, "height_schedules", listening)
    by_height_portfolio(graph)
    return asked


def test_it_stops_at_the_bound(monkeypatch):
    assert tries(chain([0, 1, 0, 0]), monkeypatch) == ["height (share)"]


@drawn
@given(graphs())
def test_it_is_never_below_the_bound_and_always_runs(graph):
    schedule = by_height_portfolio(graph)
    schedule.check(graph)
    assert len(schedule) >= lower_bound(graph)
