"""The readers of every row, and the memory of every gradient, are those that plain Python finds."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.batching.gathering import GATHERS, TYPES, build, gathering_graphs

from bale.batching.fold import fold
from bale.batching.graph import Graph, Mode
from bale.batching.memory import adjoint as adjoint_module
from bale.batching.memory import layout as layout_module
from bale.batching.memory.adjoint import Adjoint, Block, Reads, make_adjoint
from bale.batching.memory.arrange import arrange
from bale.batching.memory.layout import Layout, make_layout
from bale.batching.schedule import POLICIES, Schedule, make_schedule

WIDTH = 2  # of all values in gathering.py
few = settings(max_examples=60)

Place = tuple[int, int]  # arena, row


class Plan:
    """A folded graph with its schedule, layout and adjoint; some rows are read as outputs."""

    def __init__(self, graph: Graph, policy: str, side_by_side: bool, outputs: list[Place] | None = None):
        self.graph = fold(graph, GATHERS, np.zeros(0, np.int64)).graph
        self.schedule = arrange(self.graph, make_schedule(self.graph, policy))
        self.layout: Layout = make_layout(self.graph, self.schedule)
        self.blocks: list[tuple[Block, ...]] = []
        for node_type in self.graph.types:
            slots = tuple(range(len(node_type.slots)))
            together = side_by_side and len(slots) > 1 and node_type.name == "cell"
            self.blocks.append((Block(slots),) if together else tuple(Block((k,)) for k in slots))
        self.outputs = outputs if outputs is not None else []
        count = len(self.outputs)
        self.reads = reads = Reads(
            np.array([a for a, _ in self.outputs], np.int32), np.ones(count, np.int32),
            np.array([r for _, r in self.outputs], np.int64), np.arange(count + 1),
        )  # fmt: skip
        self.adjoint: Adjoint = make_adjoint(self.graph, self.schedule, self.layout, self.blocks, reads)

    def block_rows(self) -> list[tuple[int, int, Any]]:
        """(batch, rows of the block, block) in the order of block_base."""
        found = []
        for batch, (kind, nodes) in enumerate(zip(self.schedule.batch_type, self.schedule, strict=True)):
            for block in self.blocks[kind]:
                mode = self.graph.types[kind].slots[block.slots[0]]
                rows = len(nodes) if mode is Mode.SUM else int(self.layout.batch_rows[batch])
                if mode is Mode.STACK:
                    rows = self.gathered(batch, block.slots[0]).size
                found.append((batch, rows, block))
        return found

    def gathered(self, batch: int, slot: int) -> np.ndarray:
        column = self.column(batch, slot)
        return np.arange(self.layout.gather_start[column], self.layout.gather_start[column + 1])

    def column(self, batch: int, slot: int) -> int:
        return sum(len(self.graph.types[kind].slots) for kind in self.schedule.batch_type[:batch]) + slot

    def readers_by_hand(self) -> dict[Place, list[int]]:
        """(arena, row) -> the numbers of the adjoint memory, in units of WIDTH, that its gradient is the sum of."""
        found: dict[Place, list[int]] = defaultdict(list)
        base = dict(zip([(b, block.slots) for b, _, block in self.block_rows()], self.adjoint.block_base.tolist(),
                        strict=True))  # fmt: skip
        for batch, (kind, nodes) in enumerate(zip(self.schedule.batch_type, self.schedule, strict=True)):
            for slot, mode in enumerate(self.graph.types[kind].slots):
                block = next(block for block in self.blocks[kind] if slot in block.slots)
                side, place = len(block.slots), block.slots.index(slot)
                entries = list(self.gathered(batch, slot))
                if mode is Mode.SUM:  # every part of a node's sum reads the one row of that node
                    start = self.layout.length_start[self.column(batch, slot)]
                    lengths = self.layout.length[start : start + len(nodes)]
                    rows = np.repeat(np.arange(len(nodes)), lengths).tolist()
                else:
                    rows = list(range(len(entries)))
                for entry, row in zip(entries, rows, strict=True):
                    at = int(self.layout.gather_arena[entry]), int(self.layout.gather_row[entry])
                    found[at].append(base[batch, block.slots] // WIDTH + row * side + place)
        for k, at in enumerate(self.outputs):
            found[at].append(int(self.adjoint.output_base[k]) // WIDTH)
        return found


def readers_of(adjoint: Adjoint, arena: int, row: int) -> list[int]:
    found: list[int] = []
    for number in adjoint.of_arena(arena):
        assert adjoint.classes[number][1] == 1
        place = int(adjoint.class_start[number]) + row
        found += adjoint.reader[adjoint.start[place] : adjoint.start[place + 1]].tolist()
    return found


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    graph, policy = draw(gathering_graphs()), draw(st.sampled_from(sorted(POLICIES)))
    side_by_side = draw(st.booleans())
    rows = Plan(graph, policy, side_by_side).layout.arena_rows
    places = [(arena, row) for arena, count in enumerate(rows) for row in range(count)]
    return Plan(graph, policy, side_by_side, draw(st.lists(st.sampled_from(places), max_size=5)))


@few
@given(plan=plans())
def test_the_readers_of_every_row_are_those_found_by_hand(plan: Plan) -> None:
    by_hand = plan.readers_by_hand()
    for arena, rows in enumerate(plan.layout.arena_rows):
        for row in range(rows):
            assert readers_of(plan.adjoint, arena, row) == by_hand.get((arena, row), [])


@few
@given(plan=plans())
def test_blocks_do_not_overlap_and_lie_within_the_memory(plan: Plan) -> None:
    """Nor do they touch the row of zeros in front; and each begins at a whole number of its rows."""
    (size,) = plan.adjoint.size
    taken = [(0, WIDTH)]
    for (_, rows, block), base in zip(plan.block_rows(), plan.adjoint.block_base.tolist(), strict=True):
        assert base % (WIDTH * len(block.slots)) == 0
        taken.append((base, base + rows * WIDTH * len(block.slots)))
    taken += [(base, base + WIDTH) for base in plan.adjoint.output_base.tolist()]
    assert [plan.outputs[k] for k in np.argsort(plan.adjoint.output_base)] == sorted(plan.outputs)
    taken.sort()
    assert all(a[1] <= b[0] for a, b in pairwise(taken))
    assert taken[-1][1] <= size
    assert ((plan.adjoint.reader > 0) & (plan.adjoint.reader < size // WIDTH)).all()


@few
@given(plan=plans(), data=st.data())
def test_single_says_whether_the_only_readers_are_enough(plan: Plan, data: st.DataObject) -> None:
    adjoint = plan.adjoint
    count = np.diff(adjoint.start)
    low = data.draw(st.integers(0, count.size))
    high = data.draw(st.integers(low, count.size))
    assert adjoint.single(low, high) == all(count[low:high] <= 1)
    for place in range(count.size):
        if count[place] == 0:
            assert adjoint.first[place] == 0
        elif count[place] == 1:
            assert adjoint.first[place] == adjoint.reader[adjoint.start[place]]


@few
@given(plan=plans(), data=st.data())
def test_what_kernels_read_is_one_row_or_two_or_the_sum_of_more(plan: Plan, data: st.DataObject) -> None:
    kernels = [[data.draw(st.integers(0, 2)) for _ in t.outputs] for t in plan.graph.types]
    before = plan.adjoint
    adjoint = make_adjoint(plan.graph, plan.schedule, plan.layout, plan.blocks, plan.reads, kernels)
    count, added = np.diff(adjoint.start), plan.graph.by_type(kernels, np.int64)
    made = []
    for value, arena in enumerate(plan.layout.value_arena.tolist()):
        place = adjoint.place_of(arena)
        if place is None:
            continue
        first = place + int(plan.layout.value_row[value])
        for at in range(first, first + int(plan.layout.value_rows[value])):
            summed = 0 < added[value] < count[at]
            assert adjoint.summed[at + 1] - adjoint.summed[at] == summed
            rows = (int(adjoint.first[at]), int(adjoint.second[at]))
            if summed:
                made.append(rows[0])
                assert rows[1] == 0
            elif added[value]:
                readers = adjoint.reader[adjoint.start[at] : adjoint.start[at + 1]].tolist()
                assert rows == tuple([*readers, 0, 0][:2])
    rows = -(-before.size[0] // WIDTH)
    assert sorted(made) == list(range(rows, rows + len(made))), "behind all blocks"
    assert adjoint.size[0] == ((rows + len(made)) * WIDTH if made else before.size[0])


@few
@given(plan=plans())
def test_block_numbers_lead_from_batch_to_batch(plan: Plan) -> None:
    counts = [len(plan.blocks[kind]) for kind in plan.schedule.batch_type]
    assert plan.adjoint.block_start.tolist() == np.cumsum([0, *counts]).tolist()
    assert plan.adjoint.block_base.size == sum(counts)


@pytest.mark.parametrize("read", [False, True])
def test_a_graph_without_operands(read: bool) -> None:
    plan = Plan(build([0], [1], [[]]), "depth", False, [(0, 0)] if read else [])
    assert readers_of(plan.adjoint, 0, 0) == ([int(plan.adjoint.output_base[0]) // WIDTH] if read else [])


def test_types_of_the_drawn_graphs_are_what_this_file_thinks() -> None:
    assert {spec.shape for t in TYPES for spec in (*t.slot_specs, *t.outputs)} == {(WIDTH,)}
    assert isinstance(Plan(build([0], [1], [[]]), "depth", False).schedule, Schedule)


def test_more_rows_than_are_counted_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of being read from where a wrapped number leads."""
    plan = Plan(build([0, 0, 0], [1, 1, 1], [[], [], []]), "depth", False, [(0, 0)])
    monkeypatch.setattr(adjoint_module, "MOST_ROWS", 3)
    with pytest.raises(OverflowError, match="split the mini-batch"):
        make_adjoint(plan.graph, plan.schedule, plan.layout, plan.blocks, plan.reads)
    monkeypatch.setattr(layout_module, "MOST_ROWS", 2)
    with pytest.raises(OverflowError, match=r"3 values .* one shape.* split"):
        make_layout(plan.graph, plan.schedule)
