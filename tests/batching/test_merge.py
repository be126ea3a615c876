"""Merging runs equal computations once and changes nothing that is computed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.batching.gathering import GATHERS, LEAF, TYPES, gathering_graphs, run_symbolically
from torch import nn

import bale
from bale.batching.cells.celltype import CellType
from bale.batching.engine import trace_samples
from bale.batching.fold import fold
from bale.batching.graph import WHOLE, Graph, Mode, NodeType, Spec
from bale.batching.merge import _same, merge, mergeable_types
from bale.batching.trace.tracer import Registry
from bale.batching.uses import TypeUse
from bale.data import Sample, ptb_samples, ptb_vocabulary, python_functions, read_ptb
from bale.data.tree import Tree, children_of
from bale.data.tree import fold as fold_tree

ONE = Spec((2,), torch.float32, torch.device("cpu"))
KINDS = (
    NodeType("leaf", (), (), (ONE,)),
    NodeType("pair", (Mode.ROW, Mode.ROW), (ONE, ONE), (ONE, ONE)),  # two outputs
    NodeType("lists", (Mode.SUM, Mode.STACK), (ONE, ONE), (ONE,)),  # two slots of any length
    NodeType("drawn", (Mode.ROW,), (ONE,), (ONE,)),
)
MERGEABLE = np.array([True, True, True, False])

Constants = tuple[tuple[int, ...], ...]


@st.composite
def repetitive(draw: st.DrawFn) -> tuple[Graph, Constants]:
    """Graphs in which few leaves, numbers and operands make many equal computations."""
    types, rows, slots, constants = [0], [1], [[]], [(0,)]
    outputs = [1]
    for _ in range(draw(st.integers(0, 14))):
        kind = draw(st.integers(0, len(KINDS) - 1))
        value = st.integers(max(0, sum(outputs) - 4), sum(outputs) - 1)
        part = st.tuples(value, st.sampled_from([WHOLE, WHOLE, 0]))
        some = st.lists(part, max_size=2)
        slots.append([draw(some if mode in (Mode.SUM, Mode.STACK) else part.map(lambda p: [p]))
                      for mode in KINDS[kind].slots])  # fmt: skip
        types.append(kind)
        rows.append(draw(st.sampled_from([1, 1, 1, 2])))
        constants.append(draw(st.sampled_from([(), (), (), (0,), (1, 0)])))
        outputs.append(len(KINDS[kind].outputs))
    parts = [part for node in slots for slot in node for part in slot]
    graph = Graph(
        types=KINDS,
        type=np.array(types, np.int32),
        rows=np.array(rows, np.int32),
        sample=np.arange(len(types), dtype=np.int32),
        slot_start=np.cumsum([0, *map(len, slots)]).astype(np.int32),
        part_start=np.cumsum([0, *(len(slot) for node in slots for slot in node)]).astype(np.int32),
        part_value=np.array([value for value, _ in parts], np.int32),
        part_index=np.array([index for _, index in parts], np.int32),
        value_start=np.cumsum([0, *outputs]).astype(np.int32),
    )
    return graph, tuple(constants)


def csr(constants: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.cumsum([0, *map(len, constants)]), np.array([c for node in constants for c in node], np.int64)


def by_brute_force(graph: Graph, constants: Sequence[Sequence[int]], mergeable: np.ndarray) -> list[int]:
    """The representative of every node, with a dictionary."""
    seen: dict[Hashable, int] = {}
    found: list[int] = []
    for node in range(len(graph)):
        slots = []
        for values, indices in graph.slots(node):
            writers = graph.value_node[values]
            outputs = values - graph.value_start[writers]
            slots.append(tuple((found[w], int(o), int(i)) for w, o, i in zip(writers, outputs, indices, strict=True)))
        key: Hashable = (int(graph.type[node]), int(graph.rows[node]), tuple(slots), tuple(constants[node]))
        found.append(seen.setdefault(key, node) if mergeable[graph.type[node]] else node)
    return found


def expressions(graph: Graph, constants: Sequence[Sequence[int]]) -> list[Any]:
    """Per value: how it is computed. What is not mergeable is told apart by its sample: here, its own number."""
    values: list[Any] = []
    for node in range(len(graph)):
        operands = [
            [(values[value], int(index)) for value, index in zip(*parts, strict=True)] for parts in graph.slots(node)
        ]
        own = None if MERGEABLE[graph.type[node]] else int(graph.sample[node])
        how = (int(graph.type[node]), int(graph.rows[node]), operands, constants[node], own)
        values += [(*how, output) for output in range(graph.value_start[node + 1] - graph.value_start[node])]
    return values


@given(drawn=repetitive())
def test_the_classes_are_those_of_a_dictionary(drawn: tuple[Graph, Constants]) -> None:
    graph, constants = drawn
    merged = merge(graph, MERGEABLE, *csr(constants))
    wanted = by_brute_force(graph, constants, MERGEABLE)
    assert list(merged.representative) == wanted
    assert list(merged.kept) == sorted(set(wanted))
    assert len(merged.graph) == merged.kept.size


@given(drawn=repetitive())
def test_every_value_is_computed_as_before(drawn: tuple[Graph, Constants]) -> None:
    graph, constants = drawn
    merged = merge(graph, MERGEABLE, *csr(constants))
    before = expressions(graph, constants)
    after = expressions(merged.graph, [constants[node] for node in merged.kept])
    assert [after[value] for value in merged.value(graph, np.arange(len(before)))] == before
    assert merged.graph.types == graph.types
    assert np.array_equal(merged.graph.sample, graph.sample[merged.kept])


@given(drawn=repetitive())
def test_merging_twice_changes_nothing(drawn: tuple[Graph, Constants]) -> None:
    graph, constants = drawn
    once = merge(graph, MERGEABLE, *csr(constants))
    twice = merge(once.graph, MERGEABLE, *csr([constants[node] for node in once.kept]))
    assert twice.graph is once.graph
    assert np.array_equal(twice.kept, np.arange(len(once.graph)))


@given(drawn=repetitive())
def test_what_is_not_mergeable_stays(drawn: tuple[Graph, Constants]) -> None:
    graph, constants = drawn
    merged = merge(graph, MERGEABLE, *csr(constants))
    assert np.isin(np.flatnonzero(~MERGEABLE[graph.type]), merged.kept).all()
    assert merge(graph, np.zeros(len(KINDS), bool), *csr(constants)).graph is graph


@given(graph=gathering_graphs(), words=st.lists(st.integers(0, 1), min_size=12, max_size=12), data=st.data())
def test_fold_runs_after_merge(graph: Graph, words: list[int], data: st.DataObject) -> None:
    constants = [(words[node],) if graph.type[node] == LEAF else () for node in range(len(graph))]
    names = words[: len(graph)]
    pinned = np.array(data.draw(st.lists(st.integers(0, len(graph) - 1), unique=True)), np.int64)
    merged = merge(graph, np.ones(len(TYPES), bool), *csr(constants))
    folded = fold(merged.graph, GATHERS, merged.value(graph, pinned))
    before = run_symbolically(graph, names)
    after = run_symbolically(folded.graph, [names[node] for node in merged.kept[folded.kept]])
    assert [after[v] for v in folded.value(merged.graph, merged.value(graph, pinned))] == [before[v] for v in pinned]


@given(drawn=repetitive())
def test_the_comparison_alone_decides(drawn: tuple[Graph, Constants]) -> None:
    """Two nodes with one hash are too rare to be met, so what tells them apart is tested by itself."""
    graph, constants = drawn
    everything = np.ones(len(KINDS), bool)
    found = by_brute_force(graph, constants, everything)
    node = graph.value_node
    value = graph.value_start[np.array(found)[node]] + np.arange(node.size) - graph.value_start[node]
    start, ids = csr(constants)
    for a in range(len(graph)):
        for b in range(a):
            same = _same(a, b, graph.type, graph.rows, graph.slot_start, graph.part_start, graph.part_value,
                         graph.part_index, start, ids, value.astype(np.int32))  # fmt: skip
            assert same == (found[a] == found[b])


def test_what_reads_equal_things_is_equal() -> None:
    graph = Graph.of([0, 0, 1, 1, 2, 2], [[], [], [0, 1], [1, 0], [2], [3]])
    merged = merge(graph, np.ones(3, bool), np.zeros(7, np.int64), np.zeros(0, np.int64))
    assert list(merged.representative) == [0, 0, 2, 2, 4, 4]
    assert merged.graph == Graph.of([0, 1, 2], [[], [0, 0], [1]])


def test_the_boundary_of_two_slots_counts() -> None:
    graph = Graph(
        types=KINDS, type=np.array([0, 2, 2], np.int32), rows=np.ones(3, np.int32), sample=np.zeros(3, np.int32),
        slot_start=np.array([0, 0, 2, 4], np.int32), part_start=np.array([0, 1, 2, 2, 2], np.int32),
        part_value=np.zeros(2, np.int32), part_index=np.full(2, WHOLE, np.int32),
        value_start=np.arange(4, dtype=np.int32),
    )  # fmt: skip
    assert merge(graph, MERGEABLE, np.zeros(4), np.zeros(0)).graph is graph


def test_order_of_operands_and_of_constants_counts() -> None:
    graph = Graph.of([0, 0, 1, 1, 1], [[], [], [0, 1], [1, 0], [0, 1]])
    start, ids = csr([(1, 2), (2, 1), (), (), ()])
    assert list(merge(graph, np.ones(2, bool), start, ids).kept) == [0, 1, 2, 3]


def test_an_empty_graph_merges_to_itself() -> None:
    graph = Graph.of([], [])
    assert merge(graph, np.zeros(0, bool), np.zeros(1, np.int64), np.zeros(0, np.int64)).graph is graph


# Real trees: how much there is to merge.


def tree_graph(samples: Sequence[Sample]) -> tuple[Graph, list[tuple[int, ...]]]:
    """A node per tree node, its type the arity, its constant the kind (of an inner node of a sentence, 0)."""
    types: list[int] = []
    operands: list[Sequence[int]] = []
    constants: list[tuple[int, ...]] = []

    def add(node: Tree, below: list[int]) -> int:
        types.append(len(below))
        operands.append(below)
        constants.append((node.kind,))
        return len(types) - 1

    for tree, _ in samples:
        fold_tree(tree, children_of, add)
    return Graph.of(types, operands), constants


def distinct_trees(samples: Sequence[Sample]) -> tuple[int, int]:
    """(nodes, distinct subtrees), counted on the trees themselves."""
    numbers: dict[Hashable, int] = {}
    nodes = 0

    def number(node: Tree, below: list[int]) -> int:
        nonlocal nodes
        nodes += 1
        return numbers.setdefault((node.kind, *below), len(numbers))

    for tree, _ in samples:
        fold_tree(tree, children_of, number)
    return nodes, len(numbers)


def merged_size(samples: Sequence[Sample]) -> tuple[int, int]:
    graph, constants = tree_graph(samples)
    merged = merge(graph, np.ones(len(graph.types), bool), *csr(constants))
    return len(graph), len(merged.graph)


def test_sentences(data_folder: Callable[[str], Path]) -> None:
    trees = read_ptb(data_folder("sst") / "train.txt")
    for min_count, wanted in ((1, 6_726), (2, 6_378)):  # with 2, rare words are one
        samples = ptb_samples(trees[:256], ptb_vocabulary(trees, min_count=min_count))
        assert distinct_trees(samples) == (10_020, wanted)
        assert merged_size(samples) == (10_020, wanted)


def test_functions_of_the_standard_library() -> None:
    functions = python_functions(256)
    samples = [*functions.train, *functions.valid, *functions.test]
    nodes, distinct = distinct_trees(samples)
    assert merged_size(samples) == (nodes, distinct)
    assert distinct < nodes / 5  # which functions there are depends on Python's version; that they repeat does not


# Which types may merge.


class Norm(nn.Module):
    """Counts its calls in a buffer."""

    calls: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.add_(1)
        return x / self.calls


class Clip(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad.clamp(-0.1, 0.1)


class Clipping(nn.Module):
    """Its gradient for two readers is not the sum of that for each."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Clip.apply(self.linear(x))


class Hooking(Clipping):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.linear(x)
        if h.requires_grad:
            h.register_hook(lambda grad: grad.clamp(-0.1, 0.1))
        return h * 2


def watched() -> nn.Module:
    module = nn.Linear(2, 2)
    module.register_full_backward_hook(lambda module, into, out: None)
    return module


class Words(nn.Module):
    """Embeds words, scales them by a number, stacks them, and ends in `last`."""

    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        self.embed, self.linear, self.last = nn.Embedding(5, 2), nn.Linear(2, 2), last

    def forward(self, words: list[torch.Tensor]) -> torch.Tensor:
        rows = torch.stack([self.linear(self.embed(word)) * (k + 1) for k, word in enumerate(words)])
        return self.last(torch.softmax(rows, 0).sum(0))


def uses_of(model: nn.Module, *, grad: bool = True) -> dict[CellType, TypeUse]:
    settings, registry = bale.batch(model).settings, Registry()
    given = [[torch.tensor(1), torch.tensor(4)], [torch.tensor(2)]]
    with torch.set_grad_enabled(grad):
        return trace_samples(model, given, {}, settings, registry).trace.uses


@pytest.mark.parametrize(
    ("last", "merges"),
    [
        (lambda: nn.Linear(2, 2), True),
        (lambda: nn.Dropout(0.0).eval(), True),
        (nn.Dropout, False),
        (Norm, False),
        (watched, False),
        (Clipping, False),
        (Hooking, False),
    ],
    ids=["linear", "dropout in eval", "dropout", "stateful", "backward hook", "custom gradient", "tensor hook"],
)
def test_which_types_merge(last: Callable[[], nn.Module], merges: bool) -> None:
    uses = uses_of(Words(last()))
    for _ in range(2):
        found = dict(zip((cell.name.split()[0] for cell in uses), mergeable_types(uses), strict=True))
        assert found.pop("last") == merges
        assert {"embed", "linear", "stack", "softmax"} <= found.keys()
        assert all(found.values())


@pytest.mark.parametrize("last", [Clipping, Hooking])
def test_without_gradients_a_backward_does_not_matter(last: Callable[[], nn.Module]) -> None:
    assert mergeable_types(uses_of(Words(last()), grad=False)).all()


def test_ragged_constants_and_operands_merge() -> None:
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(rows)).sum(0)

    model = Rows()
    given = [torch.randn(n, 2, requires_grad=n == 3) for n in (3, 2)]
    uses = trace_samples(model, given, {}, bale.batch(model).settings, Registry()).trace.uses
    assert any(cell.ragged for cell in uses) and mergeable_types(uses).all()
