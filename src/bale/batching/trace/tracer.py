"""Trace: what the forwards of one mini-batch recorded, in flat lists that become a Graph."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from bale.batching.cells.call import ModeState
from bale.batching.cells.celltype import CellType
from bale.batching.cells.probe import RefusalError
from bale.batching.graph import Graph
from bale.batching.trace.location import user_line
from bale.batching.trace.ref import Ref
from bale.errors import TraceError

_active = threading.local()


def current_trace() -> Trace | None:
    """The trace that runs in this thread, if one does."""
    return getattr(_active, "trace", None)


class Registry:
    """What a batched model remembers between calls: its types, and why modules were descended into."""

    def __init__(self) -> None:
        self.types: dict[Any, Any] = {}
        self.shapes: dict[Any, int] = {}
        self.descended: dict[str, str] = {}

    def cell_types(self) -> list[CellType]:
        """Every type made so far (refusals are remembered too, but are none)."""
        return [made for made in self.types.values() if isinstance(made, CellType)]


@dataclass(eq=False)
class TypeUse:
    """One type in one trace: its number, and the constants of its nodes, column by column."""

    index: int
    cell: CellType
    constants: tuple[list[Any], ...]
    versions: tuple[list[int], ...]
    nodes: list[int] = field(default_factory=list)


class Trace:
    """Records while it is entered. `registry` remembers types between calls; `shared` tensors are the same for all."""

    def __init__(self, registry: Registry, shared: Iterable[torch.Tensor]):
        self.registry = registry
        self.shared = {id(tensor): tensor for tensor in shared}
        self.uses: dict[CellType, TypeUse] = {}
        self.sample = -1
        self.closed = False
        self.probing = 0
        self.inside: list[str] = []  # the modules that are being descended into
        self.lifted: dict[int, tuple[torch.Tensor, Any]] = {}  # samples' own tensors whose rows are taken, as Refs
        self._promises: dict[Hashable, tuple[Callable[[], Hashable], Hashable, str]] = {}
        self.latest: CellType | None = None  # the type of the call recorded last
        self.constant_specs: dict[int, Any] = {}
        self.kept_alive: list[torch.Tensor] = []  # so that an id in `constant_specs` is not used again
        self.iterated = False  # a probed module went through an axis of a tensor in Python
        self.outer_grad = torch.is_grad_enabled()
        self.last_of_module: dict[int, int] = {}  # stateful modules: the value of their latest node
        self._type: list[int] = []
        self._rows: list[int] = []
        self._sample: list[int] = []
        self._slots: list[int] = []  # parts of each slot
        self._slot_start: list[int] = [0]
        self._part_value: list[int] = []
        self._part_index: list[int] = []
        self._value_start: list[int] = [0]

    def __enter__(self) -> Trace:
        if current_trace() is not None:
            raise TraceError("a trace is already running in this thread")
        _active.trace = self
        return self

    def __exit__(self, *_: object) -> None:
        _active.trace = None
        self.closed = True

    @property
    def nodes(self) -> int:
        return len(self._type)

    def add(
        self, cell: CellType, slots: Sequence[Sequence[tuple[int, int]]], constants: Sequence[Any], length: int = 1
    ) -> int:
        """Record a node; returns the id of its first value."""
        use = self.uses.get(cell)
        if use is None:
            columns = len(constants)
            use = TypeUse(len(self.uses), cell, tuple([] for _ in range(columns)), tuple([] for _ in range(columns)))
            self.uses[cell] = use
        use.nodes.append(len(self._type))
        for column, versions, constant in zip(use.constants, use.versions, constants, strict=True):
            column.append(constant)
            versions.append(version_of(constant))
        self._type.append(use.index)
        self._rows.append(length if cell.ragged else 1)
        self._sample.append(self.sample)
        for parts in slots:
            self._slots.append(len(parts))
            for value, index in parts:
                self._part_value.append(value)
                self._part_index.append(index)
        self._slot_start.append(len(self._slots))
        first = self._value_start[-1]
        self._value_start.append(first + len(cell.node_type.outputs))
        return first

    @property
    def graph(self) -> Graph:
        """What was recorded so far."""
        return Graph(
            types=tuple(use.cell.node_type for use in self.uses.values()),
            type=np.array(self._type, np.int32),
            rows=np.array(self._rows, np.int32),
            sample=np.array(self._sample, np.int32),
            slot_start=np.array(self._slot_start, np.int32),
            part_start=np.concatenate([[0], np.cumsum(self._slots)]).astype(np.int32),
            part_value=np.array(self._part_value, np.int32),
            part_index=np.array(self._part_index, np.int32),
            value_start=np.array(self._value_start, np.int32),
        )

    def before_write(self, tensor: torch.Tensor) -> None:
        """`tensor` is about to be written in place: calls recorded with its memory keep what it holds now."""
        if not self.nodes:
            return
        with torch._C.DisableTorchFunction():
            memory = tensor.untyped_storage()._cdata
            for use in self.uses.values():
                for column, versions in zip(use.constants, use.versions, strict=True):
                    for k, constant in enumerate(column):
                        if isinstance(constant, torch.Tensor) and constant.untyped_storage()._cdata == memory:
                            column[k] = constant.clone()
                            versions[k] = version_of(column[k])

    def promise(self, owner: Any, now: Callable[[], Hashable], seen: Hashable, what: str) -> None:
        """What a recorded call reads must still be as it was `seen` when the call runs, at the end of the trace."""
        self._promises.setdefault((id(owner), seen), (now, seen, what))

    def keep_promises(self) -> None:
        """Raises TraceError where something that recorded calls read has changed since."""
        for now, seen, what in self._promises.values():
            try:
                kept = now() == seen
            except RefusalError:  # it holds a lazy value by now
                kept = False
            if not kept:
                raise TraceError(
                    f"{what} was changed (assigned or written in place) while samples were being traced; the calls "
                    "that read it run afterwards and would all see the last value. Pass it as an argument, or change "
                    "it between calls of the batched model"
                )

    def where(self) -> str:
        """`sample 3, in encoder (Encoder), at file:line`."""
        line = user_line()
        inside = f", in {self.inside[-1]}" if self.inside else ""
        return f"sample {self.sample}{inside}" + (f", at {line}" if line else "")

    def error(self, message: str, kind: type[TraceError] = TraceError) -> TraceError:
        return kind(f"{self.where()}: {message}")

    def owns(self, ref: Ref) -> None:
        """Raises TraceError for a Ref of another call, or of this one after its end."""
        if ref.trace is not self or self.closed:
            raise self.error(
                "a lazy value of an earlier call of the batched model is used here; it has no numbers any more. "
                "Return it from the forward that makes it, and keep the tensor that the call gives you."
            )

    def state(self) -> ModeState:
        return ModeState.current()


def version_of(constant: Any) -> int:
    if not isinstance(constant, torch.Tensor):
        return -1
    with torch._C.DisableTorchFunction():
        return -1 if constant.is_inference() else constant._version
