"""Lists of any length: stack, cat and slices gather rows, reductions fold into gathers; no type per length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from bale.batching.cells.segment import KEEPS_ROWS, KERNELS, REDUCTIONS, identity_type, kernel_type
from bale.batching.graph import Mode, Spec
from bale.batching.trace import recording
from bale.batching.trace.nodes import as_ref
from bale.batching.trace.record import Options, record
from bale.batching.trace.ref import Ref, rows_of
from bale.batching.trace.tracer import Home, Lengths, Tracer

LOOK_UP = "rows of a table"
OF_TABLE = Options(constants_may_be_ragged=True, scalar_rows=True)
PASS = object()  # not for us: record it as any other function


def stack(trace: Tracer, tensors: Any, dim: int = 0, **kwargs: Any) -> Any:
    """torch.stack of Refs and tensors of one shape along a new first axis."""
    if kwargs or not isinstance(tensors, (list, tuple)) or not tensors:
        return PASS
    first = tensors[0]
    if type(first) is Ref and not dim and all(type(t) is Ref and t.home is first.home for t in tensors):
        return _stack_parts(trace, [as_ref(trace, first)], [t.part for t in tensors]) if first.length is None else PASS
    if any(type(t) is Ref and t.length is not None for t in tensors) or dim not in (0, -first.dim() - 1):
        return PASS
    if any(t.shape != first.shape or t.dtype != first.dtype for t in tensors):
        return PASS
    refs = [as_ref(trace, t) for t in tensors]
    return _stack_parts(trace, refs, [ref.part for ref in refs])


def quick_gather(trace: Tracer, name: str, otherwise: Callable[..., Any]) -> Callable[..., Any]:
    """What records stacks, or the reduction `name`, of values whose home was met before, and else asks `otherwise`."""
    with_grad, without_grad = (trace.gathers.setdefault((name, grad), {}) for grad in (True, False))
    stacks = name == "stack"
    return recording.Gatherer(Ref, trace.stream, stacks, with_grad, without_grad, otherwise, torch.is_grad_enabled)


def _gather(trace: Tracer, home: Home, name: str, mode: Mode, parts: Sequence[int], length: int = 1) -> Ref:
    """Record a stack or a reduction of values of `home`, from their parts and how many rows the result has."""
    known = trace.gathers.setdefault((name, torch.is_grad_enabled()), {})
    if home not in known:
        spec = home.spec
        cell = _identity(trace, name, mode, Spec(spec.shape, spec.dtype, spec.device, spec.requires_grad))
        out = cell.node_type.outputs[0]
        known[home] = trace.format(cell).type, Lengths(trace, out) if out.ragged else trace.home(out)
    number, result = known[home]
    ref = Ref.of(result[length] if isinstance(result, Lengths) else result, len(trace.stream))
    trace.stream.extend((number, length, len(parts), *parts))
    return ref


def _stack_parts(trace: Tracer, refs: Sequence[Ref], parts: list[int], length: int | None = None) -> Ref:
    spec = refs[0].spec
    grad = any(ref.requires_grad for ref in refs)
    home = trace.home(Spec(spec.shape, spec.dtype, spec.device, grad))
    return _gather(trace, home, "stack", Mode.STACK, parts, length if length is not None else len(parts))


def cat(trace: Tracer, tensors: Any, dim: int = 0, **kwargs: Any) -> Any:
    """torch.cat along the first axis, of matrices or of ragged values: their rows, one after another."""
    if kwargs or not isinstance(tensors, (list, tuple)) or not tensors:
        return PASS
    first = tensors[0]
    ragged = any(type(t) is Ref and t.length is not None for t in tensors)
    if dim not in (0, -first.dim()) or not (ragged or first.dim() > 1):
        return PASS
    if any(t.dim() != first.dim() or t.shape[1:] != first.shape[1:] or t.dtype != first.dtype for t in tensors):
        return PASS
    refs, parts = [], []
    for tensor in tensors:
        ref = as_ref(trace, tensor)
        if ref.shape[0]:
            refs.append(ref)
            parts += [ref.part] if ref.length is not None else [row.part for row in rows_of(ref)]
    if not refs:
        return PASS
    row = [ref if ref.length is not None else ref[0] for ref in refs]
    return _stack_parts(trace, row, parts, sum(ref.shape[0] for ref in refs))


def same(ref: Ref) -> Ref:
    """Another lazy value for the same rows."""
    other = Ref.of(ref.home, ref.part)
    other.share_memory_with(ref)
    return other


def rows_of_table(trace: Tracer, positions: Sequence[int], table: torch.Tensor) -> Any:
    """Some rows of a parameter, as many as the sample wants."""
    given = torch.tensor(positions, device=table.device)
    return record(trace, _look_up, LOOK_UP, _look_up, (given, table), {}, OF_TABLE)


def _look_up(positions: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    return F.embedding(positions, table) if table.dim() == 2 and table.is_floating_point() else table[positions]


def repeat_row(trace: Tracer, row: Any, times: int) -> Ref:
    """A ragged value whose rows are all this one."""
    ref = as_ref(trace, row)
    repeated = _stack_parts(trace, [ref], [ref.part] * times)
    repeated.share_memory_with(row)
    return repeated


def choose_rows(trace: Tracer, ref: Ref, positions: Sequence[int]) -> Any:
    """Some rows of a ragged value, in the order of `positions`."""
    rows = [ref[k] for k in positions]
    chosen = _stack_parts(trace, rows, [row.part for row in rows])
    chosen.share_memory_with(ref)
    return chosen


def reduce(trace: Tracer, name: str, ref: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A reduction or normalisation of a ragged value along its first axis."""
    if type(ref) is not Ref or ref.length is None:
        return PASS
    kwargs = dict(kwargs)
    if name in KEEPS_ROWS:
        kwargs.pop("_stacklevel", None)
    dim = kwargs.pop("dim", args[0] if args else None)
    keepdim = kwargs.pop("keepdim", args[1] if len(args) > 1 and name not in KEEPS_ROWS else False)
    dtype = kwargs.pop("dtype", None)
    if kwargs or len(args) > 2 or not ref.length:
        return PASS
    everything = isinstance(dim, (list, tuple)) and {d % ref.ndim for d in dim} == set(range(ref.ndim))
    if dim is None or everything:
        if name in ("sum", "mean") and not keepdim:  # the rows first, then what is left
            rows = reduce(trace, name, ref, (0,), {"dtype": dtype})
            return getattr(rows, name)() if rows.ndim else rows
        return PASS
    if isinstance(dim, (list, tuple)) and len(dim) == 1:
        dim = dim[0]
    if not isinstance(dim, int) or dim not in (0, -ref.ndim):
        return PASS
    if dtype is not None:
        ref = ref.to(dtype)
    if name == "sum" and not ref.dtype.is_floating_point and not ref.dtype.is_complex:
        ref = ref.to(torch.int64)
    out = _reduced(trace, name, ref)
    if not keepdim:
        return out
    if name in ("max", "min"):
        return getattr(torch.return_types, name)([o.unsqueeze(0) for o in out])
    return out if name in KEEPS_ROWS else out.unsqueeze(0)


def _reduced(trace: Tracer, name: str, ref: Ref) -> Any:
    spec = Spec(ref.spec.shape, ref.dtype, ref.device, ref.requires_grad)
    if name in REDUCTIONS:
        trace.owns(ref)
        if name == "mean" and not ref.dtype.is_floating_point and not ref.dtype.is_complex:
            raise RuntimeError(f"mean(): could not infer output dtype. Input dtype is {ref.dtype}; convert it first.")
        return _gather(trace, ref.home, name, REDUCTIONS[name], [ref.part])
    key = ("kernel", name, spec, torch.is_grad_enabled())
    cell = trace.registry.types.get(key)
    if cell is None:
        cell = trace.registry.types[key] = kernel_type(name, spec, torch.is_grad_enabled())
    first = trace.add(cell, [[ref.part]], [], ref.length or 1)
    outputs = cell.node_type.outputs
    if len(outputs) == 2:
        values = [trace.ref(first + k, out) for k, out in enumerate(outputs)]
        return getattr(torch.return_types, name)(values)
    return trace.ref(first, outputs[0], ref.length if outputs[0].ragged else None)


def _identity(trace: Tracer, name: str, mode: Mode, spec: Spec) -> Any:
    key = ("identity", name, spec, torch.is_grad_enabled())
    cell = trace.registry.types.get(key)
    if cell is None:
        cell = trace.registry.types[key] = identity_type(name, mode, spec, torch.is_grad_enabled())
    return cell


def weighted_sum(trace: Tracer, left: Any, right: Any) -> Any:
    """`weights @ values` of two ragged values: a product of rows and a sum."""
    ragged = [type(t) is Ref and t.length is not None for t in (left, right)]
    if not all(ragged) or left.length != right.length or left.ndim != 1:
        return PASS
    weights = left if right.ndim == 1 else left.reshape(-1, *[1] * (right.ndim - 1))
    if right.ndim > 2:
        return PASS
    return (weights * right).sum(0)


REDUCED = (*REDUCTIONS, *KERNELS)
