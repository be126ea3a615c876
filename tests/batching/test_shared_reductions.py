"""Reductions with several readers: kept or repeated, they cost no types, and values and gradients are the loop's."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.batching.programs import Interpreter, Structure, dags, lattices
from tests.batching.schedule.lattice_sets import lattice_arcs
from tests.batching.test_law import assert_equal_runs
from torch import Tensor, nn

import bale
from bale.batching import engine
from bale.batching.fold import BATCH_BYTES, ENTRY_BYTES, fold
from bale.models import LatticeGRU, LatticeLSTM

WIDTH = 4


def at(price: int) -> patch:  # type: ignore[valid-type]
    """Fold as if a batch cost so many bytes."""
    return patch.object(engine, "fold", partial(fold, batch_bytes=price))


@pytest.mark.parametrize("price", [0, 3 * ENTRY_BYTES, BATCH_BYTES])
@settings(max_examples=8)
@given(samples=st.lists(st.one_of(dags(), lattices()), min_size=1, max_size=4), seed=st.integers(0, 3))
def test_batched_equals_the_loop(price: int, samples: list[Structure], seed: int) -> None:
    model = Interpreter(("child_sum", "mean", "gate", "amax", "linear"), seed)
    with at(price):
        assert_equal_runs(model, bale.batch(model, check="always"), samples, (1e-10, 1e-10))


class Hubs(nn.Module):
    """Two layers of one cell: its means have many readers in the first, and one in the second."""

    def __init__(self) -> None:
        super().__init__()
        self.leaf, self.cell, self.head = nn.Linear(WIDTH, WIDTH), Cell(), nn.Linear(WIDTH, 2)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        leaves = [self.leaf(row) for row in rows]
        hub = torch.stack(leaves).mean(0)
        first = [self.cell(hub, leaf) for leaf in leaves]
        second = [
            self.cell(torch.stack(pair).mean(0), leaf) for pair, leaf in zip(pairwise(first), leaves, strict=False)
        ]
        return self.head(torch.stack(second).mean(0)), hub


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, mean: Tensor, row: Tensor) -> Tensor:
        return self.gates(torch.cat([mean, row], -1)).tanh() * mean


@pytest.mark.parametrize("executor", ["planned", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("price", [0, 20 * ENTRY_BYTES, BATCH_BYTES])
def test_hubs(price: int, dtype: torch.dtype, executor: str) -> None:
    torch.manual_seed(0)
    model = Hubs().to(dtype)
    samples = [torch.randn(length, WIDTH, dtype=dtype, requires_grad=True) for length in (2, 9, 5)]
    wanted = [model(sample) for sample in samples]
    with at(price):
        got = bale.batch(model, executor=executor, capture="eager", check="always")(samples)
    inputs = [*model.parameters(), *samples]

    def gradients(outputs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
        total = torch.stack([(head.sin().sum() + hub.cos().sum()) for head, hub in outputs]).sum()
        return torch.autograd.grad(total, inputs)

    tolerance = 1e-10 if dtype is torch.float64 else 1e-5
    torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(gradients(got), gradients(wanted), rtol=10 * tolerance, atol=10 * tolerance)


def test_means_that_many_read_make_no_types_and_no_batches() -> None:
    samples = [torch.randn(length, WIDTH) for length in (2, 9, 5)]
    for price in (0, 20 * ENTRY_BYTES, BATCH_BYTES):
        with at(price):
            explanation = bale.explain(bale.batch(Hubs(), merge=False), samples)
        found = {line.name.split(" ")[0]: (line.nodes, line.batches) for line in explanation.types}
        # the hubs are results: they run in any case, before the cell or after all else
        assert found == {"leaf": (16, 1), "cell": (16 + 13, 2), "head": (3, 1), "mean": (3, 1)}
        assert len(explanation.types) == 4


def one_by_one(model: type[LatticeLSTM | LatticeGRU]) -> type[LatticeLSTM | LatticeGRU]:
    """The model with a call for each vector, so that equal numbers are equal computations."""

    class OneByOne(model):  # type: ignore[valid-type, misc]
        def vectors(self, embed: nn.Embedding, numbers: list[int]) -> Iterator[Tensor]:
            return iter([embed(number) for number in torch.tensor(numbers).unbind()])

    return OneByOne


@pytest.mark.parametrize("model", [LatticeLSTM, LatticeGRU])
@pytest.mark.parametrize(("split", "low", "high", "most"), [("train", 0, 64, 149), ("dev", 0, 64, 213)])
def test_merging_costs_no_batches_on_real_lattices(
    model: type[LatticeLSTM | LatticeGRU], split: str, low: int, high: int, most: int
) -> None:
    """Two sentences that begin alike share their states, and what pools them has several readers then."""
    samples = [SimpleNamespace(arcs=arcs) for arcs in lattice_arcs(split, low, high)]
    numbers = 1 + max(number for sample in samples for arcs in sample.arcs for _, number in arcs)
    small = one_by_one(model)(characters=numbers, words=numbers, tags=2, embed=2, hidden=2)
    found = {}
    arc = type(small.word).__name__
    cells = [f"{name} ({arc})" for name in ("character", "word")] * 2
    kinds = sorted([*cells, "character.embed (Embedding)", "word.embed (Embedding)", "head (Linear)", "stack"])
    for merge in (False, True):
        batched = bale.batch(small, merge=merge)
        graph = engine.graph_of(small, samples, {}, batched.settings, batched.registry)
        found[merge] = len(graph), len(bale.POLICIES["height"](graph))
        assert sorted(t.name for t in graph.types) == kinds  # a cell reads means, or the constant it begins with
    assert found[True][0] < found[False][0]
    assert found[True][1] <= found[False][1] == most + 3  # one that stacks the logits, and two that embed
