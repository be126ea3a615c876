"""A captured cell is its rung for any number of rows: as a graph, split in four, and as emitted code."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.batching.captured import CPU, SMALL, WIDTH, Small, Toy, Values, assert_same_values, captured_cell, of
from tests.batching.cell_modules import linear
from torch import Tensor, fx, nn
from torch._subclasses import FakeTensorMode

from bale.batching.cells.call import Kind
from bale.batching.cells.capture import Captured, CaptureError, Rows, Subject, capture, simplify
from bale.batching.cells.emit import emit
from bale.batching.cells.kinds import is_cheap_on_rows
from bale.batching.cells.places import Place
from bale.batching.cells.rungs import Operands
from bale.batching.cells.split import Pieces, row_axis, split
from bale.batching.graph import Spec

aten = torch.ops.aten
ROWS = (1, 2, 5, 12)  # none of those that capture traces
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
small_cells = pytest.mark.parametrize("name", SMALL)


def inputs(toy: Toy, captured: Captured, rows: int) -> dict[fx.Node, Any]:
    """What every placeholder of the graph is at `rows` rows."""
    given: dict[fx.Node, Any] = {next(iter(captured.graph.nodes)): rows}
    given |= dict(zip(captured.columns, [c.detach() for c in toy.columns(rows)], strict=True))
    given |= dict(zip(captured.numbers, toy.numbers(rows), strict=True))
    given |= dict(zip(captured.reads, captured.read_tensors, strict=True))
    gradients = [node for node in captured.output_gradients if node is not None]
    return given | dict(zip(gradients, toy.gradients(rows), strict=True))


def evaluate(nodes: Any, known: dict[fx.Node, Any]) -> None:
    """Run `nodes`, and the whole numbers that they read, in order; results are added to `known`."""

    def value(node: fx.Node) -> Any:
        if node not in known:
            assert node.name.startswith("mul") and known  # a multiple of the rows is written out where it is used
            known[node] = node.target(*fx.map_arg(node.args, value))  # type: ignore[operator]
        return known[node]

    with torch.no_grad():
        for node in nodes:
            arguments, named = fx.map_arg((node.args, node.kwargs), value)
            known[node] = node.target(*arguments, **named)


def values_of(captured: Captured, known: dict[fx.Node, Any]) -> Values:
    outputs, columns, trained = (
        [None if node is None else known[node] for node in group]
        for group in (captured.outputs, captured.column_gradients, captured.trained_gradients)
    )
    return Values(outputs, columns, trained)  # type: ignore[arg-type]


@small_cells
def test_the_graph_holds_for_any_number_of_rows(name: str) -> None:
    toy, captured = captured_cell(name, torch.float64)
    assert captured.trained == toy.trained
    for rows in ROWS:
        known = inputs(toy, captured, rows)
        evaluate([node for node in captured.graph.nodes if node.op == "call_function"], known)
        assert_same_values(values_of(captured, known), toy.values(toy.rung, rows), 1e-12)


@small_cells
def test_every_node_says_its_shape_and_dtype(name: str) -> None:
    toy, captured = captured_cell(name, torch.float64)
    known = inputs(toy, captured, 5)
    evaluate([node for node in captured.graph.nodes if node.op == "call_function"], known)
    for node, value in known.items():
        if isinstance(value, Tensor) and "shape" in node.meta:
            sizes = tuple(5 * size.times if isinstance(size, Rows) else size for size in node.meta["shape"])
            assert (tuple(value.shape), value.dtype) == (sizes, node.meta["dtype"])


def test_a_capture_makes_one_fake_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch would make one for every node, each with the stack of its maker: half of the time of a capture."""
    toy, made, once = Toy(SMALL["tree lstm"], torch.float64), [], FakeTensorMode.__init__
    monkeypatch.setattr(FakeTensorMode, "__init__", lambda mode, **given: (made.append(mode), once(mode, **given))[1])
    toy.capture()
    assert len(made) == 1


def joined(pieces: Pieces, batches: list[dict[fx.Node, Any]]) -> dict[fx.Node, Any]:
    """What the weights' gradients read of all batches, one after another."""
    found = {}
    for node in pieces.between(pieces.weights):
        parts = [known[node] for known in batches]
        if isinstance(parts[0], int):
            found[node] = sum(parts)
        elif isinstance(parts[0], Tensor):
            axis = row_axis(node)
            found[node] = parts[0] if axis is None else torch.cat(parts, axis)
    return found


@small_cells
@pytest.mark.parametrize("per_batch", [is_cheap_on_rows, lambda node: False], ids=["cheap per batch", "once"])
def test_the_four_parts_make_the_whole_gradient(name: str, per_batch: Callable[[fx.Node], bool]) -> None:
    """Prologue once, forward and backward batch by batch, weights once over the rows of all batches."""
    toy, captured = captured_cell(name, torch.float64)
    pieces = split(captured, per_batch)
    whole = inputs(toy, captured, 7)
    batches = []
    for low, high in ((0, 2), (2, 7)):
        known = dict(whole)
        for node in (*captured.columns, *captured.numbers, *filter(None, captured.output_gradients)):
            known[node] = whole[node][low:high]
        known[next(iter(captured.graph.nodes))] = high - low
        for part in (pieces.prologue, pieces.forward, pieces.backward):
            evaluate(part, known)
        batches.append(known)
    once = {node: whole[node] for node in captured.reads} | joined(pieces, batches)
    once |= {node: batches[0][node] for node in pieces.prologue}
    evaluate(pieces.weights, once)
    want = toy.values(toy.rung, 7)
    rows = [values_of(captured, known | {node: once[node] for node in pieces.weights}) for known in batches]

    def together(parts: Any) -> Any:
        return [None if part[0] is None else torch.cat(part) for part in zip(*parts, strict=True)]

    trained = [None if node is None else once[node] for node in captured.trained_gradients]
    got = Values(together([r.outputs for r in rows]), together([r.columns for r in rows]), trained)
    assert_same_values(got, want, 1e-12)


@small_cells
def test_no_node_is_in_two_parts_and_a_part_reads_only_earlier_ones(name: str) -> None:
    pieces = split(captured_cell(name, torch.float32)[1], is_cheap_on_rows)
    parts = (pieces.prologue, pieces.forward, pieces.backward, pieces.weights)
    nodes = [node for part in parts for node in part]
    assert len(set(nodes)) == len(nodes)
    for k, part in enumerate(parts):
        for node in part:
            assert not any(source in later for later in parts[k + 1 :] for source in node.all_input_nodes)


@small_cells
@pytest.mark.parametrize(
    ("dtype", "fast"),
    [(torch.float32, True), (torch.float32, False), (torch.float64, True)],
    ids=["kernels", "plain", "float64"],
)
def test_emitted_code_is_the_rung(name: str, dtype: torch.dtype, fast: bool) -> None:
    assert_code_is_rung(name, dtype, fast, gathered=True)


@pytest.mark.parametrize("name", ["linear", "lstm cell", "tree gru", "a norm by hand", "its input"])
def test_emitted_code_is_the_rung_on_constants(name: str) -> None:
    assert_code_is_rung(name, torch.float32, fast=True, gathered=False)


def assert_code_is_rung(name: str, dtype: torch.dtype, fast: bool, gathered: bool) -> None:
    toy, captured = captured_cell(name, dtype)
    emitted = emit(captured, [gathered] * len(captured.columns), fast)
    for rows in (1, 9):
        assert_same_values(toy.values(toy.code(emitted), rows), toy.values(toy.rung, rows), TOLERANCE[dtype])


# What kernels and places are for.


def launches(name: str) -> tuple[int, int]:
    _, captured = captured_cell(name, torch.float32)
    return emit(captured, [True] * len(captured.columns), fast=True).launches


def test_a_recurrent_cell_is_products_and_one_kernel() -> None:
    assert launches("tree lstm") == (2, 2)
    assert launches("lstm cell") == (2, 2)


def test_what_is_concatenated_is_gathered_where_it_lies() -> None:
    _, captured = captured_cell("tree lstm", torch.float32)
    emitted = emit(captured, [True] * 4, fast=True)
    h, c, g, d = emitted.columns
    assert (h, g) == (Place(h.home, 0, WIDTH), Place(h.home, WIDTH, WIDTH))
    assert c == d == "index"
    assert (0, 2) in emitted.blocks, "the gradients of both states are one product"


def test_gradients_of_nodes_and_constants_share_no_block() -> None:
    _, captured = captured_cell("tree lstm", torch.float32)
    emitted = emit(captured, [True, True, False, True], fast=True)
    assert all(len(block) == 1 for block in emitted.blocks)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("layer norm", aten.native_layer_norm_backward.default),
        ("group norm", aten.native_group_norm_backward.default),
        ("convolution", aten.convolution_backward.default),
    ],
)
def test_gradients_of_rows_and_of_weights_are_two_operations(name: str, target: Any) -> None:
    """The first runs per batch, the second once; neither computes what the other is for."""
    pieces = split(captured_cell(name, torch.float64)[1])
    masks = {
        part: [tuple(node.args[-1]) for node in nodes if node.target is target]  # type: ignore[arg-type]
        for part, nodes in (("backward", pieces.backward), ("weights", pieces.weights))
    }
    assert masks == {"backward": [(True, False, False)], "weights": [(False, True, True)]}


def test_a_gradient_of_two_weights_is_a_tensor_for_each() -> None:
    module = of(one=linear, two=linear)
    toy = Toy(Small(lambda m, a, b: m.one(a) + m.two(a) + b, module), torch.float32)
    emitted = emit(toy.capture(), [True, True], fast=True)
    found = toy.values(toy.code(emitted), 5).trained
    assert len({g.data_ptr() for g in found if g is not None}) == 4


def test_equal_nodes_and_double_transposes_go() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    one = graph.call_function(aten.mm.default, (graph.call_function(aten.t.default, (x,)), x))
    transposed = graph.call_function(aten.t.default, (x,))
    two = graph.call_function(aten.mm.default, (transposed, x))
    back = graph.call_function(aten.t.default, (graph.call_function(aten.detach.default, (transposed,)),))
    graph.output([one, two, back])
    simplify(graph)
    first, second, third = graph.output_node().args[0]  # type: ignore[misc]
    assert first is second and third is x
    assert [node.target for node in graph.nodes if node.op == "call_function"] == [aten.t.default, aten.mm.default]


# Refusals.


def refused(function: Callable[..., Any], **options: Any) -> str:
    specs = [Spec((WIDTH,), torch.float64, CPU, requires_grad=True)]
    operands = Operands(specs, [Kind.VALUE], [None], (), [])
    subject = Subject(
        lambda columns: [function(columns[0])], contextlib.nullcontext, operands, (), options.get("grads", (True,))
    )
    with pytest.raises(CaptureError) as caught:
        captured = capture(subject)
        split(captured)
        emit(captured, [True], fast=False)
    return str(caught.value)


def crossed(x: Tensor) -> Tensor:
    return (x @ x.t()) @ x


class Counter:
    count = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.count += 1
        return x * self.count


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: x * 2 if x.sum() > 0 else x, "tracing fails"),
        (lambda x: x * float(x.sum().item()), "tracing fails"),
        (Counter(), "a second trace gives other constants"),
        (lambda x: x + torch.rand(WIDTH), "it draws random numbers that were not lifted out"),
        (lambda x: x + torch.rand_like(x), "it draws random numbers that were not lifted out"),
        (lambda x: x * (1.0 / x.shape[0]), "a constant hangs on the number of rows (0.14285714285714285 at 7 rows"),
        (lambda x: x * (x.shape[0] + 1), "a constant hangs on the number of rows (8 at 7 rows, 12 at 11)"),
        (lambda x: x.tanh() if x.shape[0] == 7 else x, "its graph hangs on the number of rows"),
        (lambda x: x + torch.ones(x.shape[0] % 3, WIDTH)[:1].sum(), "a constant hangs on the number of rows"),
        (crossed, "it crosses rows with rows"),
    ],
)
def test_what_does_not_hold_for_any_number_of_rows_is_refused_with_a_reason(
    function: Callable[..., Any], reason: str
) -> None:
    assert reason in refused(function)


def test_a_failing_rung_is_refused_with_its_own_words() -> None:
    def fail(x: Tensor) -> Tensor:
        raise KeyError("no such word")

    assert refused(fail) == "tracing fails: KeyError: 'no such word'"


def test_a_capture_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    Toy(SMALL["dropout"], torch.float32)
    torch.set_rng_state(before)
    Toy(SMALL["linear"], torch.float32)
    state = torch.get_rng_state()
    toy = Toy(SMALL["linear"], torch.float32)
    torch.set_rng_state(state)
    toy.capture()
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_that_need_no_gradient_get_none() -> None:
    toy = Toy(Small(lambda m, a, b: m(a) * F.relu(b), linear), torch.float64)
    weight, bias = toy.trained
    weight.requires_grad_(False)
    toy.trained = (bias,)
    captured = toy.capture()
    assert captured.trained == (bias,) and len(captured.trained_gradients) == 1
    assert any(tensor is weight for tensor in captured.read_tensors)
    assert isinstance(nn.Parameter, type)
