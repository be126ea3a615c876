"""Write back: what forwards left in attributes of their shadows goes to the real modules, once the call succeeded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from bale.batching.trace.containers import containers, items, refill
from bale.batching.trace.identity import subtree
from bale.batching.trace.info import ShadowInfo
from bale.batching.trace.ref import Ref


def write_back(shadow: Any, settle: Any) -> None:
    """Carry over to the real modules what the forwards wrote to attributes; `settle` turns Refs into tensors."""
    for container, _ in containers(all_shadows(shadow)):
        if any(type(value) is Ref for value in items(container)):
            settled = (
                {k: settle(v) for k, v in container.items()}
                if type(container) is dict
                else list(map(settle, container))
            )
            refill(container, settled)
    for each in all_shadows(shadow):
        info: ShadowInfo = each.__dict__["_bale_shadow"]
        for name in sorted(info.written):
            if name in each.__dict__ or name in each._parameters or name in each._buffers or name in each._modules:
                setattr(info.real, name, settle(_unshadowed(getattr(each, name))))
            else:
                delattr(info.real, name)


def written_names(shadow: Any) -> list[str]:
    """The attributes that the forwards wrote to."""
    infos = [each.__dict__["_bale_shadow"] for each in all_shadows(shadow)]
    return [f"{info.path}.{name}".lstrip(".") for info in infos for name in sorted(info.written)]


def written_values(shadow: Any) -> list[Any]:
    """What the forwards left in attributes, lazy values among it."""
    shadows = list(all_shadows(shadow))
    written = [
        getattr(each, name)
        for each in shadows
        for name in sorted(each.__dict__["_bale_shadow"].written)
        if hasattr(each, name)
    ]
    return written + [value for container, _ in containers(shadows) for value in items(container) if type(value) is Ref]


def _unshadowed(value: Any) -> Any:
    if isinstance(value, nn.Module) and "_bale_shadow" in value.__dict__:
        return value.__dict__["_bale_shadow"].real
    return value


def all_shadows(shadow: Any) -> Iterator[Any]:
    """The shadows of a whole model, those of batched models inside it included."""
    for each in subtree(shadow.__dict__["_bale_shadow"]):
        yield each
        inner = each.__dict__.get("_inner")
        if inner is not None and "_bale_shadow" in inner.__dict__:
            yield from all_shadows(inner)
