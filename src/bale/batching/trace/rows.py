"""Functions that name the length of a ragged value, or take all its rows: what they mean without a length."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from math import prod
from typing import Any

import torch
import torch.nn.functional as F

from bale.batching.trace import ragged
from bale.batching.trace.nodes import lift
from bale.batching.trace.record import Options, record
from bale.batching.trace.ref import Ref
from bale.batching.trace.tracer import Tracer

Tensor = torch.Tensor


def _record(trace: Tracer, function: Callable[..., Any], name: str, *args: Any) -> Any:
    return record(trace, function, name, function, args, {}, Options())


def _squeeze(trace: Tracer, tensor: Any, *dims: Any, dim: Any = None) -> Any:
    if type(tensor) is not Ref or tensor.length is None:
        return ragged.PASS
    given = dims or (() if dim is None else (dim,))
    wanted = given[0] if len(given) == 1 and isinstance(given[0], (list, tuple)) else given
    wanted = {d % tensor.ndim for d in wanted} if given else set(range(tensor.ndim))
    if 0 not in wanted:
        return ragged.PASS
    inner = tuple([d for d in sorted(wanted - {0}) if tensor.shape[d] == 1])
    if tensor.length == 1:
        row = tensor[0]
        return row.squeeze(tuple([d - 1 for d in inner])) if inner else row
    return _record(trace, torch.squeeze, "squeeze", tensor, inner) if inner else ragged.same(tensor)


def _sizes(given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Sizes that are given one by one or in a tuple."""
    return tuple(given[0]) if len(given) == 1 and isinstance(given[0], (list, tuple)) else given


def _view(name: str) -> Callable[..., Any]:
    """`x.view(len(x), ..)` is `x.view(-1, ..)`."""
    function = getattr(Tensor, name)

    def view(trace: Tracer, tensor: Any, *given: Any, **kwargs: Any) -> Any:
        sizes = _sizes(given)
        if type(tensor) is not Ref or tensor.length is None or kwargs or not sizes:
            return ragged.PASS
        if sizes[0] not in (-1, tensor.length) or not all(type(n) is int for n in sizes):
            return ragged.PASS
        known, numbers = prod(n for n in sizes[1:] if n != -1), prod(tensor.shape[1:])
        inner = tuple([numbers // max(known, 1) if n == -1 else n for n in sizes[1:]])
        if prod(inner) != numbers:
            return ragged.PASS
        return _record(trace, function, name, tensor, (-1, *inner))

    return view


def _expand(trace: Tracer, tensor: Any, *given: Any, **kwargs: Any) -> Any:
    sizes = _sizes(given)
    if kwargs:
        return ragged.PASS
    if type(tensor) is Ref and tensor.length is not None:
        to_length = len(sizes) == tensor.ndim and sizes[0] == tensor.length
        return _record(trace, Tensor.expand, "expand", tensor, (-1, *sizes[1:])) if to_length else ragged.PASS
    shape = tuple(tensor.shape)
    fits = [n in (-1, m) for n, m in zip(sizes[1:], shape[len(shape) - len(sizes) + 1 :], strict=False)]
    if not sizes or not all(fits) or sizes[0] not in trace.lengths:
        return ragged.PASS
    return _rows(trace, tensor, shape, sizes)


def _repeat(trace: Tracer, tensor: Any, *given: Any, **kwargs: Any) -> Any:
    sizes = _sizes(given)
    if kwargs or (type(tensor) is Ref and tensor.length is not None):
        return ragged.PASS
    if not sizes or sizes[0] not in trace.lengths or any(n != 1 for n in sizes[1:]):
        return ragged.PASS
    rows = _rows(trace, tensor, tuple(tensor.shape), sizes)
    if type(rows) is Ref:
        rows.memory = None
    return rows


def _rows(trace: Tracer, tensor: Any, shape: tuple[int, ...], sizes: tuple[int, ...]) -> Any:
    """A value that is repeated along a new first axis, or one of length one."""
    if len(sizes) == len(shape) + 1:
        return ragged.repeat_row(trace, tensor, sizes[0])
    if len(sizes) == len(shape) and shape and shape[0] == 1:
        return ragged.repeat_row(trace, tensor[0], sizes[0])
    return ragged.PASS


def _new(name: str) -> Callable[..., Any]:
    """New numbers for every row of a ragged value are the sample's own."""

    def new(trace: Tracer, tensor: Any, *given: Any, dtype: Any = None, device: Any = None, **kwargs: Any) -> Any:
        if type(tensor) is not Ref or tensor.length is None or not given or kwargs:
            return ragged.PASS
        sizes, fill = (_sizes(given[:-1]), given[-1:]) if name == "full" else (_sizes(given), ())
        if not sizes or sizes[0] != tensor.length or any(type(number) is Ref for number in fill):
            return ragged.PASS
        made = getattr(torch, name)(sizes, *fill, dtype=dtype or tensor.dtype, device=device or tensor.device)
        return lift(trace, made)

    return new


def _index_select(trace: Tracer, tensor: Any, dim: Any, index: Any) -> Any:
    if type(tensor) is not Ref or tensor.length is None or dim not in (0, -tensor.ndim) or index.dim() != 1:
        return ragged.PASS
    if type(index) is Ref or not len(index) or index.dtype in (torch.bool, torch.uint8):
        return ragged.PASS
    return _copy_of(tensor[index])


def _narrow(trace: Tracer, tensor: Any, dim: Any, start: Any, length: Any) -> Any:
    if type(tensor) is not Ref or tensor.length is None or dim not in (0, -tensor.ndim):
        return ragged.PASS
    if type(start) is not int or not 0 <= start < start + length <= tensor.length:
        return ragged.PASS
    return tensor[start : start + length]


def _roll(trace: Tracer, tensor: Any, shifts: Any, dims: Any = None) -> Any:
    if type(tensor) is not Ref or tensor.length is None or type(shifts) is not int or dims not in (0, -tensor.ndim):
        return ragged.PASS
    return _copy_of(tensor[[(k - shifts) % tensor.length for k in range(tensor.length)]])


def _copy_of(rows: Ref) -> Ref:
    rows.memory = None  # new memory in the per-sample program
    return rows


_LOSSES = (
    "cross_entropy nll_loss mse_loss l1_loss smooth_l1_loss huber_loss binary_cross_entropy "
    "binary_cross_entropy_with_logits kl_div soft_margin_loss"
).split()


def _loss(name: str) -> Callable[..., Any]:
    """A loss of all rows is one of each row, and then their mean or sum."""
    function = getattr(F, name)

    def loss(trace: Tracer, *args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(function).bind(*args, **kwargs)
        bound.apply_defaults()
        given, target = bound.arguments["input"], bound.arguments["target"]
        how = bound.arguments["reduction"]
        weighted = how != "sum" and name in ("cross_entropy", "nll_loss") and not _counts_all(bound.arguments)
        lengths = [t.length for t in (given, target) if type(t) is Ref]
        if (
            None in lengths
            or how not in ("mean", "sum", "batchmean")
            or weighted
            or given.shape[:1] != target.shape[:1]
        ):
            return ragged.PASS
        if bound.arguments.get("size_average") is not None or bound.arguments.get("reduce") is not None:
            return ragged.PASS
        bound.arguments["reduction"] = "none"
        rows = function(*bound.args, **bound.kwargs)
        if how == "batchmean":
            return rows.sum() / given.shape[0]
        return rows.mean() if how == "mean" else rows.sum()

    return loss


def _counts_all(arguments: dict[str, Any]) -> bool:
    """Is the mean of a loss over classes that of all its rows? Not with weights, nor where labels are ignored."""
    target = arguments["target"]
    if arguments["weight"] is not None or type(target) is Ref:
        return False
    return target.is_floating_point() or not bool((target == arguments["ignore_index"]).any())


SPECIAL: dict[str, Callable[..., Any]] = {
    "squeeze": _squeeze,
    "view": _view("view"),
    "reshape": _view("reshape"),
    "expand": _expand,
    "repeat": _repeat,
    "index_select": _index_select,
    "narrow": _narrow,
    "roll": _roll,
}
SPECIAL |= {f"new_{name}": _new(name) for name in ("zeros", "ones", "full", "empty")}
SPECIAL |= {name: _loss(name) for name in _LOSSES}
