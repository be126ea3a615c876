"""What does the result of a module depend on besides its arguments? Calls that agree in it are of one cell."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from operator import is_
from types import FunctionType
from typing import Any

import torch
from torch import nn

from bale.batching.cells.purity import Key, Same, freeze
from bale.batching.trace.containers import INTERNAL, attributes
from bale.batching.trace.info import ShadowInfo
from bale.batching.trace.model_key import SETTLED, tensor_key


def subtree(info: ShadowInfo) -> Iterator[Any]:
    """The shadows of a module and of all that it holds, each once."""
    seen: set[int] = set()
    pending = [info.shadow]
    while pending:
        shadow = pending.pop()
        if id(shadow) in seen:
            continue
        seen.add(id(shadow))
        yield shadow
        pending += [child for child in shadow._modules.values() if child is not None]


@dataclass(frozen=True, slots=True)
class Member:
    """A module of a cell: itself where it is opaque (its shadow is empty), else its shadow."""

    module: nn.Module
    info: ShadowInfo
    own: list[tuple[str, Any]]  # its attributes

    @property
    def tensors(self) -> tuple[torch.Tensor | None, ...]:
        return *self.module._parameters.values(), *self.module._buffers.values()


def members(info: ShadowInfo) -> list[Member]:
    """A module and all that it holds."""
    found = []
    for shadow in subtree(info):
        inner: ShadowInfo = shadow.__dict__["_bale_shadow"]
        module = inner.real if inner.opaque else shadow
        found.append(Member(module, inner, attributes(module)))
    return found


def parameters_of(model: nn.Module) -> list[torch.Tensor]:
    """The parameters of a module and of all inside it; a shared one as often as it is found."""
    found: list[torch.Tensor] = []
    seen: set[int] = set()
    pending: list[nn.Module | None] = [model]
    while pending:
        module = pending.pop()
        if module is not None and id(module) not in seen:
            seen.add(id(module))
            found += [parameter for parameter in module._parameters.values() if parameter is not None]
            pending += module._modules.values()
    return found


def identify(info: ShadowInfo, inside: Sequence[Member]) -> tuple[nn.Module, Key]:
    """The module to run later for calls recorded now, and a key for everything it depends on."""
    return (_plain_copy(info.shadow, {}) if info.changed else info.real), fingerprint(info, inside)


def state_of(inside: Sequence[Member]) -> tuple[torch.Tensor, ...]:
    return tuple(t for member in inside for t in member.tensors if isinstance(t, torch.Tensor))


def function_attributes(info: ShadowInfo, inside: Sequence[Member]) -> Iterator[Any]:
    for member in inside:
        if member.module is not info.shadow:
            yield type(member.info.real).forward
        yield from (value for _, value in member.own if callable(value))


def fingerprint(info: ShadowInfo, inside: Sequence[Member]) -> Key:
    """Everything about a module that its result depends on besides its arguments, except the numbers in its tensors.

    What the calls before found is used again as far as it is still true, so that equal keys are mostly one object.
    """
    known: dict[int, Any] = info.trace.registry.known
    content = tuple([_part(known, member) for member in inside])
    key = info.trace.registry.keys.get(id(info.real))
    if key is None or key.content != content:
        key = info.trace.registry.keys[id(info.real)] = Key(content)
    return key


@dataclass(frozen=True, slots=True)
class Known:
    """A module's part in a fingerprint, and what that was made of: objects, and how its tensors look."""

    real: nn.Module
    made_of: list[Any]
    looks: list[Any]
    part: tuple[Hashable, ...]


def _part(known: dict[int, Known], member: Member) -> Hashable:
    """One module's part in a fingerprint."""
    real = member.info.real
    held = [*member.own, *_class_constants(type(real))]
    settled = [entry for entry in held if type(entry[1]) in SETTLED]
    hooks = [*real._backward_hooks.values(), *real._backward_pre_hooks.values()]
    tensors = member.tensors
    module = member.module
    names = *module._parameters.keys(), *module._buffers.keys(), *module._modules.keys()
    made_of = [*names, *chain.from_iterable(settled), *tensors, *hooks]
    before = known.get(id(real))
    same = before is not None and len(before.made_of) == len(made_of) and all(map(is_, before.made_of, made_of))
    looks = None if before is None or not same else [_look(tensor) for tensor in tensors]
    if before is None or before.looks != looks:
        part = (Same(real), names, *map(Same, hooks), *map(tensor_key, tensors), *((k, freeze(v)) for k, v in settled))
        before = known[id(real)] = Known(real, made_of, [_look(tensor) for tensor in tensors], part)
    if len(settled) == len(held):
        return before.part
    return before.part, tuple([(k, freeze(v)) for k, v in held if type(v) not in SETTLED])


def _look(tensor: torch.Tensor | None) -> Any:
    return None if tensor is None else (tensor.shape, tensor.dtype, tensor.device, tensor.requires_grad)


def _class_constants(cls: type) -> Iterator[tuple[str, Any]]:
    for base in _own_bases(cls.__mro__):
        for key, value in vars(base).items():
            if type(value) not in _NO_CONSTANTS and not key.startswith("__") and isinstance(value, _CONSTANTS):
                yield key, value


_CONSTANTS = (int, float, str, tuple, list, dict, set)
_NO_CONSTANTS = frozenset((FunctionType, property, staticmethod, classmethod))  # most of what a class holds


@lru_cache(maxsize=1024)
def _own_bases(mro: tuple[type, ...]) -> tuple[type, ...]:
    """The classes of a module that are not torch's."""
    return tuple(base for base in mro[: mro.index(nn.Module)] if not base.__module__.startswith("torch."))


def _plain_copy(shadow: Any, made: dict[int, Any]) -> Any:
    """A module of the real class in the state that the shadow is in now: the cell as it was when it was called."""
    if id(shadow) in made:
        return made[id(shadow)]
    info: ShadowInfo = shadow.__dict__["_bale_shadow"]
    if info.opaque:
        return info.real
    copy = made[id(shadow)] = object.__new__(type(info.real))
    copy.__dict__.update({k: v for k, v in shadow.__dict__.items() if k in INTERNAL and k != "_bale_shadow"})
    copy.__dict__.update(attributes(shadow))
    copy.__dict__["_parameters"] = dict(shadow._parameters)
    copy.__dict__["_buffers"] = dict(shadow._buffers)
    copy.__dict__["_modules"] = {
        name: None if child is None else _plain_copy(child, made) for name, child in shadow._modules.items()
    }
    return copy
