"""What may the forward of a whole model hang on besides its sample? While that stays, so do traces that are kept."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch import nn

from bale.batching.cells.probe import RefusalError
from bale.batching.cells.purity import Key, Same
from bale.batching.trace.containers import attributes
from bale.batching.trace.ref import Ref

# Values of these types never change, so the same object freezes to the same key.
SETTLED = frozenset((int, str, bool, type(None), bytes, complex, float, torch.dtype, torch.device))


def tensor_key(tensor: torch.Tensor | None) -> Hashable:
    if tensor is None:
        return None
    if type(tensor) is Ref:
        raise RefusalError("it holds a lazy value as a parameter or buffer")
    return Same(tensor), tuple(tensor.shape), tensor.dtype, tensor.device, tensor.requires_grad


def model_key(model: nn.Module, before: Key | None) -> Key:
    """What the forward of a whole model may hang on, except the numbers in its tensors: `before` where nothing changed.

    Modules, tensors and objects count by identity, plain attributes by value. What lists, dicts, globals and closures
    hold is not looked at.
    """
    content, seen = [], set()
    pending: list[tuple[str, Any]] = [("", model)]
    while pending:
        path, module = pending.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        own = vars(module)
        held = [(name, *_plainly(value)) for name, value in attributes(module)]
        hooks = [(f"hook {name}", Same(hook)) for name in _HOOKS for hook in own[name].values()]
        tensors = (*module._parameters.items(), *module._buffers.items())
        looks = [(name, None if t is None else tensor_key(t)) for name, t in tensors]
        content.append((path, Same(module), *held, *looks, *hooks))
        pending += [
            (f"{path}.{name}".lstrip("."), child) for name, child in module._modules.items() if child is not None
        ]
        if isinstance(own.get("_inner"), nn.Module):
            pending.append((path, own["_inner"]))
    found = tuple(content)
    return before if before is not None and before.content == found else Key(found)


_HOOKS = ("_backward_hooks", "_backward_pre_hooks", "_forward_hooks", "_forward_pre_hooks")


def _plainly(value: Any) -> tuple[Any, ...]:
    kind = type(value)
    if kind is float:
        return kind, repr(value)
    return (kind, value) if kind in SETTLED else (Same(value),)


def places(key: Key) -> tuple[dict[int, str], dict[int, str]]:
    """The paths of modules and of tensors in a key of `model_key`, by the id of each, the first of several."""
    modules: dict[int, str] = {}
    tensors: dict[int, str] = {}
    content: Any = key.content
    for path, module, *held in content:
        modules.setdefault(id(module.thing), path)
        for name, *rest in held:
            if len(rest) == 1 and isinstance(rest[0], tuple):
                tensors.setdefault(id(rest[0][0].thing), f"{path}.{name}".lstrip("."))
    return modules, tensors


def looks(part: Any) -> Any:
    """What an entry of a module's part in `model_key` says in any process: a name and how that looks, or nothing."""
    if isinstance(part, Same):
        return type(part.thing).__qualname__ if isinstance(part.thing, nn.Module) else None
    name, *rest = part
    if name.startswith("hook "):
        return name
    if len(rest) == 1 and isinstance(rest[0], tuple):  # a tensor
        return name, rest[0][1:]
    return None if any(isinstance(each, Same) for each in rest) else part


def difference(then: Key, now: Key) -> str:
    """The first part of a model in which two keys of `model_key` differ."""
    content: Any = now.content
    known = {part[0]: part for part in content}
    for path, *part in then.content:  # type: ignore[attr-defined]
        title = path or "the model itself"
        if path not in known:
            return f"{title} is gone"
        others = known[path][1:]
        if part[0] != others[0]:
            return f"{title} is another module"
        for one in part[1:]:
            if one not in others:
                return f"{title} has another `{one[0]}`"
    return "something was added"
