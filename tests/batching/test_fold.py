"""Folding removes gathers from the graph and changes nothing that is computed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.batching.gathering import CELL, GATHERS, LEAF, STACK, SUM, build, gathering_graphs, run_symbolically

from bale.batching.fold import fold
from bale.batching.graph import WHOLE, Graph, Mode


@given(graph=gathering_graphs(), data=st.data())
def test_every_value_that_stays_is_computed_as_before(graph: Graph, data: st.DataObject) -> None:
    pinned = np.array(data.draw(st.lists(st.integers(0, len(graph) - 1), unique=True)), np.int64)
    folded = fold(graph, GATHERS, pinned)
    before = run_symbolically(graph, list(range(len(graph))))
    after = run_symbolically(folded.graph, list(folded.kept))
    assert after == [before[node] for node in folded.kept]
    assert [after[value] for value in folded.value(graph, pinned)] == [before[value] for value in pinned]
    assert all(folded.type_of[t] == graph.type[n] for t, n in zip(folded.graph.type, folded.kept, strict=True))


@given(graph=gathering_graphs())
def test_only_gathers_go(graph: Graph) -> None:
    folded = fold(graph, GATHERS, np.zeros(0, np.int64))
    gone = np.setdiff1d(np.arange(len(graph)), folded.kept)
    assert GATHERS[graph.type[gone]].all()


def test_a_child_sum_is_part_of_its_reader() -> None:
    graph = build([LEAF, LEAF, STACK, SUM, CELL], [1, 1, 2, 1, 1],
                  [[], [], [[(0, WHOLE), (1, WHOLE)]], [[(2, WHOLE)]], [[(3, WHOLE)], [(0, WHOLE)]]])  # fmt: skip
    folded = fold(graph, GATHERS, np.zeros(0, np.int64)).graph
    assert [str(folded.types[t]) for t in folded.type] == ["leaf", "leaf", "cell"]
    assert folded.types[folded.type[2]].slots == (Mode.SUM, Mode.ROW)
    assert [list(values) for values, _ in folded.slots(2)] == [[0, 1], [0]]


def sum_with_readers(parts: int, readers: int) -> Graph:
    """A sum of `parts` leaves that `readers` slots read, two to a cell."""
    cells = -(-readers // 2)
    slots = [[] for _ in range(parts)] + [[[(k, WHOLE) for k in range(parts)]]]
    slots += [[[(parts, WHOLE)], [(parts if 2 * k + 1 < readers else 0, WHOLE)]] for k in range(cells)]
    return build([LEAF] * parts + [SUM] + [CELL] * cells, [1] * len(slots), slots)


@pytest.mark.parametrize(("parts", "readers", "stays"), [(2, 2, False), (9, 1, False), (4, 4, False), (9, 9, True)])
def test_a_sum_with_several_readers_stays_where_folding_would_repeat_much(
    parts: int, readers: int, stays: bool
) -> None:
    graph = sum_with_readers(parts, readers)
    assert len(fold(graph, GATHERS, np.zeros(0, np.int64)).graph) == len(graph) - (not stays)


def test_any_arity_is_one_type() -> None:
    types, rows, slots = [LEAF], [1], [[]]
    for arity in (1, 2, 3, 5):
        stack = len(types)
        types += [STACK, SUM, CELL]
        rows += [arity, 1, 1]
        slots += [[[(0, WHOLE)] * arity], [[(stack, WHOLE)]], [[(stack + 1, WHOLE)], [(0, WHOLE)]]]
    folded = fold(build(types, rows, slots), GATHERS, np.zeros(0, np.int64)).graph
    assert len(folded.types) == 2
