"""Record one call: find its type, or make it, and add a node. Cells and torch functions come through here alike."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils import _pytree as pytree

from bale.batching.cells.call import PER_ROW, Call, Kind, Leaf, ModeState
from bale.batching.cells.celltype import CellType, build
from bale.batching.cells.probe import RefusalError
from bale.batching.cells.rungs import PROOF_ROWS, ProofError
from bale.batching.trace import whole
from bale.batching.trace.arguments import (
    Column,
    columns_of,
    flatten,
    full_spec,
    leaves_of,
    spec_of,
)
from bale.batching.trace.deferred import defer_call, deferred_of
from bale.batching.trace.nodes import add_node, lift
from bale.batching.trace.ref import Ref
from bale.batching.trace.tracer import Tracer

FIXED = object()  # a call with ragged operands that is not row-wise: its first axis is part of the type


@dataclass(frozen=True)
class Options:
    """How a new type is made: `align` for elementwise broadcasting, a reason to stay on rung `rows`, and so on."""

    align: bool = True
    number_data: bool = False
    constants_may_be_ragged: bool = False
    only_rows: str = ""
    lend_state: Callable[[], Any] = lambda: nullcontext(())  # buffers that the probe may write to
    module: torch.nn.Module | None = None
    probe_function: Callable[..., Any] | None = None  # what the probe runs instead: the same, watched
    max_shapes: int | None = None
    sized: bool = False  # whole numbers among the arguments may be lengths
    is_whole: bool = True  # no module of the user's own, in which there may be calls that run row by row
    scalar_rows: bool = False  # rows of single numbers are rows, also where only constants are given


def record(
    trace: Tracer,
    head: Hashable,
    name: str,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: Options,
) -> Any:
    """Add the call to the trace; returns its outputs, tensors as Refs.

    Raises RefusalError where the call cannot be a cell, UnknownArgumentError for arguments that no type can hold.
    """
    leaves, form = flatten(args, kwargs)
    spec = spec_of(form) if type(form) is tuple else form
    number_data = len(leaves_of(args, {})) if options.number_data else 0
    columns = columns_of(trace, leaves, number_data)
    if trace.deferrals and any(deferred_of(leaf) is not None for leaf in leaves):
        result = _record_whole(trace, head, name, function, form, spec, columns, options, tried_rows=False)
        if result is not whole.FIXED:
            return result
        for leaf in leaves:
            if deferred_of(leaf) is not None:
                whole.settle(trace, leaf)
        columns = columns_of(trace, leaves, number_data)
    crossed = _crosses_rows(trace, columns, options)
    given, columns = columns, columns if crossed else _beside_values(trace, columns, options)
    state = trace.state()
    for ragged in () if crossed else _as_ragged(columns, options):
        key = (head, form, state, tuple(column.key() for column in ragged))
        cell = trace.registry.types.get(key)
        if cell is None:
            cell = _make(trace, key, name, Call(function, spec, _leaves(ragged), state), ragged, options)
        if cell is not FIXED:
            return _finish(trace, cell, ragged, quick=given is columns)
    if crossed or _is_open(columns, options):
        result = _record_whole(trace, head, name, function, form, spec, columns, options, tried_rows=not crossed)
        if result is not whole.FIXED:
            return result
    key = (head, form, state, tuple(column.key() for column in columns))
    cell = trace.registry.types.get(key)
    if cell is None:
        cell = _make(trace, key, name, Call(function, spec, _leaves(columns), state), columns, options)
    return _finish(trace, cell, columns, quick=given is columns)


def _finish(trace: Tracer, cell: Any, columns: Sequence[Column], quick: bool = True) -> Any:
    """Add a node; `quick`: calls whose arguments look as these did can be recorded without a second look."""
    if isinstance(cell, RefusalError):
        raise cell
    trace.latest = cell if quick else None
    return add_node(trace, cell, columns)


def _crosses_rows(trace: Tracer, columns: Sequence[Column], options: Options) -> bool:
    """Is a length that differs from sample to sample in more places than as a first axis?

    Row by row it would be part of the type: in the shape of a sample's own mask of every word against every word, or as
    a size that is asked for.
    """
    values = [c for c in columns if c.kind is Kind.VALUE]
    if options.sized:
        lengths = {c.length for c in values if c.length is not None} - {1}
        return any(c.kind is Kind.STATIC and type(c.leaf) is int and c.leaf in lengths for c in columns)
    for column in columns:
        if column.kind is Kind.CONST and column.length in trace.lengths and column.length in column.leaf.shape[1:]:
            fixed = [c.leaf.spec.shape for c in values]
            return not any(column.length in shape for shape in fixed)  # a width, by chance
    return False


def _is_open(columns: Sequence[Column], options: Options) -> bool:
    """Has a call operands whose first axis differs from sample to sample?"""
    if options.only_rows:
        return False
    if any(c.kind is Kind.VALUE for c in columns):
        return any(c.kind is Kind.VALUE and c.leaf.length is not None for c in columns)
    return options.constants_may_be_ragged and options.is_whole


def _beside_values(trace: Tracer, columns: list[Column], options: Options) -> list[Column]:
    """The columns of a function; where values stand beside matrices of the sample's own that are as long as a ragged
    value was, and no value is ragged itself, these are, since that is hardly chance. Of a vector it may well be."""
    values = [c for c in columns if c.kind is Kind.VALUE]
    if options.module is not None or not values or any(c.length is not None for c in values):
        return columns
    beside = [c.kind is Kind.CONST and c.leaf.dim() > 1 and c.length in trace.lengths for c in columns]
    if not any(beside):
        return columns
    refs = [lift(trace, c.leaf) if moved else None for c, moved in zip(columns, beside, strict=True)]
    return [c if ref is None else Column(Kind.VALUE, ref, full_spec(ref)) for c, ref in zip(columns, refs, strict=True)]


def _record_whole(
    trace: Tracer, head: Hashable, name: str, function: Callable[..., Any], form: Hashable, spec: Any,
    columns: Sequence[Column], options: Options, tried_rows: bool,
) -> Any:  # fmt: skip
    call = defer_call(trace, head, name, function, form, spec, columns, options.sized)
    return whole.FIXED if call is None else whole.record_whole(trace, call, options, tried_rows)


def make_row_wise(
    trace: Tracer, key: Hashable, name: str, function: Callable[..., Any], state: ModeState, refs: Sequence[Ref],
    options: Options,
) -> CellType | None:  # fmt: skip
    """The type of a function of values, proved row by row; None where it is not."""
    columns = [Column(Kind.VALUE, ref, full_spec(ref)) for ref in refs]
    for ragged in _as_ragged(columns, Options()):
        call = Call(function, pytree.tree_structure(((0,) * len(refs), {})), _leaves(ragged), state)
        made = _make(trace, key, name, call, ragged, Options(align=False, lend_state=options.lend_state))
        return None if made is FIXED else made
    return None


def record_fixed(trace: Tracer, key: Hashable, name: str, call: Call, refs: Sequence[Ref]) -> Any:
    """A call on values, whose type holds all their lengths."""
    columns = [Column(Kind.VALUE, ref, full_spec(ref)) for ref in refs]
    cell = trace.registry.types.get(key)
    if cell is None:
        cell = _make(trace, key, name, call, columns, Options(align=False))
    return _finish(trace, cell, columns)


def _leaves(columns: Sequence[Column]) -> tuple[Leaf, ...]:
    return tuple(Leaf(c.kind, None if c.kind in PER_ROW else c.leaf) for c in columns)


def _as_ragged(columns: Sequence[Column], options: Options) -> Iterator[list[Column]]:
    """The columns with their common first axis left open: in all that are as long, then in values alone."""
    values = [c for c in columns if c.kind is Kind.VALUE]
    lengths = {c.length for c in values if c.length is not None}
    if not lengths and options.constants_may_be_ragged and not values:
        lengths = {c.length for c in columns if c.kind is Kind.CONST and c.length is not None}
    if len(lengths) != 1:
        return
    (length,) = lengths
    if not length:
        return
    yield [c.ragged() if c.kind in PER_ROW and c.length == length else c for c in columns]
    long = {c.kind for c in columns if c.kind in PER_ROW and c.length == length}
    if Kind.VALUE in long and Kind.CONST in long:  # that the constants are as long may be chance
        yield [c.ragged() if c.kind is Kind.VALUE and c.length == length else c for c in columns]


def _make(trace: Tracer, key: Hashable, name: str, call: Call, columns: Sequence[Column], options: Options) -> Any:
    per_row = [c for c in columns if c.kind in PER_ROW]
    specs = [c.spec for c in per_row if c.spec is not None]
    _agree_on_device(trace, name, columns, options)
    ragged = any(spec.ragged for spec in specs)
    lengths = {c.length for c in columns if c.spec is not None and c.spec.ragged}
    trace.asked_lengths.clear()
    watched = replace(call, function=options.probe_function or call.function)
    try:
        if not ragged:
            _count_shapes(trace, key, options)
        with trace.probe(), _tried():
            cell = build(
                name,
                call,
                watched,
                specs,
                [c.length or 1 for c in per_row],
                [_sample_of(c) for c in per_row],
                [c.number_dtype for c in per_row],
                align=options.align,
                only_rows=options.only_rows,
                lend_state=options.lend_state,
                module=options.module,
            )
        if cell.ragged and {*PROOF_ROWS, *lengths} <= trace.asked_lengths:
            raise ProofError("it asks how many rows there are")
        from_constants = not options.scalar_rows and not any(c.kind is Kind.VALUE for c in columns)
        if cell.ragged and from_constants and _is_scalar_rows(cell):
            raise ProofError("its rows would be single numbers")
    except (ProofError, RefusalError) as error:
        if ragged:
            cell = FIXED
        elif isinstance(error, RefusalError):
            cell = error
        else:
            raise
    except Exception:
        # the user's own error, or a ragged reading of it: the fixed type decides
        if not ragged:
            raise
        cell = FIXED
    trace.registry.types[key] = cell
    return cell


@contextmanager
def _tried() -> Iterator[None]:
    """What runs here is not the user's doing: no warning, no random number drawn, nothing saved for a backward."""
    with (
        warnings.catch_warnings(action="ignore"),
        torch.random.fork_rng(devices=[]),
        torch.autograd.graph.saved_tensors_hooks(_as_it_is, _as_it_is),
    ):
        yield


def _as_it_is(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _count_shapes(trace: Tracer, key: Any, options: Options) -> None:
    """A module that is called with ever new shapes handles structure: Python, not a cell."""
    if options.max_shapes is None:
        return
    head, _, state, _ = key
    shapes = trace.registry.shapes[head, state] = trace.registry.shapes.get((head, state), 0) + 1
    if shapes > options.max_shapes:
        raise RefusalError(f"it is called with more than {options.max_shapes} different shapes")


def _is_scalar_rows(cell: CellType) -> bool:
    return any(leaf.tensor is not None and leaf.tensor.shape == () for leaf in cell.outputs)


def _sample_of(column: Column) -> torch.Tensor | None:
    if column.kind is Kind.CONST:
        return column.leaf
    if column.kind is Kind.NUMBER:
        return torch.tensor(column.leaf, dtype=column.number_dtype)
    return None


def _agree_on_device(trace: Tracer, name: str, columns: Sequence[Column], options: Options) -> None:
    devices: dict[torch.device, str] = {}
    for column in columns:
        if column.kind is Kind.SHARED:
            if column.leaf.dim():
                devices.setdefault(column.leaf.device, "a parameter")
        elif column.spec is not None and column.spec.shape:
            devices.setdefault(column.spec.device, "a constant" if column.kind is Kind.CONST else "a computed value")
    if options.module is not None:
        for parameter in options.module.parameters():
            devices.setdefault(parameter.device, f"the parameters of {name}")
    if len(devices) > 1:
        listed = " and ".join(f"{what} on {device}" for device, what in devices.items())
        raise trace.error(f"{name} is called with {listed}; move them to one device with .to()")
