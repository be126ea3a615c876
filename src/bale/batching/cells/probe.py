"""Probe: run a call once on fake tensors, to learn its outputs' shapes and whether it may be a cell at all."""

from __future__ import annotations

import contextlib
import logging
import random
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from bale.batching.cells.call import Call
from bale.batching.cells.draws import Draw, draw_of, is_random
from bale.batching.graph import Spec


class RefusalError(Exception):
    """Why a call cannot be a cell. Never reaches the user as it is: the call goes down the ladder."""


class ValueReadInCellError(RefusalError):
    """The call reads values in Python, so only Python can run it."""


@dataclass(frozen=True)
class OutputLeaf:
    """One leaf of the outputs: a tensor, or a plain value that is the same for every node."""

    tensor: Spec | None
    plain: Any = None
    same_as: int | None = None  # the operand that is returned as it is
    view_of: int | None = None  # the operand whose memory it shares
    twin: int | None = None  # the leaf before it that is the same tensor
    beside: int | None = None  # a leaf before it that may overlap it in memory, which is no operand's


@dataclass(frozen=True)
class ProbeResult:
    spec: Any
    outputs: tuple[OutputLeaf, ...]
    draws: tuple[Draw, ...]
    trained: tuple[torch.Tensor, ...]  # real tensors that it reads and that require grad
    liftable: bool  # every random op can be drawn beforehand
    stateful: bool  # it writes to its own buffers, so its calls must run in trace order
    asserts: bool  # it holds an assertion on values


_ASSERTIONS = (torch.ops.aten._assert_async.default, torch.ops.aten._assert_async.msg)


class _Watch(TorchDispatchMode):
    """Notes every op, the random ones and what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.ops: list[str] = []
        self.draws: list[Draw | None] = []
        self.written: set[int] = set()  # storages
        self.trained: dict[int, torch.Tensor] = {}
        self.asserts = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace != "prim":
            self.ops.append(str((func, [a for a in args if isinstance(a, (int, float, bool, str))])))
        for leaf in pytree.tree_leaves((args, kwargs)):
            if isinstance(leaf, torch.Tensor) and not isinstance(leaf, FakeTensor) and leaf.requires_grad:
                self.trained[id(leaf)] = leaf
        self.asserts = self.asserts or func in _ASSERTIONS
        if is_random(func):
            self.draws.append(draw_of(func, args, kwargs))
        if func._schema.is_mutable:
            for argument, given in zip(func._schema.arguments, args, strict=False):
                if argument.alias_info is not None and argument.alias_info.is_write:
                    self.written |= {_storage(t) for t in pytree.tree_leaves(given) if isinstance(t, torch.Tensor)}
        if func is torch.ops.aten.native_batch_norm.default and args[5]:  # its schema hides what it writes
            self.written |= {_storage(t) for t in args[3:5] if isinstance(t, torch.Tensor)}
        return func(*args, **kwargs)


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def probe(call: Call, operands: Sequence[Spec], state: Sequence[torch.Tensor] = ()) -> ProbeResult:
    """Run `call` twice on fake tensors of the specs `operands`; `state` are the buffers that it may write to.

    Raises RefusalError: it reads values, draws from Python's or numpy's generator, writes to its inputs, or does not
    do the same twice. An exception of the user's own code passes through as it is.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        first, result = _run(call, operands, state)
        if random.getstate() != python_state:
            raise RefusalError("it draws from Python's random module")
        if any(not np.array_equal(a, b) for a, b in zip(np.random.get_state(), numpy_state, strict=True)):  # type: ignore[arg-type]  # noqa: NPY002
            raise RefusalError("it draws from numpy's global generator")
        second, _ = _run(call, operands, state)
        if first != second:
            raise RefusalError("its second run differs from its first")
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
    return result


def _run(call: Call, operands: Sequence[Spec], state: Sequence[torch.Tensor]) -> tuple[list[str], ProbeResult]:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with call.state(), _quiet(), mode:
        fakes = [_fake(operand) for operand in operands]
        before = {_storage(fake): k for k, fake in enumerate(fakes)}
        try:
            with _Watch() as watch:
                flat, spec = pytree.tree_flatten(call.raw(*fakes))
        except DataDependentOutputException as error:
            raise ValueReadInCellError(
                "it reads a value in Python (an `if`, `int()` or `.item()` on a tensor)"
            ) from error
        except DynamicOutputShapeException as error:
            raise ValueReadInCellError("the shape of its result depends on values") from error
        except UnsupportedOperatorException as error:
            raise RefusalError(f"it calls an operator of unknown shape ({error})") from error
        if watch.written & before.keys():
            raise RefusalError("it writes into its input")
        outputs = _describe_all(flat, fakes, before)
    draws = tuple(draw for draw in watch.draws if draw is not None)
    stateful = bool(watch.written & {_storage(tensor) for tensor in state})
    trained = tuple(watch.trained.values())
    liftable = len(draws) == len(watch.draws)
    return watch.ops, ProbeResult(spec, outputs, draws, trained, liftable, stateful, watch.asserts)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave no trace of fake tensors: what they log about a failing call is told in an error of ours, or was
    expected, and autocast must not remember fake casts of real weights."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    cached = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
            yield
    finally:
        logger.disabled = before
        torch.set_autocast_cache_enabled(cached)


def _fake(operand: Spec) -> torch.Tensor:
    fake = torch.empty(operand.shape, dtype=operand.dtype, device=operand.device)
    # a copy, so that in-place code in the cell meets what it would meet: a computed value, not a leaf
    return fake.requires_grad_().clone() if operand.requires_grad else fake


def _describe_all(
    flat: Sequence[Any], fakes: Sequence[torch.Tensor], storages: dict[int, int]
) -> tuple[OutputLeaf, ...]:
    outputs: list[OutputLeaf] = []
    for number, leaf in enumerate(flat):
        described = _describe(leaf, fakes, storages)
        if described.tensor is not None and described.view_of is None:
            before = range(number)
            twin = next((k for k in before if flat[k] is leaf), None)
            beside = next((k for k in before if outputs[k].tensor is not None and _may_overlap(flat[k], leaf)), None)
            described = replace(described, twin=twin, beside=beside)
        outputs.append(described)
    return tuple(outputs)


def _may_overlap(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Could a write to one tensor be seen in another? The parts of a vector that chunk() gives are apart."""
    if _storage(one) != _storage(other) or not one.numel() or not other.numel():
        return False
    first, second = _span(one), _span(other)
    return first[0] <= second[1] and second[0] <= first[1]


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    """The first and the last place of a tensor in its memory."""
    first = int(tensor.storage_offset())
    return first, first + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))


def _describe(leaf: Any, fakes: Sequence[torch.Tensor], storages: dict[int, int]) -> OutputLeaf:
    if not isinstance(leaf, torch.Tensor):
        return OutputLeaf(None, plain=leaf)
    if leaf.layout is not torch.strided:
        raise RefusalError(f"it returns a tensor of layout {leaf.layout}")
    same = next((k for k, fake in enumerate(fakes) if fake is leaf), None)
    view = storages.get(_storage(leaf))
    return OutputLeaf(Spec.of(leaf), same_as=same, view_of=view)
