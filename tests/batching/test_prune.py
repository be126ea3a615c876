"""Pruning leaves out what nothing needs, and nothing else: values, gradients and effects stay those of the loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.batching.gathering import GATHERS, TYPES, gathering_graphs, run_symbolically
from tests.batching.programs import Interpreter, Structure, programs, structures
from tests.batching.test_law import assert_equal_runs
from tests.batching.test_merge import Norm
from torch import Tensor, nn

import bale
from bale.batching.fold import fold
from bale.batching.graph import Graph
from bale.batching.prune import needed_nodes


def needed_by(graph: Graph, roots: set[int]) -> set[int]:
    found = set(roots)
    for node in range(len(graph) - 1, -1, -1):
        if node in found:
            found |= set(graph.operands(node).tolist())
    return found


@given(
    graph=gathering_graphs(),
    runs_unread=st.lists(st.booleans(), min_size=len(TYPES), max_size=len(TYPES)),
    folds=st.booleans(),
    data=st.data(),
)
def test_what_stays_is_what_something_needs(
    graph: Graph, runs_unread: list[bool], folds: bool, data: st.DataObject
) -> None:
    results = np.array(data.draw(st.lists(st.integers(0, len(graph) - 1), unique=True)), np.int64)
    roots = set(results.tolist()) | {node for node in range(len(graph)) if runs_unread[graph.type[node]]}
    needed = needed_nodes(graph, np.array(runs_unread), results)
    assert set(np.flatnonzero(needed).tolist()) == needed_by(graph, roots)
    gathers = GATHERS & folds
    pruned = fold(graph, gathers, results, needed)
    gone = needed.copy()
    gone[pruned.kept] = False
    assert needed[pruned.kept].all() and gathers[graph.type[gone]].all()
    before = run_symbolically(graph, list(range(len(graph))))
    after = run_symbolically(pruned.graph, list(pruned.kept))
    assert after == [before[node] for node in pruned.kept]
    assert [after[value] for value in pruned.value(graph, results)] == [before[value] for value in results]
    if pruned.graph is not graph:
        assert set(pruned.graph.type) == set(range(len(pruned.graph.types))), "no type without a node"


class LastOnly(Interpreter):
    """Returns the last value alone, so that much of what it computes is never read."""

    def forward(self, sample: tuple[Structure, Tensor]) -> dict[str, object]:
        outputs = super().forward(sample)
        return {"last": outputs["last"], "size": outputs["size"]}


@pytest.mark.parametrize("merge", [False, True])
@settings(max_examples=20)
@given(program=programs(), samples=st.lists(structures(), min_size=1, max_size=4), seed=st.integers(0, 3))
def test_batched_equals_the_loop(merge: bool, program: tuple[str, ...], samples: list[Structure], seed: int) -> None:
    model = LastOnly(program, seed)
    assert_equal_runs(model, bale.batch(model, merge=merge, check="always"), samples, (1e-10, 1e-10))


class Side(nn.Module):
    """Runs `aside` for nothing, on a hidden vector or on the sample."""

    def __init__(self, aside: nn.Module, of_sample: bool = False) -> None:
        super().__init__()
        self.cell, self.aside, self.of_sample = nn.Linear(2, 2), aside, of_sample

    def forward(self, x: Any) -> Tensor:
        h = self.cell(x["vector"])
        self.aside(x["number"] if self.of_sample else h)
        return h


def samples(*numbers: int) -> list[Any]:
    return [{"vector": torch.tensor([k, 1.0]), "number": torch.tensor(number)} for k, number in enumerate(numbers)]


@pytest.mark.parametrize("executor", ["planned", "reference"])
def test_what_nobody_reads_does_not_run(executor: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = Side(nn.Linear(2, 3))
    explanation = bale.explain(bale.batch(model, executor=executor), samples(0, 1))
    assert (explanation.traced_nodes, explanation.needed_nodes) == (4, 2)
    assert (explanation.stats.nodes, explanation.stats.types, explanation.stats.batches) == (2, 1, 1)
    assert capsys.readouterr().out.startswith(
        "2 samples: 4 nodes traced, 2 run (0 merged with equal ones, 2 unread, 0 folded into gathers), 1 types"
    )
    torch.stack(bale.batch(model, executor=executor)(samples(0, 1))).sum().backward()
    assert model.aside.weight.grad is None, "as after the loop"
    assert model.cell.weight.grad is not None


def test_nothing_may_run() -> None:
    class Forgetful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            torch.stack([self.cell(x), self.cell(2 * x)]).mean(0)
            return x

    batched = bale.batch(Forgetful())
    given_rows = [torch.ones(2), torch.zeros(2)]
    assert batched(given_rows) == given_rows
    assert batched.last is not None and (batched.last.nodes, batched.last.batches) == (0, 0)


class Assertion(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        torch._assert_async(h.abs().sum() < 100)  # pyright: ignore[reportPrivateImportUsage]
        return h.tanh()


class Flip(nn.Module):
    """Draws numbers whose distribution depends on values."""

    def forward(self, h: Tensor) -> Tensor:
        return torch.bernoulli(h)


class OfChoice(nn.Module):
    """Looks up a row that it computed itself: no position of the sample's."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(2, 3)

    def forward(self, h: Tensor) -> Tensor:
        return self.embed(h.argmax())


@pytest.mark.parametrize(
    ("aside", "of_sample", "runs"),
    [
        pytest.param(lambda: nn.Sequential(nn.Linear(2, 2), nn.Tanh()), False, False, id="plain"),
        pytest.param(OfChoice, False, False, id="a position that was computed"),
        pytest.param(lambda: nn.Dropout(0.5).eval(), False, False, id="dropout in eval"),
        pytest.param(lambda: nn.Dropout(0.5), False, True, id="dropout"),
        pytest.param(Norm, False, True, id="state"),
        pytest.param(Assertion, False, True, id="an assertion"),
        pytest.param(lambda: nn.Sequential(nn.Sigmoid(), Flip()), False, True, id="a seed of its own"),
        pytest.param(lambda: nn.Embedding(5, 2), True, True, id="a position of the sample's"),
    ],
)
def test_what_would_be_missed_runs(aside: Any, of_sample: bool, runs: bool) -> None:
    batched = bale.batch(Side(aside(), of_sample))
    batched(samples(1, 4))
    assert batched.last is not None
    assert (batched.last.nodes > 2) == runs


def test_state_is_written_as_in_the_loop() -> None:
    model, single = Side(Norm()), Side(Norm())
    for _ in range(2):
        bale.batch(model)(samples(0, 1, 2))
        for sample in samples(0, 1, 2):
            single(sample)
    assert model.aside.calls == single.aside.calls == 6


def test_numbers_are_drawn_for_all_calls_in_order() -> None:
    """Whether an earlier call's numbers are read or not, a later one gets the same."""

    class Twice(nn.Module):
        def __init__(self, reads: bool) -> None:
            super().__init__()
            self.drop, self.reads = nn.Dropout(0.5), reads

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            first, second = self.drop(x), self.drop(x + 1)
            return (first, second) if self.reads else (second,)

    rows = [torch.ones(8), torch.ones(8)]
    found = []
    for reads in (True, False):
        torch.manual_seed(0)
        found.append([output[-1] for output in bale.batch(Twice(reads))(rows)])
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize(
    ("model", "wrong"),
    [
        (Side(nn.Embedding(5, 2), of_sample=True), {"vector": torch.ones(2), "number": torch.tensor(5)}),
        (Side(Assertion()), {"vector": torch.full((2,), 1e6), "number": torch.tensor(0)}),
    ],
    ids=["out of range", "an assertion in a cell"],
)
def test_bad_input_is_refused_as_in_the_loop(model: Side, wrong: Any) -> None:
    with pytest.raises((IndexError, RuntimeError)) as alone:
        model(wrong)
    with pytest.raises(alone.type):
        bale.batch(model)([*samples(0), wrong])


def test_a_function_that_returns_nothing_runs() -> None:
    class Asserting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = self.cell(x)
            torch._assert_async(h.abs().sum() < 100)  # pyright: ignore[reportPrivateImportUsage]
            return h

    batched = bale.batch(Asserting())
    batched([torch.ones(2), torch.zeros(2)])
    with pytest.raises(RuntimeError):
        batched([torch.ones(2), torch.full((2,), 1e6)])
