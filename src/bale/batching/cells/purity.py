"""Purity: what does a piece of Python read besides its arguments? A cell runs later than it is called."""

from __future__ import annotations

import dis
import enum
import random
import re
import sysconfig
import types
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bale.batching.cells.probe import RefusalError

_CONSTANTS = (
    int,
    float,
    complex,
    str,
    bytes,
    bool,
    type(None),
    torch.dtype,
    torch.device,
    enum.Enum,
    re.Pattern,
    range,
)
_TRUSTED = tuple(
    str(Path(path).resolve()) for path in {sysconfig.get_paths()[k] for k in ("stdlib", "platstdlib", "purelib")}
)


class Same:
    """Equal only to the same object, which it keeps alive so that its id is not used again."""

    __slots__ = ("thing",)

    def __init__(self, thing: Any):
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.thing is other.thing

    def __hash__(self) -> int:
        return id(self.thing)


class Key:
    """A long key that is hashed once, and equal to itself without a look at its content."""

    __slots__ = ("_hash", "content")

    def __init__(self, content: Hashable):
        self.content, self._hash = content, hash(content)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Key) and self.content == other.content)

    def __hash__(self) -> int:
        return self._hash


def freeze(value: Any, depth: int = 0) -> Hashable:
    """`value` as a key: by content for plain data, by identity (and version, and attributes) for the rest.

    Raises RefusalError for a lazy value, since what it stands for is not known yet, and for a random generator.
    """
    kind = type(value)
    if kind in (int, str, bool, type(None), bytes, complex):
        return kind, value
    if kind is float:
        return kind, repr(value)
    if kind in (tuple, list, set, frozenset):
        items = [freeze(item, depth + 1) for item in value]
        return kind, frozenset(items) if kind in (set, frozenset) else tuple(items)
    if kind is dict:
        return kind, tuple((freeze(k, depth + 1), freeze(v, depth + 1)) for k, v in value.items())
    if kind.__name__ == "Ref" and kind.__module__.startswith("bale."):
        raise RefusalError("it holds a lazy value in an attribute")
    if isinstance(value, _GENERATORS):
        raise RefusalError("it holds a random generator")
    if isinstance(value, torch.Tensor):
        return Same(value), -1 if value.is_inference() else value._version
    if isinstance(value, np.ndarray):
        return Same(value), value.tobytes()
    if isinstance(value, nn.Module):  # one that is not registered: nobody else looks into it
        return Same(value), tuple(_freeze_module(module, depth + 1) for module in value.modules())
    if isinstance(value, types.FunctionType):
        return Same(value), tuple(freeze(content, depth + 1) for content in _contents(value))
    if is_object(value) and depth < 4:
        return Same(value), tuple((key, freeze(held, depth + 1)) for key, held in vars(value).items())
    return Same(value)


def _freeze_module(module: nn.Module, depth: int) -> Hashable:
    own = [(key, value) for key, value in vars(module).items() if not key.startswith("_")]
    tensors = (*module._parameters.values(), *module._buffers.values())
    held = tuple((Same(t), t.requires_grad) for t in tensors if t is not None)
    hooks = tuple(Same(hook) for hook in (*module._backward_hooks.values(), *module._backward_pre_hooks.values()))
    return held, hooks, tuple((key, freeze(value, depth)) for key, value in own)


_GENERATORS = (random.Random, np.random.Generator, np.random.RandomState, torch.Generator)


def is_object(value: Any) -> bool:
    """An instance of a class of the user's own, whose attributes can change."""
    plain = (types.ModuleType, type, nn.Module, torch.Tensor, np.ndarray)
    return hasattr(value, "__dict__") and not isinstance(value, plain) and not isinstance(value, types.FunctionType)


def can_change(value: Any) -> bool:
    """Can its content change while it stays the same object?"""
    return isinstance(value, (list, dict, set, np.ndarray)) or is_object(value)


def _contents(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            content = cell.cell_contents
        except ValueError:  # not filled yet
            continue
        if isinstance(content, _CONSTANTS):
            yield content


@dataclass(frozen=True)
class Reads:
    """The constants and tensors that a function and what it calls read from globals and closures, re-read by `now`."""

    sources: tuple[tuple[Any, str], ...]

    @property
    def names(self) -> str:
        return ", ".join(f"`{name}`" for _, name in self.sources)

    def now(self) -> tuple[Hashable, ...]:
        return tuple(freeze(_look(source, name)) for source, name in self.sources)


def _look(source: Any, name: str) -> Any:
    if isinstance(source, types.FunctionType):
        return getattr(source, name)
    return source.cell_contents if isinstance(source, types.CellType) else source.get(name)


def reads_of(functions: list[Callable[..., Any]], owner: type | None = None) -> Reads:
    """What `functions` read. Methods that they reach through `self` are looked up on `owner`.

    Raises RefusalError where one reads something that can change unseen (a list, a dict, an object) or writes to a
    global or closure.
    """
    sources: dict[tuple[int, str], tuple[Any, str]] = {}
    seen: set[types.CodeType] = set()
    pending = list(functions)
    while pending:
        function = _plain(pending.pop())
        if function is None or function.__code__ in seen or _is_trusted(function.__code__.co_filename):
            continue
        seen.add(function.__code__)
        _read_defaults(function, sources)
        for what, name in _names(function.__code__):
            if what == "attribute":
                method = getattr(owner, name, None) if owner is not None else None
                if isinstance(method, types.FunctionType):
                    pending.append(method)
                continue
            source = _source(function, what, name)
            if source is None:
                continue
            value = _look(source, name)
            if isinstance(value, types.FunctionType):
                pending.append(value)
            elif _is_constant(value) or isinstance(value, torch.Tensor):
                sources[id(source), name] = (source, name)
            elif not _holds_still(value):
                raise RefusalError(f"it reads `{name}`, a {type(value).__name__} that can change between calls")
    return Reads(tuple(sources.values()))


def _read_defaults(function: types.FunctionType, sources: dict[tuple[int, str], tuple[Any, str]]) -> None:
    """Default arguments count as constants that are read; one that can change in place is refused."""
    for name, values in (("__defaults__", function.__defaults__), ("__kwdefaults__", function.__kwdefaults__)):
        given = values.values() if isinstance(values, dict) else values or ()
        for value in given:
            if not (_is_constant(value) or isinstance(value, torch.Tensor) or _holds_still(value) or callable(value)):
                kind = type(value).__name__
                raise RefusalError(f"`{function.__name__}` has a default argument, a {kind}, that can change")
        if values:
            sources[id(function), name] = (function, name)


def _plain(function: Any) -> types.FunctionType | None:
    function = getattr(function, "__func__", function)
    return function if isinstance(function, types.FunctionType) else None


def _source(function: types.FunctionType, what: str, name: str) -> Any:
    if what == "global":
        return function.__globals__ if name in function.__globals__ else None
    free = function.__code__.co_freevars
    if name not in free or name == "__class__" or not function.__closure__:
        return None
    cell = function.__closure__[free.index(name)]
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return None
    return cell


@lru_cache(maxsize=4096)
def _names(code: types.CodeType) -> tuple[tuple[str, str], ...]:
    found = []
    free = set(code.co_freevars)
    for instruction in dis.get_instructions(code):
        name = instruction.argval
        if instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
            raise RefusalError(f"it writes to the global `{name}`")
        if instruction.opname == "STORE_DEREF" and name in free:
            raise RefusalError(f"it writes to `{name}` of an enclosing function")
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            found.append(("global", name))
        elif instruction.opname in ("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF") and name in free:
            found.append(("closure", name))
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and isinstance(name, str):
            found.append(("attribute", name))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            # names of an inner function that are local to this one are no reads from outside
            found += [(what, name) for what, name in _names(constant) if what != "closure" or name in free]
    return tuple(dict.fromkeys(found))


def _is_constant(value: Any) -> bool:
    if isinstance(value, (tuple, frozenset)):
        return all(_is_constant(item) for item in value)
    return isinstance(value, _CONSTANTS)


def _holds_still(value: Any) -> bool:
    """Modules, classes and functions; nn.Modules and tensors, which have their own checks."""
    if isinstance(value, (types.ModuleType, type, types.BuiltinFunctionType, nn.Module, torch.Tensor)):
        return True
    if isinstance(value, (types.MethodType, types.MethodDescriptorType, types.WrapperDescriptorType)):
        return True
    module = getattr(type(value), "__module__", "") or ""
    return module.split(".")[0] in ("torch", "typing", "builtins", "functools") and callable(value)


@lru_cache(maxsize=4096)
def _is_trusted(filename: str) -> bool:
    if filename.startswith("<") and filename != "<stdin>":
        return filename.startswith("<frozen")
    return str(Path(filename).resolve()).startswith((*_TRUSTED, str(Path(torch.__file__).parent)))
