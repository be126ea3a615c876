"""Folding removes gathers from the graph and changes nothing that is computed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.batching.gathering import CELL, GATHERS, LEAF, STACK, SUM, build, gathering_graphs, run_symbolically

from bale.batching.fold import BATCH_BYTES, ENTRY_BYTES, fold
from bale.batching.graph import WHOLE, Graph, Mode

NONE = np.zeros(0, np.int64)
NEVER = 1 << 60
PRICES = (0, 2 * ENTRY_BYTES, 9 * ENTRY_BYTES, BATCH_BYTES)


@given(graph=gathering_graphs(), data=st.data(), price=st.sampled_from(PRICES))
def test_every_value_that_stays_is_computed_as_before(graph: Graph, data: st.DataObject, price: int) -> None:
    pinned = np.array(data.draw(st.lists(st.integers(0, len(graph) - 1), unique=True)), np.int64)
    folded = fold(graph, GATHERS, pinned, batch_bytes=price)
    before = run_symbolically(graph, list(range(len(graph))))
    after = run_symbolically(folded.graph, list(folded.kept))
    assert after == [before[node] for node in folded.kept]
    assert [after[value] for value in folded.value(graph, pinned)] == [before[value] for value in pinned]
    assert all(folded.type_of[t] == graph.type[n] for t, n in zip(folded.graph.type, folded.kept, strict=True))


@given(graph=gathering_graphs(), price=st.sampled_from(PRICES))
def test_only_gathers_go(graph: Graph, price: int) -> None:
    folded = fold(graph, GATHERS, NONE, batch_bytes=price)
    gone = np.setdiff1d(np.arange(len(graph)), folded.kept)
    assert GATHERS[graph.type[gone]].all()


@given(graph=gathering_graphs(most=20), pins=st.booleans(), price=st.sampled_from(PRICES))
def test_what_is_kept_and_what_is_pinned_makes_no_types(graph: Graph, pins: bool, price: int) -> None:
    """Whatever stays, a slot of a cell is read in no more ways than if all that could be absorbed were."""
    pinned = np.arange(len(graph)) if pins else NONE
    folded = fold(graph, GATHERS, pinned, batch_bytes=price).graph
    most = fold(graph, GATHERS, NONE, batch_bytes=NEVER).graph
    assert len(cells(folded)) <= max(1, len(cells(most)))


def cells(graph: Graph) -> set[tuple[Mode, ...]]:
    """How the slots of cells are read."""
    return {t.slots for t in graph.types if t.name == "cell"}


def test_a_child_sum_is_part_of_its_reader() -> None:
    graph = build([LEAF, LEAF, STACK, SUM, CELL], [1, 1, 2, 1, 1],
                  [[], [], [[(0, WHOLE), (1, WHOLE)]], [[(2, WHOLE)]], [[(3, WHOLE)], [(0, WHOLE)]]])  # fmt: skip
    folded = fold(graph, GATHERS, NONE).graph
    assert [str(folded.types[t]) for t in folded.type] == ["leaf", "leaf", "cell"]
    assert folded.types[folded.type[2]].slots == (Mode.SUM, Mode.ROW)
    assert [list(values) for values, _ in folded.slots(2)] == [[0, 1], [0]]


class Sums:
    """Leaves, sums of them, and cells that read two operands each."""

    def __init__(self) -> None:
        self.types: list[int] = []
        self.slots: list[list[list[tuple[int, int]]]] = []

    def add(self, kind: int, *slots: list[int]) -> int:
        self.types.append(kind)
        self.slots.append([[(part, WHOLE) for part in slot] for slot in slots])
        return len(self.types) - 1

    def sum(self, parts: int, readers: int, first: int | None = None) -> int:
        """A sum of `parts` leaves, `first` in place of one, read by `readers` cells; the last of these."""
        leaves = [self.add(LEAF) for _ in range(parts)]
        total = self.add(SUM, leaves if first is None else [first, *leaves[1:]])
        return [self.add(CELL, [total], [leaves[0]]) for _ in range(readers)][-1]

    @property
    def graph(self) -> Graph:
        return build(self.types, [1] * len(self.types), self.slots)


ROW_BYTES = 4 * 2 + ENTRY_BYTES


def saved(parts: int, readers: int) -> int:
    """Bytes: folded, every reader gathers all parts; kept, the node gathers them, is written, and each reads a row."""
    return (parts * readers - parts - 1 - readers) * ROW_BYTES


def sums_in(graph: Graph) -> int:
    return sum(graph.types[t].name == "sum" for t in graph.type)


@pytest.mark.parametrize(("parts", "readers"), [(2, 2), (9, 1), (1, 9)])
def test_a_sum_that_costs_no_more_where_it_is_repeated_goes_at_any_price(parts: int, readers: int) -> None:
    made = Sums()
    made.sum(parts, readers)
    assert sums_in(fold(made.graph, GATHERS, NONE, batch_bytes=0).graph) == 0


def test_a_sum_stays_where_it_saves_the_price_of_a_batch() -> None:
    made = Sums()
    made.sum(7, 5)
    assert sums_in(fold(made.graph, GATHERS, NONE, batch_bytes=saved(7, 5)).graph) == 1
    assert sums_in(fold(made.graph, GATHERS, NONE, batch_bytes=saved(7, 5) + 1).graph) == 0


def test_sums_that_run_together_share_the_price() -> None:
    made = Sums()
    for _ in range(3):
        made.sum(7, 5)
    assert sums_in(fold(made.graph, GATHERS, NONE, batch_bytes=3 * saved(7, 5)).graph) == 3
    assert sums_in(fold(made.graph, GATHERS, NONE, batch_bytes=3 * saved(7, 5) + 1).graph) == 0


def test_sums_that_run_one_after_another_pay_one_by_one() -> None:
    made, above = Sums(), None
    for _ in range(3):
        above = made.sum(7, 5, above)
    made.sum(90, 90)  # runs with the first of the three
    graph = made.graph
    assert sums_in(fold(graph, GATHERS, NONE, batch_bytes=saved(7, 5)).graph) == 4
    folded = fold(graph, GATHERS, NONE, batch_bytes=saved(7, 5) + 1)
    first, *_, last = np.flatnonzero(graph.type == SUM)
    assert list(folded.kept[[folded.graph.types[t].name == "sum" for t in folded.graph.type]]) == [first, last]


def test_who_reads_a_sum_that_stays_is_of_one_type_with_those_that_absorb_theirs() -> None:
    made = Sums()
    made.sum(7, 5)
    made.sum(2, 1)
    folded = fold(made.graph, GATHERS, NONE, batch_bytes=saved(7, 5)).graph
    assert cells(folded) == {(Mode.SUM, Mode.ROW)}
    widths = [len(values) for node in range(len(folded)) for values, _ in list(folded.slots(node))[:1]]
    assert sorted(widths) == [*[1] * 5, 2, 7]


def test_where_all_sums_stay_their_readers_read_rows() -> None:
    made = Sums()
    made.sum(7, 5)
    made.sum(8, 6)
    assert cells(fold(made.graph, GATHERS, NONE, batch_bytes=0).graph) == {(Mode.ROW, Mode.ROW)}


def test_a_result_stays_and_nobody_waits_for_it() -> None:
    made = Sums()
    made.sum(3, 2)
    graph = made.graph
    pinned = graph.value_start[np.flatnonzero(graph.type == SUM)]
    folded = fold(graph, GATHERS, pinned).graph
    assert sums_in(folded) == 1
    assert cells(folded) == {(Mode.SUM, Mode.ROW)}


def test_a_result_is_read_where_repeating_it_would_cost_a_batch() -> None:
    made = Sums()
    made.sum(7, 5)
    graph = made.graph
    pinned = graph.value_start[np.flatnonzero(graph.type == SUM)]
    price = (7 * 5 - 5) * ROW_BYTES  # it is made and written in any case
    assert cells(fold(graph, GATHERS, pinned, batch_bytes=price).graph) == {(Mode.ROW, Mode.ROW)}
    assert cells(fold(graph, GATHERS, pinned, batch_bytes=price + 1).graph) == {(Mode.SUM, Mode.ROW)}


def test_any_arity_is_one_type() -> None:
    types, rows, slots = [LEAF], [1], [[]]
    for arity in (1, 2, 3, 5):
        stack = len(types)
        types += [STACK, SUM, CELL]
        rows += [arity, 1, 1]
        slots += [[[(0, WHOLE)] * arity], [[(stack, WHOLE)]], [[(stack + 1, WHOLE)], [(0, WHOLE)]]]
    folded = fold(build(types, rows, slots), GATHERS, NONE).graph
    assert len(folded.types) == 2
