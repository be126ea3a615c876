"""Hooks: does a cell have a backward of its own, in Python, that a graph of tensor operations would not show?"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.autograd.function import BackwardCFunction
from torch.overrides import TorchFunctionMode

from bale.batching.cells.draws import Replay


def unseen() -> contextlib.AbstractContextManager[object]:
    """What is tried, or run in parts, is none of the user's business: no hooks of the user's own see what it saves."""
    if torch._C._autograd._top_saved_tensors_default_hooks(True) is None:  # pyright: ignore[reportAttributeAccessIssue]
        return contextlib.nullcontext()
    return torch.autograd.graph.saved_tensors_hooks(_as_it_is, _as_it_is)


def _as_it_is(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


REENTRANT = "it checkpoints with use_reentrant=True, which torch allows inside a plain backward() only"


@contextlib.contextmanager
def without_hooks(tensors: Iterable[torch.Tensor]) -> Iterator[None]:
    """What is differentiated here is a part of a gradient, or a trial: hooks of weights are for the whole."""
    held = [(hooks, dict(hooks)) for t in tensors if (hooks := t._backward_hooks)]
    try:
        for hooks, _ in held:
            hooks.clear()
        yield
    finally:
        for hooks, content in held:
            hooks.update(content)


def own_backward(
    module: nn.Module | None,
    row: Callable[..., Sequence[torch.Tensor]],
    state: Any,
    operands: Sequence[torch.Tensor],
    numbers: Sequence[torch.Tensor],
) -> str:
    """Run one row of a cell and look for hooks, and for nodes made in Python, in what autograd recorded.

    Returns what was found, or nothing. A row that fails may have anything.
    """
    if module is not None and any(m._backward_hooks or m._backward_pre_hooks for m in module.modules()):
        return "it has backward hooks"
    watch = _HookWatch()
    try:
        with warnings.catch_warnings(action="ignore"), unseen(), state(), watch, Replay(numbers):
            outputs = row(*operands)
    except Exception as error:
        return f"a row of it fails on random numbers ({type(error).__name__})"
    if watch.registered:
        return "it registers hooks on tensors"
    own = [str(node.name()) for node in _nodes(outputs) if isinstance(node, BackwardCFunction)]  # pyright: ignore[reportAttributeAccessIssue]
    if "CheckpointFunctionBackward" in own:
        return REENTRANT
    return "it has an autograd function of its own" if own else ""


class _HookWatch(TorchFunctionMode):
    """Notes whether a hook is registered on a tensor."""

    registered = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.registered |= func is torch.Tensor.register_hook
        return func(*args, **(kwargs or {}))


def _nodes(outputs: Iterable[torch.Tensor]) -> Iterator[Any]:
    """The nodes of autograd's graph below `outputs`."""
    seen: set[Any] = set()
    pending = [out.grad_fn for out in outputs]
    while pending:
        node = pending.pop()
        if node is not None and node not in seen:
            seen.add(node)
            pending += [below for below, _ in node.next_functions]
            yield node
