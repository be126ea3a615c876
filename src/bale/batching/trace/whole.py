"""Calls that need all rows of values of unlike lengths: recorded with no type per length, or put off until they can be.

A value whose axes do not differ from call to call, or whose first one alone does, can be recorded. Any other (a
transposed matrix, the scores of every word against every word) is *deferred*: it is remembered what to compute, and
what is called with it becomes one program with it. The first result that can be recorded is.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils import _pytree as pytree

from bale.batching.cells.celltype import CellType
from bale.batching.cells.probe import RefusalError
from bale.batching.cells.program import from_front
from bale.batching.cells.whole import FURTHER, Lengths, Look, differs_in_lengths_only, look, varying_axes, whole_type
from bale.batching.graph import Spec
from bale.batching.trace.deferred import Deferred, Source, Written, deferred_of, source_of, write
from bale.batching.trace.ref import Ref
from bale.batching.trace.tracer import Home, Tracer


@dataclass(frozen=True, eq=False)
class Made:
    """What is known of programs of one key: at which lengths they give what, and the type of what can be recorded.

    places    per result its number among those of the type; -1 where it is deferred, None where it is no tensor
    axes      per result the axis that was moved to the front; 0 where none was
    """

    cell: CellType | None
    first: Look
    varying: tuple[tuple[int, ...], ...]
    places: tuple[int | None, ...]
    axes: tuple[int, ...]
    looks: dict[Lengths, Look | None]


@dataclass(eq=False)
class OneLength:
    """A module of the user's own that has been called at one length, with a type of its own, and no other yet."""

    lengths: Lengths
    many: bool = False


FIXED = object()  # programs of this key have a type per length
SEEDED = object()  # they draw random numbers, and need a seed


def record_whole(trace: Tracer, root: Deferred, options: Any, tried_rows: bool) -> Any:
    """What a call returns, recorded as far as it can be and deferred where not; FIXED where it needs a type per length.

    Raises RefusalError where a module of the user's own had better be gone through in Python.
    """
    written = write(root)
    if not written.lengths:
        return FIXED
    made = _made(trace, root, written, options, tried_rows)
    if made is SEEDED:
        root.seed = _seed(trace)
        written = write(root)
        made = _made(trace, root, written, options, tried_rows)
    if isinstance(made, OneLength):
        made.many = made.many or made.lengths != written.lengths or len(written.order) > 1
        if made.many:
            raise RefusalError("it needs all rows of values that are not equally long")
    if isinstance(made, RefusalError):
        raise made
    if not isinstance(made, Made):
        return FIXED
    found = _look_at(trace, made, written)
    return FIXED if found is None else _results(trace, root, written, made, found)


def _made(trace: Tracer, root: Deferred, written: Written, options: Any, tried_rows: bool) -> Any:
    key = ("whole", written.program.key)
    made = trace.registry.types.get(key)
    if made is None:
        try:
            made = _make(trace, key, root, written, options, tried_rows)
        except _FixedError:
            made = FIXED
        trace.registry.types[key] = made
    return made


def _seed(trace: Tracer) -> Source:
    from bale.batching.trace.nodes import as_ref

    with torch._C.DisableTorchFunction():
        return Source(as_ref(trace, torch.randint(2**62, ())), ())


class _FixedError(Exception):
    """The call needs a type per length."""


def _look_at(trace: Tracer, made: Made, written: Written) -> Look | None:
    """What the program returns at these lengths; None where that differs from others in more than lengths."""
    lengths = written.lengths
    if lengths not in made.looks:
        try:
            found = _quietly(trace, lambda: look(written.program, lengths))
        except Exception:  # the user's own error: the long way tells it in torch's words
            found = None
        if found is not None and (_is_empty(found) or not differs_in_lengths_only(made.first, found, made.varying)):
            found = None
        made.looks[lengths] = found
        if found is not None and made.cell is not None:
            known = {id(t): t for t in (*made.cell.trained, *found.trained)}
            made.cell.trained = tuple(known.values())
    return made.looks[lengths]


def _is_empty(found: Look) -> bool:
    return any(0 in spec.shape for spec in found.specs if spec is not None)


def _quietly(trace: Tracer, run: Callable[[], Any]) -> Any:
    from bale.batching.trace.record import _tried

    with trace.probe(), _tried():
        return run()


def _make(trace: Tracer, key: Hashable, root: Deferred, written: Written, options: Any, tried_rows: bool) -> Any:
    """Look at a program at three lengths, and make a type of what can be recorded. Raises _FixedError."""
    program, lengths = written.program, written.lengths
    further = [tuple([n + more for n in lengths]) for more in FURTHER]
    trace.asked_lengths.clear()
    try:
        with options.lend_state() as state:
            first = _quietly(trace, lambda: look(program, lengths, options.probe_function, state))
        looks = [first, *(_quietly(trace, lambda at=at: look(program, at)) for at in further)]
        asks = {n for at in (lengths, *further) for n in at} <= trace.asked_lengths
        varying = varying_axes(looks)
    except RefusalError as error:
        if options.is_whole:
            raise _FixedError from error
        return error
    except Exception as error:
        raise _FixedError from error
    if any(map(_is_empty, looks)):
        raise _FixedError
    if first.random and root.seed is None:
        return SEEDED
    places = _places(looks, varying)
    axes = tuple([axes[0] if axes else 0 for axes in varying])
    chosen = tuple([(k, axes[k]) for k, place in enumerate(places) if place is not None and place >= 0])
    cell = None
    if chosen:
        varies = tuple([bool(varying[k]) for k, _ in chosen])
        cell = _row_wise(trace, key, root, written, chosen, varies, options, tried_rows)
        if cell is None and not options.is_whole:
            return OneLength(lengths)
        if cell is None:
            align = options.align and len(program.steps) == 1
            trained = tuple([tensor for each in looks for tensor in each.trained])
            made_at = replace(looks[1], trained=trained)  # Python may choose its layers by the length
            cell = _quietly(
                trace, lambda: whole_type(root.name, program, further[0], made_at, chosen, varies, align, asks)
            )
            trace.registry.types["whole type", key] = cell
        cell.program = program
    known: dict[Lengths, Look | None] = dict(zip([lengths, *further], looks, strict=True))
    return Made(cell, first, varying, places, axes, known)


def _places(looks: Sequence[Look], varying: Sequence[tuple[int, ...]]) -> tuple[int | None, ...]:
    """Per result its number among those that can be recorded: at most one axis varies, as in the others of them."""
    places: list[int | None] = []
    sizes: list[tuple[int, ...]] = []
    count = 0
    for number, (spec, axes) in enumerate(zip(looks[0].specs, varying, strict=True)):
        if spec is None:
            places.append(None)
            continue
        view = looks[0].aliases[number] is not None and bool(axes) and axes[0] > 0  # seen from another side: no work
        size = _sizes(looks, number, axes[0]) if axes else ()
        if len(axes) > 1 or view or (axes and sizes and size not in sizes):
            places.append(-1)
            continue
        if axes:
            sizes.append(size)
        places.append(count)
        count += 1
    return tuple(places)


def _sizes(looks: Sequence[Look], number: int, axis: int) -> tuple[int, ...]:
    found = [each.specs[number] for each in looks]
    return tuple([spec.shape[axis] for spec in found if spec is not None])


def _row_wise(
    trace: Tracer, key: Hashable, root: Deferred, written: Written, chosen: tuple[tuple[int, int], ...],
    varies: tuple[bool, ...], options: Any, tried_rows: bool,
) -> CellType | None:  # fmt: skip
    """The type of a program that is proved row by row; None where it is not."""
    from bale.batching.trace.record import make_row_wise

    program = written.program
    tried = tried_rows and not any(axis for _, axis in chosen)
    if not all(varies) or tried or program.reads_axes or len(program.axis_of) != 1:
        return None
    refs = [source.ref for source in written.sources]
    function = program.row_wise(chosen)
    return make_row_wise(trace, ("whole rows", key), root.name, function, program.state, refs, options)


def _results(trace: Tracer, root: Deferred, written: Written, made: Made, found: Look) -> Any:
    recorded = _add(trace, written, made, found) if made.cell is not None else []
    leaves: list[Any] = []
    for number, (place, axis) in enumerate(zip(made.places, made.axes, strict=True)):
        spec = found.specs[number]
        if place is None or spec is None:
            leaves.append(found.plain[number])
            continue
        if place < 0:
            ref = defer(trace, root, number, spec)
        elif axis:
            ref = _seen_from(trace, recorded[place], axis, spec)
        else:
            ref = recorded[place]
        _share(ref, found.aliases[number], written)
        leaves.append(ref)
    trace.latest = None
    return pytree.tree_unflatten(leaves, found.tree)


def _add(trace: Tracer, written: Written, made: Made, found: Look) -> list[Ref]:
    cell = made.cell
    assert cell is not None
    long = [
        spec.shape[axis]
        for spec, axis, place, varying in zip(found.specs, made.axes, made.places, made.varying, strict=True)
        if place is not None and place >= 0 and varying and spec is not None
    ]
    length = long[0] if long else 1
    if long:
        trace.lengths.add(length)
    first = trace.add(cell, [[source.ref.part] for source in written.sources], [], length)
    return [
        trace.ref(first + k, spec, length if spec.ragged else None) for k, spec in enumerate(cell.node_type.outputs)
    ]


def defer(trace: Tracer, root: Deferred, number: int, spec: Spec) -> Ref:
    """A lazy value for a result that is not recorded."""
    home = Home(trace, spec, None)
    home.deferred = root, number
    trace.deferrals += 1
    ref = Ref.of(home, 0)
    root.refs[number] = weakref.ref(ref)
    return ref


def _seen_from(trace: Tracer, ref: Ref, axis: int, spec: Spec) -> Ref:
    """A recorded value whose first axis belongs further back."""
    leaves = (source_of(ref), axis)
    spec_of_call = pytree.tree_structure(((0, 0), {}))
    root = Deferred(
        "from front", "movedim", from_front, None, spec_of_call, trace.state(), leaves, (int(ref.shape[0]),)
    )
    return defer(trace, root, 0, spec)


def _share(ref: Ref, alias: tuple[int, int] | None, written: Written) -> None:
    """Note what the result is a view of, for writes in place."""
    if alias is None:
        return
    kind, number = alias
    if kind == 0:
        source = written.sources[number]
        ref.share_memory_with(source.ref if source.given is None else source.given)
        return
    other = written.order[kind - 1].refs.get(number)
    other = other and other()
    if other is not None and other is not ref:
        ref.share_memory_with(other)


# What stays with a type per length.


def settle(trace: Tracer, ref: Ref) -> Ref:
    """Record a deferred value after all, with a type per length."""
    from bale.batching.trace.record import record_fixed

    while (before := deferred_of(ref)) is not None:
        root, number = before
        written = write(root)
        call = written.program.call(written.lengths, ((number, 0),))
        key = ("settled", written.program.key, written.lengths, number)
        (settled,) = record_fixed(trace, key, root.name, call, [source.ref for source in written.sources])
        memory = ref.memory
        ref.become(settled)
        ref.memory = memory
    return ref


def settle_result(trace: Tracer, ref: Ref) -> None:
    """Record a deferred value that a forward returns: its numbers one after another, with no type per length."""
    from bale.batching.trace.record import Options, record

    shape = ref.shape
    flat = record(trace, torch.flatten, "flatten", torch.flatten, (ref,), {}, Options()) if shape.numel() else None
    if type(flat) is not Ref or flat.length is None or flat.ndim != 1:
        settle(trace, ref)
        return
    home = Home(trace, flat.spec, flat.length)
    home.shape = shape
    ref.part, ref.home = flat.part, home
