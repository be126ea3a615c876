"""Program: several calls as one, on values whose lengths differ from call to call. Nothing in it names a length."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes

from bale.batching.cells.call import Call, Kind, Leaf, ModeState
from bale.batching.graph import Spec


class Axis(int):
    """A length that differs from call to call, as it is in this one."""


@dataclass(frozen=True)
class Operand:
    """A tensor that a program is given: a value's rows, [rows, *spec.shape], of which `dims` says how they lie.

    `dims` are numbers, and of what differs from call to call the number of the axis in a tuple of its own.
    `stacked`: the rows are as many as the dims say; else there is one.
    """

    spec: Spec
    dims: tuple[int | tuple[int], ...]
    stacked: bool

    def shape(self, lengths: Sequence[int]) -> tuple[int, ...]:
        return tuple([lengths[dim[0]] if isinstance(dim, tuple) else dim for dim in self.dims])

    def full(self, lengths: Sequence[int]) -> Spec:
        """Of one call."""
        return Spec(self.shape(lengths), self.spec.dtype, self.spec.device, self.spec.requires_grad)


@dataclass(frozen=True, eq=False)
class Step:
    """One call of a program. A leaf of its arguments is ("operand", number), ("result", step, number), ("axis", number)
    or ("plain", value). `seed`: the operand that its random numbers begin from, if it draws any."""

    function: Callable[..., Any]
    spec: Any
    leaves: tuple[tuple[Any, ...], ...]
    state: ModeState
    seed: int | None = None


@dataclass(frozen=True, eq=False)
class Program:
    """Steps, each of which reads operands and results of earlier ones; the last one's results are the program's.

    `axis_of` names for every axis an operand whose first axis it is. Programs with equal keys do the same.
    """

    operands: tuple[Operand, ...]
    steps: tuple[Step, ...]
    axis_of: tuple[int, ...]
    key: Hashable

    @property
    def state(self) -> ModeState:
        return self.steps[-1].state

    @property
    def random(self) -> bool:
        return any(step.seed is not None for step in self.steps)

    @cached_property
    def reads_axes(self) -> bool:
        """Is a length among its arguments, or in the shape of an operand but as its first axis?"""
        return any(leaf[0] == "axis" for step in self.steps for leaf in step.leaves) or any(
            isinstance(dim, tuple) for operand in self.operands for dim in operand.dims[1:]
        )

    def run(
        self,
        lengths: Sequence[int],
        tensors: Sequence[torch.Tensor],
        last: Callable[..., Any] | None = None,
        keep: list[list[Any]] | None = None,
    ) -> Any:
        """What the last step returns, for one call of these lengths; `last` is run in place of its function.

        `keep` is filled with the flat results of the steps before.
        """
        results: list[list[Any]] = [] if keep is None else keep
        for step in self.steps:
            filled = []
            for leaf in step.leaves:
                kind = leaf[0]
                if kind == "operand":
                    filled.append(tensors[leaf[1]])
                elif kind == "result":
                    filled.append(results[leaf[1]][leaf[2]])
                else:
                    filled.append(lengths[leaf[1]] if kind == "axis" else leaf[1])
            args, kwargs = pytree.tree_unflatten(filled, step.spec)
            is_last = step is self.steps[-1]
            function = last if is_last and last is not None else step.function
            with ExitStack() as stack:
                if step.state != self.state:
                    stack.enter_context(step.state())
                if step.seed is not None:
                    stack.enter_context(_from_seed(tensors[step.seed]))
                result = function(*args, **kwargs)
            if is_last:
                return result
            results.append(pytree.tree_leaves(result))
        raise AssertionError("a program has steps")

    def call(self, lengths: Sequence[int], chosen: Sequence[tuple[int, int]], leading: int = 0) -> Call:
        """The program as the call of one function at these lengths. It returns the results `chosen`, each with one of
        its axes moved to the front, behind as many `leading` ones as tensors have more than one call's."""
        return self.as_call(lambda *tensors: _choose(self.run(lengths, tensors), chosen, leading))

    def as_call(self, function: Callable[..., Any]) -> Call:
        """A function of one tensor per operand as a call."""
        leaves = tuple([Leaf(Kind.VALUE)] * len(self.operands))
        return Call(function, pytree.tree_structure(((0,) * len(leaves), {})), leaves, self.state)

    def row_wise(self, chosen: Sequence[tuple[int, int]]) -> Callable[..., Any]:
        """The program as a function of rows; only where it `reads_axes` nowhere."""
        return lambda *tensors: _choose(self.run((), tensors), chosen)


@contextmanager
def _from_seed(seed: torch.Tensor) -> Iterator[None]:
    """Random numbers from a seed of the call's own: whoever computes it again gets the same, whatever the schedule."""
    if isinstance(seed, FakeTensor):
        yield
        return
    with torch.random.fork_rng(devices=[]), _disable_current_modes():  # nobody else's numbers are replayed in it
        torch.manual_seed(int(seed))
        yield


def _choose(result: Any, chosen: Sequence[tuple[int, int]], leading: int = 0) -> Any:
    leaves = pytree.tree_leaves(result)
    return tuple([to_front(leaves[number], axis, leading) for number, axis in chosen])


def to_front(tensor: torch.Tensor, axis: int, leading: int = 0) -> torch.Tensor:
    return tensor.movedim(axis + leading, leading) if axis else tensor


def from_front(tensor: torch.Tensor, axis: int) -> torch.Tensor:
    return tensor.movedim(0, axis)
