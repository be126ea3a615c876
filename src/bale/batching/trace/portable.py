"""Portable: how does a trace travel to another process? Its types by name, its constants in as few tensors as can be.

A type is what one call made it: the path of a module (or a torch function), the shapes and numbers it was called with,
the modes. The other process makes that call anew on its own model (see bind.py), and so has the same type.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from bale.batching.cells.call import PER_ROW, Call, Kind, ModeState
from bale.batching.cells.celltype import CellType
from bale.batching.cells.program import Program
from bale.batching.cells.purity import Key
from bale.batching.graph import NodeType, Spec
from bale.batching.trace.model_key import looks, places
from bale.batching.uses import Constants, version_of
from bale.errors import TraceError

GATHERS = ("constant", "identity", "kernel")  # the first part of the keys of types that no call of the user's made


@dataclass(frozen=True)
class Argument:
    """One leaf of a call's arguments: the Spec of a value or constant, the path of a tensor, or what it is itself."""

    kind: Kind
    spec: Spec | None = None
    dtype: torch.dtype | None = None  # of a Python number
    payload: Any = None


@dataclass(frozen=True, eq=False)
class TypeName:
    """A type as another process can make it.

    how       "module", "method", "function", "torch", "program", or "key" for what no call of the user's made
    target    a path, a path and a method's name, a function, a program's operands and steps, or a key
    arguments (args, kwargs) with an Argument for every leaf
    length    how many rows its first call had, where it is ragged; `entries` the constants of that call
    face      what it is to the graph
    key       bytes that are equal for equal types
    """

    name: str
    how: str
    target: Any
    arguments: Any
    state: ModeState | None
    length: int
    entries: tuple[int, ...]
    face: NodeType
    key: bytes


def name_type(cell: CellType, length: int, entries: tuple[int, ...], model: Key) -> TypeName:
    """The name of a type that is called with `length` rows and constants `entries`; `model` is a key of `model_key`.

    Raises TraceError where it has none: a tensor given by keyword, a module that forwards changed.
    """
    paths, tensors = places(model)
    if cell.program is not None:
        how, target = "program", _program(cell, cell.program, paths, tensors)
    else:
        how, target = _target(cell, paths)
    arguments = _arguments(cell, cell.call, tensors) if cell.call is not None and how != "program" else None
    state = cell.call.state if cell.call is not None else None
    try:
        key = pickle.dumps((how, target, arguments, state, cell.ragged))
    except Exception as error:
        raise TraceError(f"{cell.name}: a trace with this call cannot be pickled: {error}") from error
    return TypeName(cell.name, how, target, arguments, state, length, entries, cell.node_type, key)


def _target(cell: CellType, paths: dict[int, str]) -> tuple[str, Any]:
    head: Any = cell.key[0]
    if head in GATHERS:
        return "key", cell.key
    if callable(head):
        return "torch", head
    while not isinstance(head[0], str):  # with what it reads from outside
        head = head[0]
    if head[0] == "function":
        return "function", (head[1].thing.__module__, head[1].thing.__qualname__)
    path = paths.get(id(cell.module))
    if path is None:
        raise TraceError(
            f"{cell.name}: a trace cannot be pickled where a forward calls a module that is not part of the model as "
            "it stands, or that it changes before"
        )
    return ("method", (path, head[1].thing.__name__)) if head[0] == "method" else ("module", path)


def _arguments(cell: CellType, call: Call, tensors: dict[int, str]) -> Any:
    assert cell.operands is not None
    specs, dtypes = iter(cell.operands.specs), iter(cell.number_dtypes)
    leaves = []
    for leaf in call.leaves:
        if leaf.kind in PER_ROW:
            leaves.append(Argument(leaf.kind, next(specs), next(dtypes)))
        elif leaf.kind is Kind.STATIC:
            leaves.append(Argument(leaf.kind, payload=leaf.payload))
        elif id(leaf.payload) in tensors:
            leaves.append(Argument(leaf.kind, payload=tensors[id(leaf.payload)]))
        else:
            raise TraceError(
                f"{cell.name} is given a tensor that is neither the sample's nor the model's (a keyword argument?); "
                "a trace with it cannot be pickled"
            )
    return pytree.tree_unflatten(leaves, call.spec)


def _program(cell: CellType, program: Program, paths: dict[int, str], tensors: dict[int, str]) -> Any:
    """Operands and steps, each step a function or the path of a module, with its arguments."""
    steps = []
    for step in program.steps:
        function: Any = step.function
        if isinstance(function, nn.Module):
            if id(function) not in paths:
                raise TraceError(f"{cell.name} is not part of the model as it stands; its trace cannot be pickled")
            function = paths[id(function)]
        leaves = []
        for leaf in step.leaves:
            shared = leaf[0] == "plain" and isinstance(leaf[1], torch.Tensor)
            if shared and id(leaf[1]) not in tensors:
                raise TraceError(f"{cell.name} is given a tensor that is not the model's; its trace cannot be pickled")
            leaves.append(("shared", tensors[id(leaf[1])]) if shared else leaf)
        steps.append((function, pytree.tree_unflatten(list(map(Place, leaves)), step.spec), step.state))
    return program.operands, tuple(steps), len(program.axis_of)


@dataclass(frozen=True)
class Place:
    """One leaf of the arguments of a program's step: see Step; a tensor of the model by its path."""

    leaf: tuple[Any, ...]


def portable_model(key: Key) -> tuple[Any, ...]:
    """A key of `model_key` without what means nothing elsewhere: which objects they were."""
    content: Any = key.content
    return tuple((path, *filter(None, map(looks, parts))) for path, *parts in content)


# Constants.


@dataclass(frozen=True, eq=False)
class PackedConstants:
    """Whole numbers as numbers, tensors that look alike as one."""

    count: int
    known: dict[torch.dtype, tuple[list[int], list[Any]]]
    stacked: list[tuple[list[int], torch.Tensor]]
    others: list[tuple[int, Any]]

    @classmethod
    def of(cls, constants: Constants) -> PackedConstants:
        known: dict[torch.dtype, tuple[list[int], list[Any]]] = {}
        alike: dict[Any, list[int]] = {}
        others = []
        for k, (entry, value) in enumerate(zip(constants.entries, constants.values, strict=True)):
            if value is not None:
                where, values = known.setdefault(entry.dtype, ([], []))
                where.append(k)
                values.append(value)
            elif type(entry) is torch.Tensor and not entry.requires_grad:
                alike.setdefault((entry.shape, entry.dtype, entry.device), []).append(k)
            else:
                others.append((k, entry))
        stacked = [(where, torch.stack([constants.entries[k] for k in where])) for where in alike.values()]
        return cls(len(constants.entries), known, stacked, others)

    def unpack(self) -> Constants:
        entries: list[Any] = [None] * self.count
        values: list[Any] = [None] * self.count
        for dtype, (where, numbers) in self.known.items():
            for k, number, tensor in zip(where, numbers, torch.tensor(numbers, dtype=dtype), strict=True):
                entries[k], values[k] = tensor, number
        for where, tensors in self.stacked:
            for k, tensor in zip(where, tensors.unbind(), strict=True):
                entries[k] = tensor
        for k, entry in self.others:
            entries[k] = entry
        return Constants.of(entries, [version_of(entry) for entry in entries], values)
