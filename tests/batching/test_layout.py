"""Where values lie and what operands gather: a plan that can be checked without computing anything."""

import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.batching.gathering import GATHERS, gathering_graphs, run_symbolically

from bale.batching.fold import fold
from bale.batching.graph import Graph, Mode
from bale.batching.memory.layout import Layout, make_layout
from bale.batching.schedule import POLICIES, make_schedule

policies = st.sampled_from(sorted(POLICIES))


def plan(graph: Graph, policy: str) -> tuple[Graph, object, Layout]:
    folded = fold(graph, GATHERS, np.zeros(0, np.int64)).graph
    schedule = make_schedule(folded, policy)
    return folded, schedule, make_layout(folded, schedule)


@given(graph=gathering_graphs(), policy=policies)
def test_every_row_of_an_arena_belongs_to_one_value_and_a_batch_writes_a_slice(graph: Graph, policy: str) -> None:
    folded, schedule, layout = plan(graph, policy)
    taken = [
        (int(layout.value_arena[v]), int(layout.value_row[v]) + k)
        for v in range(layout.value_row.size)
        for k in range(layout.value_rows[v])
    ]
    assert len(set(taken)) == len(taken)
    for batch, rows in zip(schedule, layout.batch_rows, strict=True):
        assert rows == sum(folded.rows[batch])
        written = [r for v in batch for r in range(layout.value_row[v], layout.value_row[v] + layout.value_rows[v])]
        assert written == list(range(written[0], written[0] + len(written)))


@given(graph=gathering_graphs(), policy=policies)
def test_the_gathered_rows_are_the_operands(graph: Graph, policy: str) -> None:
    folded, schedule, layout = plan(graph, policy)
    names = [("v", n) for n in range(len(folded))]
    values = run_symbolically(folded, names)
    content = {}  # (arena, row) -> what lies there
    for v, value in enumerate(values):
        for k, row in enumerate(value if isinstance(value, list) else [value]):
            content[int(layout.value_arena[v]), int(layout.value_row[v]) + k] = row
    column = 0
    for batch in schedule:
        for slot, mode in enumerate(folded.types[folded.type[batch[0]]].slots):
            low, high = layout.gather_start[column], layout.gather_start[column + 1]
            got = [
                content[int(a), int(r)]
                for a, r in zip(layout.gather_arena[low:high], layout.gather_row[low:high], strict=True)
            ]
            wanted = []
            for node in batch:
                parts = list(folded.slots(node))[slot]
                rows = []
                for value, index in zip(*parts, strict=True):
                    whole = values[value]
                    rows += [whole[index]] if index >= 0 else whole if isinstance(whole, list) else [whole]
                repeated = (
                    mode is Mode.ROW and len(folded.types[folded.type[node]].slots) == 2 and folded.rows[node] > 1
                )
                wanted += rows * int(folded.rows[node]) if repeated else rows
            assert got == wanted
            column += 1


@given(graph=gathering_graphs(), policy=policies)
def test_plans_print_compare_and_pickle(graph: Graph, policy: str) -> None:
    for made in plan(graph, policy):
        again = pickle.loads(pickle.dumps(made))
        assert again == made and str(again) == str(made)
    folded, schedule, layout = plan(graph, policy)
    assert make_layout(folded, schedule) == layout


def test_an_empty_graph_has_an_empty_layout() -> None:
    graph = Graph.of([], [])
    layout = make_layout(graph, make_schedule(graph))
    assert layout.value_row.size == 0 and layout.batch_rows.size == 0
