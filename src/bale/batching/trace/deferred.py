"""Deferred: a call that is not recorded yet, since what it gives has its length elsewhere than in front, or twice.

It is remembered what to compute; with what is called with it, it becomes one program.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import _pytree as pytree

from bale.batching.cells.call import Kind, ModeState
from bale.batching.cells.program import Axis, Operand, Program, Step
from bale.batching.cells.whole import Lengths
from bale.batching.graph import Spec
from bale.batching.trace.ref import Ref
from bale.batching.trace.tracer import Tracer

MAX_STEPS = 32  # of one program: longer ones are recorded with a type per length
MAX_READS = 8  # of one deferred value, each of which computes it again


@dataclass(frozen=True, eq=False)
class Source:
    """A recorded value that a program reads. `dims` are its shape, an Axis where that differs from call to call.

    `given` is what it was called with: the sample's own tensor, or a Ref.
    """

    ref: Ref
    dims: tuple[int, ...]
    given: Any = None


@dataclass(eq=False)
class Deferred:
    """A call that is not recorded yet. Leaves of its arguments: Source, (Deferred, number of its result), Axis, others.

    `rulers` are read for their lengths alone, `seed` where it draws random numbers. `steps` counts it and all that it
    waits for; `refs` are the lazy values that stand for its results.
    """

    head: Hashable
    name: str
    function: Callable[..., Any]
    form: Hashable
    spec: Any
    state: ModeState
    leaves: tuple[Any, ...]
    lengths: tuple[int, ...]
    rulers: tuple[Source, ...] = ()
    seed: Source | None = None
    steps: int = 1
    reads: int = 0
    refs: dict[int, Any] = field(default_factory=dict)


def deferred_of(leaf: Any) -> tuple[Deferred, int] | None:
    """What a lazy value waits for, and which of its results it is; None of a recorded value."""
    return leaf.home.deferred if type(leaf) is Ref else None


def deferred_in(tree: Any) -> Iterator[Ref]:
    """The deferred values among the leaves of a tree."""
    for leaf in pytree.tree_leaves(tree):
        if type(leaf) is Ref and leaf.home.deferred is not None:
            yield leaf


def defer_call(
    trace: Tracer, head: Hashable, name: str, function: Callable[..., Any], form: Hashable, spec: Any,
    columns: Sequence[Any], sized: bool,
) -> Deferred | None:  # fmt: skip
    """A call of a function as a program of one more step. `columns` are its leaves (see record.py); `sized`: whole
    numbers among them may be lengths. None where no length is open, or it would be too long."""
    lengths: dict[int, None] = {}
    waiting = {}
    for column in columns:
        if column.kind is Kind.VALUE:
            before = deferred_of(column.leaf)
            if before is not None:
                waiting[before[0]] = None
                lengths |= dict.fromkeys(before[0].lengths)
            elif column.leaf.length is not None:
                lengths[column.leaf.length] = None
    if not lengths:
        beside = any(column.kind is Kind.VALUE for column in columns)
        own = [c.leaf.shape[0] for c in columns if c.kind is Kind.CONST and c.leaf.dim() > 1]
        lengths = dict.fromkeys(n for n in own if n in trace.lengths or not beside)
    lengths.pop(0, None)
    if not lengths or any(each.reads >= MAX_READS for each in waiting):
        return None
    steps = 1 + sum(each.steps for each in waiting)
    if steps > MAX_STEPS:
        return None
    given = _Given(trace, lengths, sized)
    leaves = tuple([given.leaf(column) for column in columns])
    for each in waiting:
        each.reads += 1
    measured = {n for each in waiting for n in each.lengths}
    measured |= {int(leaf.dims[0]) for leaf in leaves if isinstance(leaf, Source) and _measures(leaf)}
    rulers = tuple([_ruler(trace, n) for n in lengths if n not in measured])
    return Deferred(head, name, function, form, spec, trace.state(), leaves, tuple(lengths), rulers, steps=steps)


def _measures(source: Source) -> bool:
    """Are its rows as many as its first axis is long?"""
    return source.ref.length is not None and len(source.dims) == 1 + len(source.ref.spec.shape)


def _ruler(trace: Tracer, length: int) -> Source:
    """Something of this length, for programs whose operands only have it more than once."""
    from bale.batching.trace.nodes import lift

    with torch._C.DisableTorchFunction():
        known = trace.rulers.get(length)
        if known is None:
            known = trace.rulers[length] = torch.zeros(length, dtype=torch.bool)
    return Source(lift(trace, known), (Axis(length),), known)


class _Given:
    """Turns the leaves of a call's arguments into those of a Deferred."""

    def __init__(self, trace: Tracer, lengths: dict[int, None], sized: bool):
        self.trace, self.lengths = trace, lengths
        self.sizes = set(lengths) if sized else set()

    def leaf(self, column: Any) -> Any:
        leaf = column.leaf
        if column.kind is Kind.VALUE:
            before = deferred_of(leaf)
            return before if before is not None else source_of(leaf)
        if column.kind is Kind.NUMBER:
            if type(leaf) is int and leaf > 1 and leaf in self.lengths:
                return Axis(leaf)
            return self._constant(torch.tensor(leaf, dtype=column.number_dtype, device=column.spec.device))
        if column.kind is Kind.CONST:
            return self._constant(leaf)
        if type(leaf) is int and leaf in self.sizes:
            if leaf == 1:  # that others are as long is chance
                self.sizes.discard(1)
            return Axis(leaf)
        return leaf

    def _constant(self, tensor: torch.Tensor) -> Source:
        from bale.batching.trace.nodes import as_ref, lift

        with torch._C.DisableTorchFunction():
            dims = tuple([Axis(n) if n in self.lengths else n for n in tensor.shape])
            long = [isinstance(n, Axis) for n in dims]
            if not tensor.numel() or not any(long):
                return Source(as_ref(self.trace, tensor), tuple(tensor.shape), tensor)
            if long[0] and not any(long[1:]):
                return Source(lift(self.trace, tensor), dims, tensor)
            flat = tensor.reshape(-1)
        return Source(lift(self.trace, flat), dims, tensor)


def source_of(ref: Ref) -> Source:
    spec = ref.spec
    now = Ref.of(ref.home, ref.part)  # `ref` itself may be written in place before the program is recorded
    return Source(now, spec.shape if ref.length is None else (Axis(ref.length), *spec.shape), ref)


# From what is deferred to a program.


@dataclass(frozen=True, eq=False)
class Written:
    """A program for a Deferred and all that it waits for, the sources of its operands, and the lengths of its axes.

    `order` are the calls, step by step.
    """

    program: Program
    sources: tuple[Source, ...]
    lengths: Lengths
    order: tuple[Deferred, ...]


def write(root: Deferred) -> Written:
    order: list[Deferred] = []
    _in_order(root, set(), order)
    number = {each: k for k, each in enumerate(order)}
    sources: dict[tuple[Ref, tuple[Any, ...]], Source] = {}
    for each in order:
        for leaf in (*each.leaves, *each.rulers, each.seed):
            if isinstance(leaf, Source):
                sources.setdefault(_place(leaf), leaf)
    place = {key: k for k, key in enumerate(sources)}
    axis_of: dict[int, int] = {}
    for k, source in enumerate(sources.values()):
        if _measures(source):
            axis_of.setdefault(int(source.dims[0]), k)
    axes = {length: k for k, length in enumerate(axis_of)}
    operands = tuple([_operand(source, axes) for source in sources.values()])
    steps, keys = [], []
    for each in order:
        leaves, key = [], []
        for leaf in each.leaves:
            written, its_key = _written_leaf(leaf, place, number, axes)
            leaves.append(written)
            key.append(its_key)
        seed = None if each.seed is None else place[_place(each.seed)]
        steps.append(Step(each.function, each.spec, tuple(leaves), each.state, seed))
        keys.append((each.head, each.form, each.state, tuple(key), seed))
    program = Program(operands, tuple(steps), tuple(axis_of.values()), (operands, tuple(keys)))
    return Written(program, tuple(sources.values()), tuple(axis_of), tuple(order))


def _in_order(each: Deferred, seen: set[int], order: list[Deferred]) -> None:
    if id(each) in seen:
        return
    seen.add(id(each))
    for leaf in each.leaves:
        if type(leaf) is tuple and leaf and isinstance(leaf[0], Deferred):
            _in_order(leaf[0], seen, order)
    order.append(each)


def _place(source: Source) -> tuple[Any, ...]:
    return source.ref.part, source.ref.home, source.dims, tuple(map(type, source.dims))


def _operand(source: Source, axes: dict[int, int]) -> Operand:
    spec = source.ref.spec
    row = Spec(spec.shape, spec.dtype, spec.device, spec.requires_grad)
    dims = tuple([(axes[n],) if isinstance(n, Axis) and n in axes else int(n) for n in source.dims])
    return Operand(row, dims, source.ref.length is not None)


def _written_leaf(leaf: Any, place: Any, number: Any, axes: dict[int, int]) -> tuple[tuple[Any, ...], Hashable]:
    if isinstance(leaf, Source):
        found = "operand", place[_place(leaf)]
        return found, found
    if type(leaf) is tuple and leaf and isinstance(leaf[0], Deferred):
        found = "result", number[leaf[0]], leaf[1]
        return found, found
    if isinstance(leaf, Axis) and leaf in axes:
        found = "axis", axes[leaf]
        return found, found
    leaf = int(leaf) if isinstance(leaf, Axis) else leaf
    if isinstance(leaf, torch.Tensor):
        return ("plain", leaf), ("shared", id(leaf))
    # 1, 1.0 and True are equal but not the same argument; nor are 0.0 and -0.0
    return ("plain", leaf), ("plain", type(leaf), repr(leaf) if isinstance(leaf, (float, slice)) else leaf)
