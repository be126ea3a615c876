"""Call: a function or module and the shape of its arguments; given tensors for one row, it runs them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from typing import Any

import torch
from torch.utils import _pytree as pytree


class Kind(Enum):
    """Where the tensor of one argument leaf comes from."""

    VALUE = "value"  # another node
    CONST = "const"  # a tensor of the sample's own
    NUMBER = "number"  # a Python number that is data, not shape
    SHARED = "shared"  # a parameter, or a keyword argument of the outer call: one tensor for all rows
    STATIC = "static"  # anything hashable; part of the type

    __hash__ = object.__hash__  # members are single objects, and part of every key that tracing asks for


PER_ROW = (Kind.VALUE, Kind.CONST, Kind.NUMBER)


@dataclass(frozen=True)
class Leaf:
    """One leaf of the arguments. `payload` is the value itself for SHARED and STATIC."""

    kind: Kind
    payload: Any = None


@dataclass(frozen=True)
class ModeState:
    """Grad and autocast as they were where the call was recorded; a batch runs under the same.

    `default` is the default dtype, which tells what factories and numbers become.
    """

    grad: bool
    default: torch.dtype
    autocast: tuple[tuple[str, torch.dtype], ...] = ()

    @classmethod
    def current(cls, devices: Sequence[str] = ("cpu", "cuda")) -> ModeState:
        enabled = tuple((d, torch.get_autocast_dtype(d)) for d in devices if torch.is_autocast_enabled(d))
        grad, default = torch.is_grad_enabled(), torch.get_default_dtype()
        return cls(grad, default, enabled) if enabled else _plain_state(grad, default)

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            if torch.is_inference_mode_enabled():
                stack.enter_context(torch.no_grad())
            else:
                stack.enter_context(torch.set_grad_enabled(self.grad))
            wanted = dict(self.autocast)
            for device in ("cpu", "cuda"):
                if device in wanted:
                    stack.enter_context(torch.autocast(device, dtype=wanted[device]))
                elif torch.is_autocast_enabled(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            yield


@cache
def _plain_state(grad: bool, default: torch.dtype) -> ModeState:
    return ModeState(grad, default)


@dataclass(frozen=True, eq=False)
class Call:
    """`function(*args, **kwargs)` with its tensor leaves left open.

    Called with one tensor for each VALUE, CONST and NUMBER leaf, in order; returns the flat outputs, tensors or not.
    """

    function: Callable[..., Any]
    spec: Any
    leaves: tuple[Leaf, ...]
    state: ModeState

    def raw(self, *tensors: torch.Tensor) -> Any:
        given = iter(tensors)
        filled = [next(given) if leaf.kind in PER_ROW else leaf.payload for leaf in self.leaves]
        args, kwargs = pytree.tree_unflatten(filled, self.spec)
        return self.function(*args, **kwargs)

    def __call__(self, *tensors: torch.Tensor) -> list[Any]:
        return pytree.tree_leaves(self.raw(*tensors))

    def with_columns_for_shared(self) -> Call:
        """The same call with its SHARED leaves left open too."""
        return replace(
            self, leaves=tuple(replace(f, kind=Kind.CONST) if f.kind is Kind.SHARED else f for f in self.leaves)
        )

    def in_place_of_shared(self, columns: Sequence[torch.Tensor], rows: int) -> list[torch.Tensor]:
        """Columns for `with_columns_for_shared`: each shared tensor expanded to `rows`."""
        given = iter(columns)
        return [
            next(given) if leaf.kind in PER_ROW else leaf.payload.expand(rows, *leaf.payload.shape)
            for leaf in self.leaves
            if leaf.kind is not Kind.STATIC
        ]
