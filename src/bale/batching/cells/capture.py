"""Capture: how does a cell's batched run become a graph of tensor operations, forward and backward, for any row count?

The rung that the cell has proved is traced together with its gradients at 7, 11 and again 7 rows. Whatever whole number
differs between the first two is a multiple of the rows; whatever else differs is a refusal, and the rung stays.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch._guards import TracingContext, tracing
from torch._subclasses import FakeTensorMode
from torch.func import functionalize  # pyright: ignore[reportPrivateImportUsage]
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from bale.batching.cells.draws import Replay, is_random
from bale.batching.cells.sums import chain_products

aten = torch.ops.aten
TRACED_ROWS = (7, 11, 7)


class CaptureError(Exception):
    """Why a cell cannot be captured. Never reaches the user as it is: the cell stays on its rung."""


@dataclass(frozen=True)
class Rows:
    """A size that is `times` the rows of the batch."""

    times: int

    def __str__(self) -> str:
        return "rows" if self.times == 1 else f"{self.times} * rows"


@dataclass(frozen=True, eq=False)
class Captured:
    """A cell as a graph whose placeholders are `rows`, then columns, numbers, output gradients, and what it reads.

    Every node that is a tensor has meta "shape" (whole numbers and Rows) and "dtype". The graph's output is the
    triple of lists (outputs, column gradients, gradients of what is trained), None where there is none.
    """

    graph: fx.Graph
    columns: tuple[fx.Node, ...]
    numbers: tuple[fx.Node, ...]
    reads: tuple[fx.Node, ...]
    read_tensors: tuple[torch.Tensor, ...]
    trained: tuple[torch.Tensor, ...]
    output_gradients: tuple[fx.Node | None, ...]  # one per output, None where it carries no gradient
    outputs: tuple[Any, ...]
    column_gradients: tuple[Any, ...]
    trained_gradients: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Subject:
    """What is captured: a rung, the mode it runs under, and how to make columns and numbers for it.

    `column_grads` says which columns carry gradients, `output_grads` which outputs do.
    """

    rung: Any
    state: Any
    operands: Any
    trained: tuple[torch.Tensor, ...]
    output_grads: tuple[bool, ...]


def capture(subject: Subject) -> Captured:
    """The graph of `subject`. Raises CaptureError with the reason where there is none that holds for any row count."""
    try:
        with warnings.catch_warnings(action="ignore"), torch.random.fork_rng(devices=[]), _one_fake_mode():
            traced = [_trace(subject, rows) for rows in TRACED_ROWS]
    except CaptureError:
        raise
    except Exception as error:
        text = str(error).splitlines()[0] if str(error) else ""
        raise CaptureError(f"tracing fails: {type(error).__name__}: {text[:200]}") from error
    _must_repeat(traced[0], traced[2])
    return _generalise(subject, traced[0], traced[1])


def _one_fake_mode() -> AbstractContextManager[Any]:
    """For the shapes that make_fx keeps of every node.

    Without it torch makes a mode for each node, and each mode keeps the stack it was made on: half of a capture's time.
    """
    return tracing(TracingContext(FakeTensorMode(allow_fallback_kernels=True)))


@dataclass(frozen=True, eq=False)
class _Traced:
    """One trace at a fixed row count: a flat graph of inputs (columns, numbers, gradients), then `reads`."""

    graph: fx.Graph
    reads: tuple[torch.Tensor, ...]
    counts: tuple[int, int, int]  # columns, numbers, output gradients


def _trace(subject: Subject, rows: int) -> _Traced:
    columns, numbers = subject.operands.columns(rows, positive=True), subject.operands.numbers(rows)
    for column, spec in zip(columns, subject.operands.specs, strict=True):
        column.requires_grad_(spec.requires_grad and spec.dtype.is_floating_point)
    carries = [k for k, grad in enumerate(subject.output_grads) if grad]
    with subject.state(), _no_autocast_cache():
        shapes = [out.detach() for out in _run(subject, columns, numbers)]
    gradients = [torch.randn_like(shapes[k]) for k in carries]

    def joint(columns: list[torch.Tensor], numbers: list[torch.Tensor], gradients: list[torch.Tensor]) -> Any:
        with subject.state(), _no_autocast_cache():
            outputs = _run(subject, columns, numbers)
        leaves = [t for t in (*columns, *subject.trained) if t.requires_grad]
        found: list[torch.Tensor | None] = [None] * len(leaves)
        if carries and leaves:
            found = list(torch.autograd.grad([outputs[k] for k in carries], leaves, gradients, allow_unused=True))
        given = iter(found)
        of_columns = [next(given) if c.requires_grad else None for c in columns]
        of_trained = [next(given) if t.requires_grad else None for t in subject.trained]
        return outputs, of_columns, of_trained

    flat, reads = _hoist(make_fx(joint)(columns, numbers, gradients))
    if any(_is_mutable(node) for node in flat.nodes):
        inputs = [t.detach() for t in (*columns, *numbers, *gradients, *reads)]
        with torch.no_grad():
            runs = fx.GraphModule(torch.nn.Module(), flat)
            again = make_fx(functionalize(runs, remove="mutations"))(*inputs)
        flat, extra = _hoist(again)
        if extra or any(_is_mutable(node) for node in flat.nodes):
            raise CaptureError("it writes in place in a way that cannot be written out of place")
    if any(node.op == "call_function" and _draws(node.target) for node in flat.nodes):
        raise CaptureError("it draws random numbers that were not lifted out")
    return _Traced(flat, reads, (len(columns), len(numbers), len(gradients)))


def _run(subject: Subject, columns: Sequence[torch.Tensor], numbers: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    if not numbers:
        return subject.rung(columns)
    with Replay(numbers):
        return subject.rung(columns)


class _no_autocast_cache:
    """Autocast must not hand over casts of weights that it made before: they would be constants of the graph."""

    def __enter__(self) -> None:
        self.before = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)

    def __exit__(self, *_: object) -> None:
        torch.set_autocast_cache_enabled(self.before)


def _draws(target: Any) -> bool:
    return isinstance(target, torch._ops.OpOverload) and is_random(target)


def _is_mutable(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _hoist(module: fx.GraphModule) -> tuple[fx.Graph, tuple[torch.Tensor, ...]]:
    """Tensors that the graph holds become inputs behind its own, each once: what is baked in gets no gradient."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    flat_outputs: Any = None
    held: dict[int, fx.Node] = {}
    tensors: list[torch.Tensor] = []
    for node in module.graph.nodes:
        if node.op == "placeholder":
            copies[node] = graph.node_copy(node, copies.__getitem__)
    for node in module.graph.nodes:
        if node.op == "get_attr":
            tensor = _attribute(module, node.target)
            if id(tensor) not in held:
                held[id(tensor)] = graph.placeholder(f"read_{len(tensors)}")
                held[id(tensor)].meta["val"] = tensor
                tensors.append(tensor)
            copies[node] = held[id(tensor)]
    for node in module.graph.nodes:
        if node.op == "output":
            flat_outputs = pytree.tree_leaves(node.args[0], is_leaf=lambda leaf: leaf is None)
            graph.output([None if leaf is None else copies[leaf] for leaf in flat_outputs])
        elif node.op not in ("placeholder", "get_attr"):
            copies[node] = graph.node_copy(node, copies.__getitem__)
    return graph, tuple(tensors)


def _attribute(module: Any, path: str) -> torch.Tensor:
    for name in path.split("."):
        module = getattr(module, name)
    return module


def _must_repeat(first: _Traced, again: _Traced) -> None:
    if [str(n.target) for n in first.graph.nodes] != [str(n.target) for n in again.graph.nodes]:
        raise CaptureError("a second trace gives another graph")
    for one, other in zip(first.graph.nodes, again.graph.nodes, strict=True):
        for a, b in zip(_leaves(one), _leaves(other), strict=True):
            if not isinstance(a, fx.Node) and repr(a) != repr(b):
                raise CaptureError("a second trace gives other constants")
    _must_read_the_same(first, again)


def _must_read_the_same(first: _Traced, again: _Traced) -> None:
    if len(first.reads) != len(again.reads):
        raise CaptureError("it reads other tensors each time")
    for a, b in zip(first.reads, again.reads, strict=True):
        if a is b:
            continue
        if a.requires_grad or b.requires_grad or a.shape != b.shape or a.dtype != b.dtype or not torch.equal(a, b):
            raise CaptureError("it makes tensors of its own that are not the same each time")


def _leaves(node: fx.Node) -> list[Any]:
    return pytree.tree_leaves((node.args, node.kwargs), is_leaf=lambda leaf: leaf is None)


def _generalise(subject: Subject, small: _Traced, large: _Traced) -> Captured:
    few, many = TRACED_ROWS[:2]
    if [str(n.target) for n in small.graph.nodes if n.op != "placeholder"] != [
        str(n.target) for n in large.graph.nodes if n.op != "placeholder"
    ] or len(small.graph.nodes) != len(large.graph.nodes):
        raise CaptureError("its graph hangs on the number of rows")
    _must_read_the_same(small, large)
    graph = fx.Graph()
    rows = graph.placeholder("rows")
    copies: dict[fx.Node, fx.Node] = {}
    multiples: dict[int, fx.Node] = {1: rows}

    def size(a: Any, b: Any) -> Any:
        if a == b and type(a) is type(b):
            return a
        if type(a) is int and type(b) is int and a % few == 0 and b * few == a * many:
            return Rows(a // few)
        raise CaptureError(f"a constant hangs on the number of rows ({a} at {few} rows, {b} at {many})")

    def argument(a: Any, b: Any) -> Any:
        if isinstance(a, fx.Node):
            return copies[a]
        if isinstance(a, (list, tuple)):
            return type(a)(argument(x, y) for x, y in zip(a, b, strict=True))
        if isinstance(a, slice):
            return slice(*(argument(x, y) for x, y in zip(*((s.start, s.stop, s.step) for s in (a, b)), strict=True)))
        if isinstance(a, float) and a != a and b != b:
            return a
        general = size(a, b)
        if isinstance(general, Rows):
            if general.times not in multiples:
                multiples[general.times] = graph.call_function(operator.mul, (rows, general.times))
            return multiples[general.times]
        return general

    outputs: list[Any] = []
    for one, other in zip(small.graph.nodes, large.graph.nodes, strict=True):
        if one.op == "output":
            outputs = [None if leaf is None else copies[leaf] for leaf in one.args[0]]
            continue
        args = tuple(argument(a, b) for a, b in zip(one.args, other.args, strict=True))
        kwargs = {k: argument(v, other.kwargs[k]) for k, v in one.kwargs.items()}
        copies[one] = copy = graph.create_node(one.op, one.target, args, kwargs, one.name)
        _describe(copy, one.meta.get("val"), other.meta.get("val"), size)
    return _finish(subject, small, graph, copies, outputs)


def _describe(node: fx.Node, small: Any, large: Any, size: Any) -> None:
    if isinstance(small, torch.Tensor):
        node.meta["shape"] = tuple(size(a, b) for a, b in zip(small.shape, large.shape, strict=True))
        node.meta["dtype"] = small.dtype
        if list(node.meta["shape"]).count(Rows(1)) > 1:
            raise CaptureError("it crosses rows with rows")


def _finish(subject: Subject, traced: _Traced, graph: fx.Graph, copies: Any, outputs: list[Any]) -> Captured:
    inputs = [copies[node] for node in traced.graph.nodes if node.op == "placeholder"]
    columns, numbers, gradients = traced.counts
    ends = [columns, columns + numbers, columns + numbers + gradients]
    gradient = iter(inputs[ends[1] : ends[2]])
    graph.output(outputs)
    outs = len(subject.output_grads)
    simplify(graph)
    results = list(graph.output_node().args[0])  # pyright: ignore[reportArgumentType, reportGeneralTypeIssues]
    return Captured(
        graph=graph,
        columns=tuple(inputs[:columns]),
        numbers=tuple(inputs[columns : ends[1]]),
        reads=tuple(inputs[ends[2] :]),
        read_tensors=traced.reads,
        trained=subject.trained,
        output_gradients=tuple(next(gradient) if grad else None for grad in subject.output_grads),
        outputs=tuple(results[:outs]),
        column_gradients=tuple(results[outs : outs + columns]),
        trained_gradients=tuple(results[outs + columns :]),
    )


_ALIASES = (aten.detach.default, aten.alias.default, aten.lift_fresh_copy.default, aten.lift_fresh.default)
SPLITS = (aten.split.Tensor, aten.unsafe_split.Tensor, aten.split_with_sizes.default)
_ELEMENTWISE = (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor)
_WITH_MASK = {aten.native_layer_norm_backward.default, aten.convolution_backward.default,
              aten.native_group_norm_backward.default}  # fmt: skip


def simplify(graph: fx.Graph) -> None:
    """Drop aliases and double transposes, merge equal nodes, and split fused gradients of inputs and of weights.

    A sum of products becomes a chain of them, each added to the one before; see sums.py.
    """
    seen: dict[Any, fx.Node] = {}
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        if node.target in _ALIASES:
            node.replace_all_uses_with(node.args[0])
            continue
        source = node.args[0] if node.args else None
        if node.target is aten.t.default and isinstance(source, fx.Node) and source.target is aten.t.default:
            node.replace_all_uses_with(source.args[0])
            continue
        key = (node.target, repr(node.args), repr(node.kwargs))
        if key in seen:
            node.replace_all_uses_with(seen[key])
        seen.setdefault(key, node)
        if node.target in _WITH_MASK:
            _split_mask(graph, node)
    chain_products(graph)
    for node in list(graph.nodes):
        if node.target in SPLITS:
            _split_earlier(graph, node)
    graph.eliminate_dead_code()


def _split_earlier(graph: fx.Graph, split: fx.Node) -> None:
    """The split of a sum (product, ..) becomes a sum of splits, so that only slices of products are read."""
    whole: Any = split.args[0]
    if whole.target not in _ELEMENTWISE or len(whole.users) > 1 or whole.kwargs:
        return
    operands = [arg for arg in whole.args if isinstance(arg, fx.Node)]
    if any(arg.meta.get("shape") != whole.meta["shape"] for arg in operands):
        return
    with graph.inserting_before(split):
        splits = {arg: graph.create_node("call_function", split.target, (arg, *split.args[1:])) for arg in operands}
    for part in list(split.users):
        with graph.inserting_before(part):
            given = []
            for arg in whole.args:
                if isinstance(arg, fx.Node):
                    arg = graph.call_function(operator.getitem, (splits[arg], part.args[1]))
                    arg.meta = dict(part.meta)
                given.append(arg)
            earlier = graph.create_node("call_function", whole.target, tuple(given))
            earlier.meta = dict(part.meta)
        part.replace_all_uses_with(earlier)


def _split_mask(graph: fx.Graph, node: fx.Node) -> None:
    """One node for the gradient of the rows, another for those of the weights, which run once over all rows."""
    *rest, mask = node.args
    assert isinstance(mask, (list, tuple))
    getitems = list(node.users)
    parts = {k: [g for g in getitems if (g.args[1] == 0) == (k == 0)] for k in (0, 1)}
    if not parts[0] or not parts[1]:
        return
    for k, wanted in ((0, (True, False, False)), (1, (False, True, True))):
        with graph.inserting_before(getitems[0]):
            both = [m and w for m, w in zip(mask, wanted, strict=True)]
            half = graph.create_node("call_function", node.target, (*rest, both), dict(node.kwargs))
        for getitem in parts[k]:
            getitem.replace_input_with(node, half)
