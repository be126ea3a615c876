"""What does the result of a module depend on besides its arguments? Calls that agree in it are of one cell."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

import torch
from torch import nn

from bale.batching.cells.probe import RefusalError
from bale.batching.cells.purity import Same, freeze
from bale.batching.trace.containers import INTERNAL, attributes
from bale.batching.trace.info import ShadowInfo
from bale.batching.trace.ref import Ref


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


def identify(info: ShadowInfo) -> tuple[nn.Module, Hashable]:
    """The module to run later for calls recorded now, and a key for everything it depends on."""
    return (_plain_copy(info.shadow, {}) if info.changed else info.real), fingerprint(info)


def state_of(info: ShadowInfo) -> Iterator[torch.Tensor]:
    for shadow in subtree(info):
        module = live(shadow)
        yield from (t for t in (*module._parameters.values(), *module._buffers.values()) if isinstance(t, torch.Tensor))


def live(shadow: Any) -> nn.Module:
    """The real module where it is opaque (its shadow is empty), else the shadow."""
    info: ShadowInfo = shadow.__dict__["_bale_shadow"]
    return info.real if info.opaque else shadow


def function_attributes(info: ShadowInfo) -> Iterator[Any]:
    for shadow in subtree(info):
        module = live(shadow)
        if module is not info.shadow:
            yield type(shadow.__dict__["_bale_shadow"].real).forward
        yield from (value for _, value in attributes(module) if callable(value))


def fingerprint(info: ShadowInfo) -> Hashable:
    """Everything about a module that its result depends on besides its arguments, except the numbers in its tensors."""
    parts: list[Hashable] = []
    for shadow in subtree(info):
        module, real = live(shadow), shadow.__dict__["_bale_shadow"].real
        parts.append(Same(real))
        parts += [Same(hook) for hook in (*real._backward_hooks.values(), *real._backward_pre_hooks.values())]
        parts += [_tensor_key(t) for t in (*module._parameters.values(), *module._buffers.values())]
        parts += [(key, freeze(value)) for key, value in attributes(module)]
        parts += [(key, freeze(value)) for key, value in _class_constants(type(real))]
    return tuple(parts)


def _tensor_key(tensor: torch.Tensor | None) -> Hashable:
    if tensor is None:
        return None
    if type(tensor) is Ref:
        raise RefusalError("it holds a lazy value as a parameter or buffer")
    return Same(tensor), tuple(tensor.shape), tensor.dtype, tensor.device, tensor.requires_grad


def _class_constants(cls: type) -> Iterator[tuple[str, Any]]:
    for base in cls.__mro__[: cls.__mro__.index(nn.Module)]:
        if base.__module__.startswith("torch."):
            continue
        for key, value in vars(base).items():
            if not key.startswith("__") and isinstance(value, (int, float, str, tuple, list, dict, set)):
                yield key, value


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
