"""Costs are those of a graph's types, the same from a file; by them the cheapest schedule wins, never a dearer one."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_policies import least_cost
from random_graphs import chain, drawn, graphs, side_by_side
from test_exact import hard_graph

from bale.batching.graph import Graph
from bale.batching.schedule import Costs, Portfolio, Schedule, lower_bound_by_type, make_schedule
from bale.batching.schedule.beam import shorter_by_beam
from bale.batching.schedule.costs import DEAREST, TypeCost, whole_prices
from bale.batching.schedule.exact import optimum
from bale.batching.schedule.fingerprint import TypeKey, type_keys
from bale.batching.schedule.portfolio import by_height_portfolio
from bale.errors import PolicyError

PRICES = st.lists(st.integers(1, 50), min_size=4, max_size=4)
A, B, C = (TypeKey(name, name * 4) for name in "abc")


def costs_of(graph, price):
    """Costs that give the types of `graph` these prices, as microseconds."""
    keys = type_keys(graph.types)
    return Costs(tuple(TypeCost(key, float(price[k]), 0.0) for k, key in enumerate(keys)) or (TypeCost(A, 1.0, 0.0),))


def price_of(schedule, price):
    return sum(price[kind] for kind in schedule.batch_type.tolist())


# What a graph costs.


def test_types_are_known_by_their_keys_and_new_ones_cost_the_median():
    met = Graph.of([0, 1, 2], [[], [0], [1]], names=["a", "b", "c"])
    costs = costs_of(met, [5, 1, 30])
    later = Graph.of([0, 1, 2, 3], [[], [0], [1], [2]], names=["c", "new", "a", "newer"])
    assert costs.of(later).tolist() == [30, 5, 5, 5]
    assert costs.of(later).dtype == np.float64
    assert costs.of(Graph.of([], [])).size == 0


@drawn
@given(graphs(), PRICES)
def test_a_schedule_costs_the_sum_over_its_batches(graph, price):
    costs = costs_of(graph, price)
    for policy in ("depth", "height"):
        schedule = make_schedule(graph, policy)
        assert costs.schedule(graph, schedule) == price_of(schedule, price)


def test_rows_do_not_count():
    graph = side_by_side(chain([0, 1]), chain([0, 1]))
    free, dear = (Costs(tuple(TypeCost(key, 7.0, row) for key in type_keys(graph.types))) for row in (0.0, 99.0))
    schedule = make_schedule(graph)
    assert free.schedule(graph, schedule) == dear.schedule(graph, schedule) == 14


def test_prices_are_whole_and_keep_the_order():
    assert whole_prices(np.array([1.0, 2.0, 4.0])).tolist() == [DEAREST // 4, DEAREST // 2, DEAREST]
    assert whole_prices(np.array([0.0, 1e-9, 1e9])).tolist() == [1, 1, DEAREST]
    assert whole_prices(np.zeros(3)).tolist() == [1, 1, 1]
    assert whole_prices(np.array([1e-320, 5e-324])).tolist()[0] == DEAREST  # no number is too small to compare
    assert whole_prices(np.zeros(0)).tolist() == []


def test_the_text_names_every_type():
    assert str(Costs((TypeCost(A, 3.14, 0.5),))) == "Costs in microseconds a batch: a 3.1 + 0.500 a row"


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ((), "types is empty"),
        ((TypeCost(A, -1.0, 0.0),), r"types\[0\].per_batch is -1.0; expected microseconds"),
        ((TypeCost(A, 1.0, 0.0), TypeCost(B, 1.0, float("nan"))), r"types\[1\].per_row is nan"),
        ((TypeCost(A, float("inf"), 0.0),), r"types\[0\].per_batch is inf"),
        ((TypeCost(A, 1.0, 0.0), TypeCost(TypeKey("d", "aaaa"), 2.0, 0.0)), r"types\[1\].fingerprint .* types\[0\]"),
    ],
)
def test_costs_that_mean_nothing_are_refused(types, message):
    with pytest.raises(PolicyError, match=message):
        Costs(types)


# The file.

KEPT = Costs((TypeCost(A, 12.5, 0.25), TypeCost(B, 1e-3, 0.0), TypeCost(C, 0.0, 3.0)), {"threads": 1})


def test_a_file_holds_all(tmp_path):
    KEPT.save(tmp_path / "costs.json")
    again = Costs.load(tmp_path / "costs.json")
    assert again == KEPT
    assert again.measured == KEPT.measured
    assert pickle.loads(pickle.dumps(KEPT)) == KEPT
    assert len({KEPT, again}) == 1
    assert {Portfolio(costs=KEPT), Portfolio(costs=again)} != {Portfolio()}


def test_whole_numbers_are_numbers_too(tmp_path):
    facts = changed(tmp_path, lambda facts: facts["types"][0].update(per_batch=3, per_row=0))
    assert Costs.load(facts).types[0] == TypeCost(A, 3.0, 0.0)


def changed(folder, change):
    """A file of costs of which one thing is different."""
    path = folder / "costs.json"
    KEPT.save(path)
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda facts: facts.update(format="bale policy"), 'are no costs: expected .* "format" is "bale costs"'),
        (lambda facts: facts.update(version=2), "is of version 2; this bale reads version 1: measure again"),
        (lambda facts: facts.pop("types"), "types is missing"),
        (lambda facts: facts.update(types={}), r"types is \{\}; expected a list"),
        (lambda facts: facts.update(types=[]), "types is empty"),
        (lambda facts: facts.update(types=[3]), r"types\[0\] is 3; expected an object"),
        (lambda facts: facts["types"][1].pop("per_row"), r"types\[1\].per_row is missing"),
        (lambda facts: facts["types"][1].update(per_batch="3"), r'types\[1\].per_batch is "3"; expected a number'),
        (lambda facts: facts["types"][1].update(per_batch=True), r"types\[1\].per_batch is true; expected a number"),
        (lambda facts: facts["types"][2].update(per_batch=-3), r"types\[2\].per_batch is -3.0; expected microseconds"),
        (lambda facts: facts["types"][0].update(fingerprint=7), r"types\[0\].fingerprint is 7; expected a string"),
        (lambda facts: facts["types"][1].update(fingerprint="aaaa"), r"types\[1\].fingerprint .* types\[0\]"),
        (lambda facts: facts.update(measured=[]), r"measured is \[\]; expected an object"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path, change, message):
    path = changed(tmp_path, change)
    with pytest.raises(PolicyError, match=message) as error:
        Costs.load(path)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"3"], ids=repr)
def test_what_is_no_file_of_costs_is_refused(tmp_path, content):
    path = tmp_path / "costs.json"
    path.write_bytes(content)
    with pytest.raises(PolicyError, match="costs") as error:
        Costs.load(path)
    assert str(error.value).startswith(f"{path}: ")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(PolicyError, match=r"none.json: cannot be read: No such file"):
        Costs.load(tmp_path / "none.json")
    with pytest.raises(PolicyError, match=r"costs.json: cannot be written: No such file"):
        KEPT.save(tmp_path / "none" / "costs.json")


# Scheduling by it.


@drawn
@given(graphs(max_nodes=12), PRICES)
def test_it_costs_no_more_than_auto_and_no_less_than_is_possible(graph, price):
    for unit in (1, 1000):  # with the dearer unit every try is worth its making
        prices = [unit * each for each in price]
        portfolio = Portfolio(costs=costs_of(graph, prices))
        schedule = portfolio(graph)
        schedule.check(graph)
        assert least_cost(graph, prices) <= price_of(schedule, prices) <= price_of(Portfolio()(graph), prices)
        assert make_schedule(pickle.loads(pickle.dumps(graph)), portfolio) == schedule


@drawn
@given(graphs(max_nodes=12), PRICES)
def test_nothing_is_traded_where_every_type_is_at_its_bound(graph, price):
    schedule = Portfolio()(graph)
    batches = np.bincount(schedule.batch_type, minlength=len(graph.types))
    if np.array_equal(batches, lower_bound_by_type(graph)):
        assert Portfolio(costs=costs_of(graph, price))(graph) == schedule


@drawn
@given(graphs(max_nodes=24))
def test_equal_costs_count_batches(graph):
    schedule = Portfolio(costs=costs_of(graph, [100] * 4))(graph)
    assert len(schedule) == len(Portfolio()(graph))


def test_of_equal_costs_the_shortest_schedule_wins():
    graph = hard_graph(chains=4, length=8)
    free = costs_of(graph, [1000, 1000, 0, 0, 0])
    by_cost, auto = Portfolio(costs=free)(graph), Portfolio()(graph)
    price = [1000, 1000, 0, 0, 0]
    assert (price_of(by_cost, price), len(by_cost)) <= (price_of(auto, price), len(auto))


@pytest.mark.parametrize("price", [[1, 1, 1, 1, 40], [7, 1, 3, 11, 2], [1, 5000, 1, 1, 1]])
def test_a_wide_beam_finds_the_least_cost(price):
    # Wider than there are states, it is a search through all of them.
    dearer = 0
    for seed in range(5):
        graph = hard_graph(chains=3, length=6, seed=seed)
        known = by_height_portfolio(graph)
        found = shorter_by_beam(graph, known, 5000, np.array(price))
        found.check(graph)
        assert price_of(found, price) == least_cost(graph, price)
        dearer += price_of(optimum(graph).schedule, price) > price_of(found, price)
    assert dearer > 0  # of the fewest batches, though


@pytest.mark.parametrize("width", [1, 3, 8])
def test_a_narrow_beam_never_raises_the_cost(width):
    price, cheaper = [1, 1, 1, 1, 40], 0
    for seed in range(5):
        graph = hard_graph(chains=6, length=8, seed=seed)
        known = by_height_portfolio(graph)
        found = shorter_by_beam(graph, known, width, np.array(price))
        found.check(graph)
        assert price_of(found, price) <= price_of(known, price)
        cheaper += price_of(found, price) < price_of(known, price)
    assert cheaper > 0


@pytest.mark.parametrize("scale", [1, 3, DEAREST])
def test_a_common_price_changes_nothing(scale):
    for seed in range(5):
        graph = hard_graph(chains=5, length=8, seed=seed)
        known = by_height_portfolio(graph)
        assert shorter_by_beam(graph, known, 8, np.full(5, scale)) == shorter_by_beam(graph, known, 8)


def test_more_batches_are_taken_where_a_dear_type_needs_fewer():
    graph, price = hard_graph(chains=8, length=12), [10, 10, 10, 10, 1000]
    auto, by_cost = Portfolio()(graph), Portfolio(costs=costs_of(graph, price))(graph)
    by_cost.check(graph)

    def dear(schedule):
        return schedule.batch_type.tolist().count(4)

    assert len(by_cost) > len(auto)
    assert lower_bound_by_type(graph)[4] <= dear(by_cost) < dear(auto)
    assert price_of(by_cost, price) < 0.9 * price_of(auto, price)


def test_a_learned_schedule_takes_part():
    graph, price = hard_graph(chains=4, length=8), [1, 1, 1, 1, 1000]
    auto = Portfolio()(graph)
    cheapest = shorter_by_beam(graph, auto, 2000, np.array(price))

    class Learned:
        def __call__(self, graph):
            return Schedule.from_sequence(graph, cheapest.batch_type, "learned")

    portfolio = Portfolio((Learned(),), costs_of(graph, price))  # type: ignore[arg-type]
    assert price_of(portfolio(graph), price) <= price_of(cheapest, price) < price_of(auto, price)


def test_many_nodes_and_prices_far_apart_do_not_overflow():
    rng = np.random.default_rng(0)
    graph = side_by_side(*(chain(rng.integers(0, 5, 1500).tolist()) for _ in range(3)))
    price = [1e-3, 1.0, 1e3, 1e6, 1e9]
    by_cost = Portfolio(costs=costs_of(graph, price))(graph)
    by_cost.check(graph)
    assert price_of(by_cost, price) < price_of(Portfolio()(graph), price)
