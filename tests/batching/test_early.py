"""Products of what is there before a type's first batch run once: which those are, and that numbers stay the same."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.batching.gathering import GATHERS, gathering_graphs
from tests.batching.view.same import assert_same
from torch import Tensor, nn

import bale
from bale.batching.execute import captured_frame
from bale.batching.fold import fold
from bale.batching.graph import Graph
from bale.batching.memory.arrange import arrange
from bale.batching.memory.early import early_slots
from bale.batching.schedule import POLICIES, make_schedule

WIDTH = 4


@given(gathering_graphs(), st.sampled_from(sorted(POLICIES)))
def test_a_slot_is_early_where_all_it_reads_ran_before_the_first_batch(graph: Graph, policy: str) -> None:
    graph = fold(graph, GATHERS, graph.value_start[:0]).graph
    schedule = arrange(graph, make_schedule(graph, policy))
    batch_of = {int(node): batch for batch, nodes in enumerate(schedule) for node in nodes}
    for kind, early in enumerate(early_slots(graph, schedule)):
        mine = [node for node in range(len(graph)) if graph.type[node] == kind]
        first = min((batch_of[node] for node in mine), default=0)
        for slot in range(len(graph.types[kind].slots)):
            read = [graph.value_node[v] for node in mine for v in list(graph.slots(node))[slot][0]]
            assert (slot in early) == all(batch_of[int(source)] < first for source in read)


class Recurrence(nn.Module):
    """`cell` along a sentence; its words come from a layer of their own, or are the sample's own tensors."""

    def __init__(self, cell: nn.Module, embed: bool):
        super().__init__()
        self.embed = nn.Linear(WIDTH, WIDTH) if embed else nn.Identity()
        self.cell, self.start = cell, nn.Parameter(torch.zeros(WIDTH))

    def forward(self, words: list[Tensor]) -> Tensor:
        h = c = self.start
        for word in words:
            x = self.embed(word) if isinstance(self.embed, nn.Linear) else word
            if isinstance(self.cell, nn.LSTMCell):
                h, c = self.cell(x, (h, c))
            else:
                h = self.cell(x, h)
        return h


class TwoSums(nn.Module):
    """Three products in one sum, two of them with biases, the recurrent one in the middle; a gate of x alone."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.h, self.again = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH, False)
        self.gate = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return (self.h(h) + self.x(x) + self.again(x * 0.5)).tanh() * self.gate(x).sigmoid()


CELLS = {
    "lstm": lambda: nn.LSTMCell(WIDTH, WIDTH),
    "gru": lambda: nn.GRUCell(WIDTH, WIDTH),
    "rnn": lambda: nn.RNNCell(WIDTH, WIDTH),
    "sums": TwoSums,
}


def sentences() -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [[torch.randn(WIDTH, generator=generator).requires_grad_() for _ in range(n)] for n in (3, 5, 2, 5)]


@pytest.mark.parametrize("embed", [True, False], ids=["layer", "constants"])
@pytest.mark.parametrize("cell", CELLS)
def test_a_recurrence_whose_inputs_are_there_before_it_begins(cell: str, embed: bool, monkeypatch) -> None:
    seen = set()
    whole = captured_frame.early_columns

    def watched(*args):
        found = whole(*args)
        seen.add(bool(found))
        return found

    monkeypatch.setattr(captured_frame, "early_columns", watched)
    torch.manual_seed(0)
    model = Recurrence(CELLS[cell](), embed)
    batched = assert_same(model, sentences(), relative=1e-5, gradient_relative=1e-4, capture="eager")
    rungs = {t.name: (t.shown_rung, t.reasons) for t in batched.registry.cell_types() if "cell" in t.name}
    assert {why[0] for why in rungs.values()} == {"planned"}, rungs
    assert True in seen


class Fed(nn.Module):
    """The input of every step is made from the step before: nothing is early."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out, self.start = nn.GRUCell(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Parameter(torch.ones(4))

    def forward(self, words: list[Tensor]) -> Tensor:
        h = self.start
        for word in words:
            h = self.cell(self.out(h) + word, h)
        return h


def test_a_recurrence_fed_by_itself() -> None:
    torch.manual_seed(0)
    assert_same(Fed(), sentences(), relative=1e-5, gradient_relative=1e-4, capture="eager")


def test_launches_of_early_products_are_counted_once() -> None:
    torch.manual_seed(0)
    explanation = bale.explain(bale.batch(Recurrence(nn.RNNCell(WIDTH, WIDTH), True), capture="eager"), sentences())
    # Steps after the first: 4 batches. Forward two products, one of them early, and a kernel; backward a kernel and
    # the products for h, and for x once; the gathers are of h, and of x, which its gradient's product needs whole.
    (rest,) = [line for line in explanation.types if "cell" in line.name and line.batches == 4]
    assert rest.traffic.launches - rest.traffic.gathers == 4 * (1 + 1) + 1 + 4 * (1 + 1) + 1
