"""What is measured of a model is a line for each of its types, whatever the clock says; the model stays as it was."""

import itertools
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import bale
from bale.batching import measure
from bale.batching.engine import graph_of
from bale.batching.measure import fit_line
from bale.batching.schedule.fingerprint import type_keys
from bale.data import Tree
from bale.errors import BaleError
from bale.models import TwoTypeTreeLSTM


def tree(words, rng):
    """A binary tree over some words, with inner nodes of two kinds."""
    if len(words) == 1:
        return Tree(words[0])
    cut = rng.randint(1, len(words) - 1)
    return Tree(rng.randint(0, 1), (tree(words[:cut], rng), tree(words[cut:], rng)))


def trees(count, seed=0):
    rng = random.Random(seed)
    return [tree([rng.randrange(9) for _ in range(rng.randint(4, 12))], rng) for _ in range(count)]


def network():
    torch.manual_seed(0)
    return TwoTypeTreeLSTM(vocabulary=9, classes=3, hidden=4)


def keys_of(model, samples):
    batched = bale.batch(model)
    graph = graph_of(batched.inner, samples, {}, batched.settings, batched.registry)
    return type_keys(graph.types)


@pytest.fixture
def ticking(monkeypatch):
    """A clock that goes on by a microsecond whenever it is asked."""
    ticks = itertools.count()
    monkeypatch.setattr(measure, "perf_counter", lambda: 1e-6 * next(ticks))


def by_formula(monkeypatch, seconds_of, opening=0.0):
    """Batches take what `seconds_of(name of the type, rows, way)` says, those that open their type `opening` more."""

    def times_of_batches(call, backward):
        seconds = np.zeros((2, len(call.schedule)))
        kinds = call.schedule.batch_type
        for way in range(1 + backward):
            for number, (kind, rows) in enumerate(zip(kinds.tolist(), call.layout.batch_rows.tolist(), strict=True)):
                batches = np.flatnonzero(kinds == kind)
                opens = number == batches[-1 if way else 0]
                seconds[way, number] = 1e-6 * (seconds_of(call.graph.types[kind].name, rows, way) + opening * opens)
        return seconds

    monkeypatch.setattr(measure, "times_of_batches", times_of_batches)


# What is measured.


@pytest.mark.parametrize("backward", [False, True])
def test_each_type_has_its_costs(backward, ticking):
    model, samples = network(), trees(12)
    costs = bale.measure_costs(model, samples, repeats=2, backward=backward)
    assert {cost.type for cost in costs.types} == set(keys_of(model, samples))
    for cost in costs.types:  # on this clock a batch takes as long as any other
        assert cost.per_batch == pytest.approx(1 + backward)
        assert cost.per_row == pytest.approx(0, abs=1e-3)
    assert costs.measured["backward"] is backward
    assert costs.measured["samples"] == costs.measured["batch_size"] == 12
    assert costs.measured["threads"] == torch.get_num_threads()


def test_on_a_real_clock_they_are_positive():
    costs = bale.measure_costs(network(), trees(12), batch_size=4, repeats=1)
    assert all(cost.per_batch >= 0 and cost.per_row >= 0 for cost in costs.types)
    assert any(cost.per_batch > 0 for cost in costs.types)
    assert costs.measured["batch_size"] == 4


def test_the_line_of_each_type_is_found(monkeypatch):
    lines = {"inner.0 (Inner)": (20.0, 0.5), "inner.1 (Inner)": (300.0, 2.0)}
    by_formula(monkeypatch, lambda name, rows, way: np.dot(lines.get(name, (5, 0)), (1, rows)), opening=1e4)
    costs = bale.measure_costs(network(), trees(24), batch_size=8, repeats=1)
    found = {cost.type.name: (cost.per_batch, cost.per_row) for cost in costs.types}
    for name, line in lines.items():
        assert found[name] == pytest.approx(line)


def test_forward_and_backward_are_added(monkeypatch):
    by_formula(monkeypatch, lambda name, rows, way: (50 + 3 * rows) if way else (10 + rows), opening=1e4)
    costs = bale.measure_costs(network(), trees(24), batch_size=8, repeats=1, backward=True)
    inner = [(cost.per_batch, cost.per_row) for cost in costs.types if "Inner" in cost.type.name]
    assert inner == [pytest.approx((60, 4))] * 2


def test_a_type_of_one_batch_costs_what_opening_it_costs(monkeypatch):
    by_formula(monkeypatch, lambda name, rows, way: 7.0, opening=100.0)
    costs = bale.measure_costs(network(), trees(12), repeats=1)
    leaf = next(cost for cost in costs.types if "Leaf" in cost.type.name)
    assert (leaf.per_batch, leaf.per_row) == (107, 0)


def test_the_median_of_the_repeats_counts(monkeypatch):
    calls = itertools.count()
    noise = [500.0, 3.0, 80.0, 2.0]  # the first only warms up
    by_formula(monkeypatch, lambda name, rows, way: value)
    times = measure.times_of_batches

    def noisy(call, backward):
        nonlocal value
        value = noise[next(calls)]
        return times(call, backward)

    value = 0.0
    monkeypatch.setattr(measure, "times_of_batches", noisy)
    costs = bale.measure_costs(network(), trees(12), repeats=3)
    assert {cost.per_batch for cost in costs.types} == {3.0}


# The line.


def test_a_line_through_points_on_one():
    assert fit_line([(r, 12 + 0.25 * r) for r in (1, 5, 5, 80)]) == pytest.approx((12, 0.25))
    assert fit_line([(4, 3.0), (4, 5.0)]) == (4, 0)
    assert fit_line([(4, 3.0)]) == (3, 0)
    assert fit_line([]) == (0, 0)
    assert fit_line([(1, 0.0), (2, 0.0)]) == (0, 0)


def test_a_line_that_falls_is_level_and_one_from_below_begins_at_nothing():
    level = fit_line([(1, 10.0), (9, 5.0)])
    assert level[1] == 0
    assert 5 < level[0] < 10
    steep = fit_line([(10, 1.0), (20, 10.0)])
    assert steep[0] == 0
    assert 0.1 < steep[1] < 0.5


POINTS = st.lists(st.tuples(st.integers(1, 200), st.floats(1, 1e3)), min_size=2, max_size=8)


@given(POINTS, st.floats(0, 1e3), st.floats(0, 20))
def test_no_line_that_may_be_is_nearer(points, per_batch, per_row):
    rows, times = np.array(points).T

    def error(line):
        return float(np.sum(((line[0] + line[1] * rows - times) / times) ** 2))

    if np.unique(rows).size > 1:
        found = fit_line(points)
        assert min(found) >= 0
        assert error(found) <= error((per_batch, per_row)) + 1e-6


# The model.


class Keeper(nn.Module):
    """Draws numbers, and leaves behind what it can."""

    def __init__(self):
        super().__init__()
        self.cell, self.dropout = nn.Linear(3, 3), nn.Dropout(0.5)
        self.register_buffer("latest", torch.zeros(3))
        self.states = []

    def forward(self, x, times=1):
        x = x + torch.randn(3)
        for _ in range(times):
            x = self.dropout(torch.tanh(self.cell(x)))
        self.latest = x
        self.states.append(x)
        return x


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("wrap", [lambda model: model, bale.batch], ids=["model", "batched"])
def test_the_model_and_the_random_state_stay_as_they_were(wrap, backward, ticking):
    torch.manual_seed(0)
    inner = Keeper()
    model = wrap(inner)
    samples = [torch.randn(3, requires_grad=True) for _ in range(6)]
    before = {name: tensor.clone() for name, tensor in inner.state_dict().items()}
    state, grad = torch.get_rng_state(), torch.is_grad_enabled()
    bale.measure_costs(model, samples, batch_size=4, backward=backward, times=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled() is grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in inner.state_dict().items())
    assert inner.states == []
    assert all(tensor.grad is None for tensor in (*inner.parameters(), *samples))
    if model is not inner:
        assert model.last is None


def test_options_of_a_batched_model_hold(ticking):
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Linear(3, 3), nn.Linear(3, 3)
            self.both = nn.Sequential(nn.Linear(3, 3), nn.Tanh())

        def forward(self, a, b):
            return self.both(self.left(a) + self.right(b))

    model = Pair()
    batched = bale.batch(model, star=True, cells=[model.left, model.right, model.both])
    costs = bale.measure_costs(batched, [(torch.ones(3), torch.ones(3) * k) for k in range(4)])
    names = " ".join(cost.type.name for cost in costs.types)
    assert all(name in names for name in ("left", "right", "both"))


def test_a_model_scheduled_by_its_costs_is_still_the_loop(tmp_path):
    model, samples = network(), trees(16, seed=1)
    bale.measure_costs(model, trees(12), repeats=1).save(tmp_path / "costs.json")
    costs = bale.Costs.load(tmp_path / "costs.json")
    batched = bale.batch(model, policy=bale.Portfolio(costs=costs))
    assert bale.check(batched, samples).samples == 16
    batched(samples)
    assert batched.last is not None
    assert batched.last.batches >= batched.last.bound


# What cannot be measured.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": []}, "measured on samples, and there are none"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"repeats": 0}, "repeats must be at least 1, got 0"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(options, message):
    with pytest.raises(BaleError, match=message):
        bale.measure_costs(network(), **{"samples": trees(2), **options})


def test_a_backward_of_nothing_is_refused():
    with pytest.raises(BaleError, match="no output of the model carries gradients"):
        bale.measure_costs(network().requires_grad_(False), trees(3), backward=True)


def test_what_the_planned_executor_cannot_run_is_refused():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(3)

        def forward(self, x):
            return self.norm(x)

    model = Normed()
    with pytest.raises(BaleError, match="costs are those of the planned executor"):
        bale.measure_costs(model, [torch.randn(2, 3) for _ in range(3)])
    assert model.norm.num_batches_tracked == 0


def test_an_exception_of_the_users_own_passes_through():
    with pytest.raises(TypeError, match="nonsense"):
        bale.measure_costs(network(), trees(2), nonsense=3)
