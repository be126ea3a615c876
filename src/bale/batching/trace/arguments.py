"""Arguments: what is a call called with? Each leaf of them becomes a column of its type, or part of its key."""

from __future__ import annotations

import enum
import numbers
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from bale.batching.cells.call import PER_ROW, Kind
from bale.batching.graph import Spec
from bale.batching.trace.ref import Ref
from bale.batching.trace.tracer import Tracer


class Index(int):
    """A whole number that says where to read: data of type int64, whatever it indexes."""


@dataclass(slots=True)
class Column:
    """One leaf of a call's arguments."""

    kind: Kind
    leaf: Any
    spec: Spec | None = None  # of a per-row leaf, first axis included
    number_dtype: torch.dtype | None = None

    @property
    def length(self) -> int | None:
        """The first axis, where it can be one: of ragged values and of constants."""
        if self.kind is Kind.VALUE:
            return self.leaf.length
        if self.kind is Kind.CONST and self.leaf.dim():
            return self.leaf.shape[0]
        return None

    def key(self) -> Hashable:
        if self.kind is Kind.STATIC:
            # 1, 1.0 and True are equal but not the same argument; nor are 0.0 and -0.0
            return self.kind, type(self.leaf), repr(self.leaf) if isinstance(self.leaf, (float, slice)) else self.leaf
        if self.kind is Kind.SHARED:
            return self.kind, id(self.leaf)
        return self.kind, self.spec

    def ragged(self) -> Column:
        assert self.spec is not None
        spec = self.spec
        row = Spec(spec.shape[1:], spec.dtype, spec.device, spec.requires_grad, ragged=True)
        return Column(self.kind, self.leaf, row, self.number_dtype)


class UnknownArgumentError(Exception):
    """An argument that is no tensor and cannot be part of a type."""

    def __init__(self, value: Any):
        super().__init__(f"an argument of type {type(value).__name__}")
        self.value = value


def columns_of(trace: Tracer, leaves: Sequence[Any], number_data: int) -> list[Column]:
    """Classify the leaves of a call's arguments; Python numbers among the first `number_data` are data.

    Raises UnknownArgumentError for a leaf that is neither tensor nor hashable.
    """
    columns = []
    for leaf in leaves:
        kind = type(leaf)
        if kind is Ref:
            trace.owns(leaf)
            columns.append(Column(Kind.VALUE, leaf, full_spec(leaf)))
        elif isinstance(leaf, torch.Tensor):
            if id(leaf) in trace.shared:
                trace.saw(leaf)
                columns.append(Column(Kind.SHARED, leaf))
            else:
                columns.append(Column(Kind.CONST, leaf, Spec.of(leaf)))
        elif isinstance(leaf, np.generic):
            columns.append(Column(Kind.STATIC, leaf.item()))
        elif isinstance(leaf, np.ndarray):
            raise UnknownArgumentError(leaf)
        else:
            if not (isinstance(leaf, _PLAIN) or callable(leaf) or _hashes_by_value(leaf)):
                raise UnknownArgumentError(leaf)
            columns.append(Column(Kind.STATIC, leaf))
    _make_data_of_numbers(columns, number_data)
    return columns


_PLAIN = (int, float, complex, str, bytes, type(None), slice, range, enum.Enum, torch.dtype, torch.device, torch.layout)


def _hashes_by_value(leaf: Any) -> bool:
    if type(leaf).__hash__ is object.__hash__:
        return isinstance(leaf, torch.memory_format)
    try:
        hash(leaf)
    except TypeError:
        return False
    return True


def full_spec(ref: Ref) -> Spec:
    if ref.length is None:
        return ref.spec
    spec = ref.spec
    return Spec((ref.length, *spec.shape), spec.dtype, spec.device, spec.requires_grad)


_result_dtypes: dict[tuple[torch.dtype, type, torch.dtype], torch.dtype] = {}


def _make_data_of_numbers(columns: list[Column], first: int) -> None:
    if not first:
        return
    tensors = [c.spec or c.leaf for c in columns if c.kind in PER_ROW or c.kind is Kind.SHARED]
    if not tensors:
        return
    # a condition (of where) has a say only where nothing else has one
    dtype = reduce(torch.promote_types, [tensor.dtype for tensor in tensors])
    device = tensors[0].device
    for column in columns[:first]:
        if column.kind is Kind.STATIC and isinstance(column.leaf, numbers.Number):
            if isinstance(column.leaf, Index):
                column.kind, column.number_dtype = Kind.NUMBER, torch.int64
                column.spec = Spec((), torch.int64, device)
                continue
            known = (dtype, type(column.leaf), torch.get_default_dtype())
            if known not in _result_dtypes:
                _result_dtypes[known] = torch.result_type(torch.empty((), dtype=dtype), column.leaf)  # type: ignore[arg-type]
            if not _holds(_result_dtypes[known], column.leaf):
                continue  # torch computes with the number as it is, so it is part of the type
            column.kind, column.number_dtype = Kind.NUMBER, _result_dtypes[known]
            column.spec = Spec((), column.number_dtype, device)


def _holds(dtype: torch.dtype, number: Any) -> bool:
    """Is a number of a dtype what torch computes with? Of narrow ones it has wider numbers than they hold."""
    if dtype in (torch.float16, torch.bfloat16):
        return float(torch.tensor(number, dtype=torch.float64).to(dtype)) == float(number)
    if dtype in _NARROW:
        return torch.iinfo(dtype).min <= number <= torch.iinfo(dtype).max
    return True


_NARROW = frozenset((torch.uint8, torch.int8, torch.int16, torch.int32))


def leaves_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """The leaves of a call's arguments."""
    return flatten(args, kwargs)[0]


def flatten(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], Hashable]:
    """The leaves of a call's arguments, and what tells their structure: most have nothing but tuples and lists."""
    leaves: list[Any] = []
    form = None if kwargs else _form(args, leaves)
    return pytree.tree_flatten((args, kwargs)) if form is None else (leaves, form)


def _form(items: Any, leaves: list[Any]) -> tuple[Any, ...] | None:
    """The structure of a tuple or list, while its leaves are added to `leaves`; None where it holds anything else."""
    form: list[Any] = [type(items)]
    for item in items:
        kind = type(item)
        if kind is Ref or not (kind in pytree.SUPPORTED_NODES or issubclass(kind, tuple)):
            leaves.append(item)
            form.append(None)
            continue
        inside = _form(item, leaves) if kind is tuple or kind is list else None
        if inside is None:
            return None
        form.append(inside)
    return tuple(form)


@lru_cache(maxsize=4096)
def spec_of(form: Any) -> Any:
    """The TreeSpec of a call: hashing one and comparing two costs more than all else, so keys hold the form."""

    def example(form: Any) -> Any:
        return None if form is None else form[0](map(example, form[1:]))

    return pytree.tree_structure((example(form), {}))
