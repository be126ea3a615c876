"""Bind: a trace that comes from another process finds its types in this one, by making each type's first call anew."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import reduce
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from bale.batching.cells.call import Kind
from bale.batching.cells.celltype import CellType
from bale.batching.cells.segment import REDUCTIONS, constant_type, identity_type, kernel_type
from bale.batching.engine import Settings
from bale.batching.graph import Mode
from bale.batching.trace.arguments import Index
from bale.batching.trace.functions import record_function
from bale.batching.trace.identity import parameters_of
from bale.batching.trace.mode import TraceMode
from bale.batching.trace.portable import Argument, Place, TypeName, portable_model
from bale.batching.trace.ref import Ref
from bale.batching.trace.shadow import make_shadow
from bale.batching.trace.trace import Origin, Piece, Trace
from bale.batching.trace.tracer import Registry, Tracer
from bale.errors import TraceError


def bind(trace: Trace, model: nn.Module, settings: Settings, registry: Registry, now: Origin) -> Trace:
    """The trace with the types of this process; itself where it was made here. `now`: what a forward would see.

    Raises TraceError where the model is not as it was there, or a call cannot be made again.
    """
    if all(piece.names is None for piece in trace.pieces):
        return trace
    return Trace(tuple(_bind(piece, model, settings, registry, now) for piece in trace.pieces))


def _bind(piece: Piece, model: nn.Module, settings: Settings, registry: Registry, now: Origin) -> Piece:
    if piece.names is None:
        return piece
    if piece.model != portable_model(now.model):
        raise TraceError(f"the model is not as it was where the trace was made: {_difference(piece.model, now)}")
    known = registry.bound.setdefault(now.model, {})
    missing = [name for name in piece.names if name.key not in known]
    if missing:
        _make(missing, piece, model, settings, registry, known)
    state = piece.state
    assert state is not None
    origin = Origin(now.model, state, now.kwargs)
    return replace(piece, origin=origin, cells=tuple(known[name.key] for name in piece.names), names=None)


def _difference(then: Any, now: Origin) -> str:
    here = {path: part for path, *part in portable_model(now.model)}
    for path, *part in then:
        other = here.get(path)
        if other is None:
            return f"it has no {path or 'root'} here"
        for one in part:
            if one not in other:
                return f"`{one[0] if isinstance(one, tuple) else one}` of {path or 'the model itself'} differs"
    return "it has more here"


def _make(
    names: list[TypeName], piece: Piece, model: nn.Module, settings: Settings, registry: Registry,
    known: dict[bytes, CellType],
) -> None:  # fmt: skip
    tensors = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
    for name in names:
        if name.how == "key":
            known[name.key] = _of_key(registry, name.target)
            continue
        tracer = Tracer(registry, parameters_of(model))  # of its own: its latest type is the one that is made
        shadow = make_shadow(model, tracer, settings.cells)
        with tracer, TraceMode(tracer):
            tracer.sample = 0
            if name.how == "program":
                _call_program(name, tracer, shadow, tensors)
            else:
                _call(name, piece, tracer, shadow, tensors)
            made = list(tracer.formats)[-1] if tracer.formats else None
        if made is None or replace(made.node_type, name="") != replace(name.face, name=""):
            raise TraceError(f"{name.name}: a call that a trace was made with elsewhere is not recorded so here")
        known[name.key] = made


def _of_key(registry: Registry, key: tuple[Any, ...]) -> CellType:
    if key not in registry.types:
        kind, *rest = key
        if kind == "constant":
            made = constant_type(*rest)
        elif kind == "identity":
            made = identity_type(rest[0], REDUCTIONS.get(rest[0], Mode.STACK), *rest[1:])
        else:
            made = kernel_type(*rest)
        registry.types[key] = made
    return registry.types[key]


def _call_program(name: TypeName, tracer: Tracer, shadow: Any, tensors: dict[str, torch.Tensor]) -> None:
    """Make the calls of a program, one after another."""
    operands, steps, axes = name.target
    lengths = range(3, 3 + axes)  # any do
    refs = []
    for operand in operands:
        spec = operand.spec
        if operand.dims[operand.stacked :] != spec.shape or (operand.stacked and type(operand.dims[0]) is not tuple):
            raise TraceError(f"{name.name}: a call that a trace was made with elsewhere cannot be made again")
        row = replace(spec, ragged=operand.stacked)
        length = lengths[operand.dims[0][0]] if operand.stacked else None
        refs.append(Ref.of(tracer.home(row, length), len(refs)))  # values of their own
    results: list[list[Any]] = []

    def given(place: Place) -> Any:
        kind, *at = place.leaf
        if kind == "operand":
            return refs[at[0]]
        if kind == "result":
            return results[at[0]][at[1]]
        if kind == "axis":
            return lengths[at[0]]
        return tensors[at[0]] if kind == "shared" else at[0]

    for function, arguments, state in steps:
        args, kwargs = pytree.tree_map_only(Place, given, arguments)
        with state():
            if isinstance(function, str):
                found = shadow.get_submodule(function)(*args, **kwargs)
            else:
                found = record_function(tracer, function, getattr(function, "__name__", name.name), args, kwargs)
        results.append(pytree.tree_leaves(found))


def _call(name: TypeName, piece: Piece, tracer: Tracer, shadow: Any, tensors: dict[str, torch.Tensor]) -> None:
    entries = iter([piece.constants.entries[entry] for entry in name.entries])

    def given(argument: Argument) -> Any:
        spec = argument.spec
        if argument.kind is Kind.VALUE:
            assert spec is not None
            return Ref.of(tracer.home(spec, name.length if spec.ragged else None), 0)
        if argument.kind is Kind.SHARED:
            return tensors[argument.payload]
        if argument.kind is Kind.STATIC:
            return argument.payload
        entry = next(entries)
        return Index(entry) if argument.kind is Kind.NUMBER and argument.dtype is torch.int64 else entry

    args, kwargs = pytree.tree_map_only(Argument, given, name.arguments)
    assert name.state is not None
    with name.state():
        if name.how == "torch":
            record_function(tracer, name.target, name.name, args, kwargs)
        else:
            _target(name, shadow)(*args, **kwargs)


def _target(name: TypeName, shadow: Any) -> Any:
    if name.how == "module":
        return shadow.get_submodule(name.target)
    if name.how == "method":
        path, method = name.target
        return getattr(shadow.get_submodule(path), method)
    module, qualname = name.target
    __import__(module)
    return reduce(getattr, qualname.split("."), sys.modules[module])
