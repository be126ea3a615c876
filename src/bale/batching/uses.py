"""What did a trace use: which types, which nodes of each, and which constants do the nodes bring?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import torch
from numba import njit

from bale.batching.cells.celltype import CellType
from bale.batching.graph import Spec
from bale.batching.trace.recording import Reader


def is_exact(number: bool | int | float) -> bool:
    """Is a number the same as every number of its type that it equals? 0.0 and -0.0 are not; nan equals none."""
    return type(number) is not float or (number == number and number != 0)


def version_of(constant: Any) -> int:
    """How often a tensor was written in place; -1 where nobody counts."""
    if not isinstance(constant, torch.Tensor):
        return -1
    with torch._C.DisableTorchFunction():
        return -1 if constant.is_inference() else constant._version


@dataclass(frozen=True, eq=False)
class TypeUse:
    """One type in one trace. `constants` are int64 [columns, nodes]: entries of `table`, one column per constant."""

    index: int
    cell: CellType
    nodes: np.ndarray
    constants: np.ndarray
    table: Constants


@dataclass(frozen=True, eq=False)
class Constants:
    """The constants of a trace, each once: see ConstantTable. `equal` is its `equal()`."""

    entries: list[Any]
    versions: list[int]
    values: list[Any]
    equal: np.ndarray

    def chosen(self, which: list[int]) -> Constants:
        """Some of them, no two of which need be compared any more."""
        entries, versions, values = (
            list(map(each.__getitem__, which)) for each in (self.entries, self.versions, self.values)
        )
        return Constants(entries, versions, values, np.arange(len(which)))

    @cached_property
    def names(self) -> np.ndarray:
        """int64 [entries, 2]: equal for two constants, of this trace or of two, only if these surely are equal."""
        return np.array([*map(_name, self.entries, self.values)], np.int64).reshape(-1, 2)

    @classmethod
    def joined(cls, parts: Sequence[Constants]) -> Constants:
        """Those of several traces, one after another."""
        if len(parts) == 1:
            return parts[0]
        entries, versions, values = (
            list(chain.from_iterable(getattr(part, name) for part in parts))
            for name in ("entries", "versions", "values")
        )
        names = np.concatenate([part.names for part in parts] or [np.zeros((0, 2), np.int64)])
        return cls(entries, versions, values, _first_equal(names))

    @classmethod
    def of(cls, entries: list[Any], versions: list[int], values: list[Any]) -> Constants:
        """Compared as those of several traces are."""
        names = np.array([*map(_name, entries, values)], np.int64).reshape(-1, 2)
        return cls(entries, versions, values, _first_equal(names))


_KINDS: dict[Any, int] = {kind: 1 + k for k, kind in enumerate((bool, int, float))}
_KINDS |= {dtype: 8 + k for k, dtype in enumerate((torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32,
                                                   torch.int64))}  # fmt: skip


def _name(entry: Any, value: Any) -> tuple[int, int]:
    """The kind and the bits of a constant whose value is known, else its identity."""
    kind = type(entry)
    if value is not None:  # a whole number in a tensor
        code = _KINDS.get(entry.dtype, 0)
    else:
        code, value = (_KINDS.get(kind, 0), entry) if kind in _KINDS and is_exact(entry) else (0, None)
    if code and kind is float:
        return code, int(np.float64(value).view(np.int64))
    return (code, int(value)) if code and -(1 << 63) <= int(value) < 1 << 63 else (0, id(entry))


@njit(cache=True)
def _first_equal(names):
    entries = names.shape[0]
    first = np.empty(entries, np.int64)
    places = 16
    while places < 2 * entries:
        places *= 2
    table = np.full(places, -1)  # open addressing, at most half full
    for entry in range(entries):
        code = (np.uint64(names[entry, 1]) ^ np.uint64(names[entry, 0]) << np.uint64(56)) * np.uint64(
            0x9E3779B97F4A7C15
        )
        place = np.int64(code >> np.uint64(32)) & (places - 1)
        while table[place] >= 0:
            other = table[place]
            if names[other, 0] == names[entry, 0] and names[other, 1] == names[entry, 1]:
                break
            place = (place + 1) & (places - 1)
        else:
            table[place] = entry
        first[entry] = table[place]
    return first


@dataclass(eq=False)
class ConstantKind:
    """The constants of one Spec in a trace: `indices` maps the id of a tensor to its entry.

    Where the Spec is ragged, their first axes may differ; `lengths` are those of each entry. `see` gives the entry of a
    plain tensor that was not seen before, or None where it is not of this kind.
    """

    table: ConstantTable
    spec: Spec
    indices: dict[int, int] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.on_cpu = self.spec.device.type == "cpu"
        self.is_scalar = not self.spec.shape and not self.spec.ragged
        exact = not (self.spec.dtype.is_floating_point or self.spec.dtype.is_complex or self.spec.requires_grad)
        self.is_read = self.is_scalar and self.on_cpu and exact
        self.see: Callable[[Any], int | None] = _see_whole_numbers(self) if self.is_read else self._see

    def _see(self, tensor: Any) -> int | None:
        if type(tensor) is not torch.Tensor or id(tensor) in self.table.shared:
            return None
        spec = self.spec
        with self.table.as_it_is:
            if (
                tensor.dtype is not spec.dtype
                or tensor.requires_grad is not spec.requires_grad
                or (tensor.dim() != 0 if self.is_scalar else not self._has_shape(tensor.shape))
                or (not tensor.is_cpu if self.on_cpu else tensor.device != spec.device)
            ):
                return None
            try:
                version = tensor._version
            except RuntimeError:  # an inference tensor
                version = -1
            if spec.ragged:
                index = self.indices[id(tensor)] = self.table.add(tensor)
                self.lengths[index] = tensor.shape[0]
                return index
        table = self.table
        index = self.indices[id(tensor)] = len(table.entries)
        table.entries.append(tensor)
        table.versions.append(version)
        table.values.append(None)
        return index

    def _has_shape(self, shape: torch.Size) -> bool:
        spec = self.spec
        return shape == spec.shape if not spec.ragged else bool(shape and shape[0]) and shape[1:] == spec.shape


def _see_whole_numbers(kind: ConstantKind) -> Callable[[Any], int | None]:
    """`kind.see` where each word of each sample goes through it."""
    table, spec = kind.table, kind.spec
    lists = table.entries, table.versions, table.values
    return Reader(torch.Tensor, spec.dtype, table.as_it_is, table.shared, kind.indices, *lists)


class ConstantTable:
    """Every constant of a trace once: tensors by identity, Python numbers by type and value.

    entries    the constants; they stay alive, so that no id is used again
    versions   of each entry when it was first seen; -1 where nobody counts, or its value is known
    values     what it held then, of whole numbers and truth values in CPU tensors of no axes; None of all others
    shared     ids of the tensors that are the same for all samples, and so no constants
    """

    def __init__(self, shared: dict[int, torch.Tensor]):
        self.shared = shared
        self.entries: list[Any] = []
        self.versions: list[int] = []
        self.values: list[Any] = []
        self.as_it_is = torch._C.DisableTorchFunction()  # made once, entered again and again, never within itself
        self._kind_of: dict[Spec, ConstantKind] = {}
        self._number_kind: dict[tuple[torch.dtype, torch.device], ConstantKind] = {}  # of tensors without axes
        self.exact: dict[type, dict[Any, int]] = {bool: {}, int: {}, float: {}}  # entries of numbers, by value
        self._others: dict[Any, int] = {}
        self._by_memory: dict[int, list[int]] = {}
        self._looked_at = 0

    def kind(self, spec: Spec) -> ConstantKind:
        known = self._kind_of.get(spec)
        if known is None:
            known = self._kind_of[spec] = ConstantKind(self, spec)
        return known

    def kind_of(self, tensor: torch.Tensor) -> ConstantKind:
        with torch._C.DisableTorchFunction():
            return self.kind(Spec.of(tensor))

    def add_rows(self, tensor: torch.Tensor, rows: Sequence[torch.Tensor]) -> None:
        """The rows of a sample's own vector of whole numbers, which are read at once: it was just taken apart."""
        with torch._C.DisableTorchFunction():
            if type(tensor) is not torch.Tensor or tensor.dim() != 1 or not rows:
                return
            key = tensor.dtype, tensor.device
            kind = self._number_kind.get(key)
            if kind is None:
                kind = self._number_kind[key] = self.kind(Spec((), *key, requires_grad=False))
            if not kind.is_read:
                return
            values = tensor.tolist()
        first = len(self.entries)
        self.entries += rows
        self.versions += [-1] * len(rows)
        self.values += values
        kind.indices.update(zip(map(id, rows), range(first, first + len(rows)), strict=True))

    def add(self, constant: Any) -> int:
        """The entry of `constant`, a tensor or a Python number."""
        if not isinstance(constant, torch.Tensor):
            return self.number(constant)
        kind = self.kind_of(constant)
        known = kind.indices.get(id(constant))
        if known is None:
            known = kind.indices[id(constant)] = self._append(constant)
            if kind.is_read:
                with torch._C.DisableTorchFunction():
                    self.values[known] = constant.item()
        return known

    def number(self, number: Any) -> int:
        """The entry of a Python number."""
        kind = type(number)
        exact = kind in self.exact and is_exact(number)
        known = (self.exact[kind] if exact else self._others).get(key := number if exact else (kind, repr(number)))
        if known is None:
            known = self._append(number)
            (self.exact[kind] if exact else self._others)[key] = known
        return known

    def _append(self, constant: Any) -> int:
        self.entries.append(constant)
        self.versions.append(version_of(constant))
        self.values.append(None)
        return len(self.entries) - 1

    def before_write(self, tensor: torch.Tensor) -> None:
        """`tensor` is about to be written in place: entries in its memory keep what it holds now, and lose their id."""
        with torch._C.DisableTorchFunction():
            for index in range(self._looked_at, len(self.entries)):
                constant = self.entries[index]
                if isinstance(constant, torch.Tensor):
                    self._by_memory.setdefault(constant.untyped_storage()._cdata, []).append(index)
            self._looked_at = len(self.entries)
            for index in self._by_memory.pop(tensor.untyped_storage()._cdata, ()):
                constant = self.entries[index]
                for kind in self._kind_of.values():
                    kind.indices.pop(id(constant), None)
                self.entries[index] = constant.clone()
                self.versions[index] = version_of(self.entries[index])

    def frozen(self) -> Constants:
        """What was found so far."""
        return Constants(self.entries, self.versions, self.values, self.equal())

    def equal(self) -> np.ndarray:
        """int64 [entries]: the first entry that is surely equal in value, often the entry itself.

        Compared by value are whole numbers and truth values in tensors of no axes that require no grad; all other
        tensors by identity. Python numbers have one entry per type and value anyway.
        """
        first = np.arange(len(self.entries))
        for kind in self._kind_of.values():
            spec = kind.spec
            if not kind.is_scalar or spec.requires_grad or spec.dtype.is_floating_point or spec.dtype.is_complex:
                continue
            members = list(kind.indices.values())
            if len(members) > 1 and spec.device.type != "meta":
                if kind.is_read:
                    values: Any = map(self.values.__getitem__, members)
                else:
                    values = torch.stack([self.entries[k] for k in members]).tolist()
                representative: dict[Any, int] = {}
                first[members] = list(map(representative.setdefault, values, members))
        return first
