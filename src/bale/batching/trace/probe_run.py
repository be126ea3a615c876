"""How is a module's Python run to learn of it, without a trace of that being left?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from bale.batching.cells.probe import RefusalError
from bale.batching.trace.containers import containers, restore
from bale.batching.trace.identity import subtree
from bale.batching.trace.info import ShadowInfo, Watched


@contextlib.contextmanager
def lent_buffers(info: ShadowInfo) -> Iterator[list[torch.Tensor]]:
    """Give the shadows buffers of their own while they are probed, so that nothing real is written."""
    kept = [(shadow, dict(shadow._buffers)) for shadow in subtree(info)]
    copies: dict[int, torch.Tensor] = {}
    try:
        for shadow, buffers in kept:
            for name, buffer in buffers.items():
                if buffer is not None:
                    _lend(shadow, {name: copies.setdefault(id(buffer), buffer.clone())})
        yield list(copies.values())
    finally:
        for shadow, buffers in kept:
            _lend(shadow, buffers)


def _lend(shadow: Any, buffers: dict[str, Any]) -> None:
    if isinstance(shadow._buffers, Watched):
        shadow._buffers.lend(buffers)


class ProbeRun:
    """The module's own Python on its shadow, watched: run on fake tensors, with buffers of its own."""

    def __init__(self, info: ShadowInfo):
        self.info = info

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        info, trace = self.info, self.info.trace
        if info.opaque:
            return info.real(*args, **kwargs)
        shadows = [shadow for shadow in subtree(info) if not shadow.__dict__["_bale_shadow"].opaque]
        trace.iterated = False
        for shadow in shadows:
            shadow.__dict__["_bale_shadow"].calls = 0
        before = containers(shadows)
        try:
            outputs = nn.Module.__call__(info.shadow, *args, **kwargs)
        finally:
            changed = restore(before)
        if changed:
            raise RefusalError("it changes a list, dict or set that it holds")
        if not info.marked:
            self._refuse_structure(shadows)
        return outputs

    def _refuse_structure(self, shadows: list[Any]) -> None:
        if self.info.trace.iterated:
            raise RefusalError("it iterates over an axis of a tensor")
        for shadow in shadows:
            inner: ShadowInfo = shadow.__dict__["_bale_shadow"]
            if inner.calls > 1 and next(inner.real.parameters(), None) is not None:
                raise RefusalError(f"it calls {inner.title} {inner.calls} times")
