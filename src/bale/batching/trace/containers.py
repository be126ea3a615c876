"""Lists, dicts and sets that modules hold in attributes: what is in them, and how they were before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

# what every nn.Module keeps about itself
INTERNAL = frozenset(vars(nn.Module()).keys()) - {"training"} | {"_bale_shadow", "_is_full_backward_hook"}
_CONTAINERS = (list, dict, set)


def attributes(module: nn.Module) -> list[tuple[str, Any]]:
    """What a module holds in attributes of its own. A shadow's children stand there too, but are no attributes."""
    state = vars(module)
    children = module._modules if "_bale_shadow" in state else {}
    return [
        (name, value)
        for name, value in state.items()
        if name not in INTERNAL and not (name in children and isinstance(value, nn.Module) and children[name] is value)
    ]


def containers(shadows: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Every list, dict and set that the shadows hold in attributes, and a copy of its content."""
    found: list[tuple[Any, Any]] = []
    seen: set[int] = set()
    pending = [
        value
        for shadow in shadows
        for name, value in vars(shadow).items()
        if type(value) in _CONTAINERS and name not in INTERNAL and name != "_inner"
    ]
    while pending:
        value = pending.pop()
        if type(value) in _CONTAINERS and id(value) not in seen:
            seen.add(id(value))
            found.append((value, value.copy()))
            pending += value.values() if type(value) is dict else value
    return found


def restore(found: list[tuple[Any, Any]]) -> bool:
    """Put the content of containers back as it was; was any changed?"""
    changed = False
    for container, content in found:
        same = len(container) == len(content) and all(
            a is b for a, b in zip(items(container), items(content), strict=True)
        )
        if not same:
            changed = True
            refill(container, content)
    return changed


def refill(container: Any, content: Any) -> None:
    container.clear()
    container.extend(content) if type(container) is list else container.update(content)


def items(container: Any) -> list[Any]:
    if type(container) is dict:
        return [*container.keys(), *container.values()]
    return list(container) if type(container) is list else sorted(container, key=id)
