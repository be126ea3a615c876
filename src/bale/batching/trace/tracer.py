"""Tracer: records what the forwards of one mini-batch ask for, in a stream of numbers that becomes a Graph."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from bale.batching.cells.call import ModeState
from bale.batching.cells.celltype import CellType
from bale.batching.cells.probe import RefusalError
from bale.batching.cells.purity import Key
from bale.batching.graph import Spec
from bale.batching.trace.location import user_line
from bale.batching.trace.recording import Stream
from bale.batching.trace.ref import Ref
from bale.batching.trace.stream import Format
from bale.batching.trace.trace import Origin, Piece
from bale.batching.uses import ConstantTable, version_of
from bale.errors import TraceError

_active = threading.local()


def current_trace() -> Tracer | None:
    """The trace that runs in this thread, if one does."""
    return getattr(_active, "trace", None)


class Types(dict[Any, Any]):
    """Types and refusals by key. A type knows its key."""

    def __setitem__(self, key: Any, made: Any) -> None:
        super().__setitem__(key, made)
        if isinstance(made, CellType):
            made.key = key


class Registry:
    """What a batched model remembers between calls: its types, and why modules were descended into."""

    def __init__(self) -> None:
        self.types = Types()
        self.shapes: dict[Any, int] = {}
        self.descended: dict[str, str] = {}
        self.known: dict[int, Any] = {}  # parts of fingerprints by id of the module, which they hold (see identity.py)
        self.keys: dict[int, Key] = {}  # and whole ones
        self.model: Key | None = None  # the latest of the whole model
        self.bound: dict[Key, dict[bytes, CellType]] = {}  # types of other processes' traces: see bind.py
        self.kept: dict[Origin, dict[Hashable, Piece]] = {}  # traces of single samples by name: see keep.py

    def cell_types(self) -> list[CellType]:
        """Every type made so far (refusals are remembered too, but are none)."""
        return [made for made in self.types.values() if isinstance(made, CellType)]


class Home:
    """What values of one Spec (and length, where ragged) have in common in one trace; recorders compare it by `is`.

    axis      the length of the first axis; 0 where there is none
    rows      the home of rows of these values, once one was taken
    deferred  what a value that is not recorded waits for, and which of its results it is; it alone is of this home
    shape     what a result is given, where its numbers were recorded one after another; it too is alone
    """

    __slots__ = ("_may_cut", "axis", "deferred", "length", "rows", "shape", "spec", "trace")

    def __init__(self, trace: Tracer, spec: Spec, length: int | None):
        self.trace, self.spec, self.length = trace, spec, length
        self.axis: int = length if length is not None else (spec.shape or (0,))[0]
        self.rows: Home | None = None
        self.deferred: tuple[Any, int] | None = None
        self.shape: torch.Size | None = None
        self._may_cut = trace.outer_grad and spec.requires_grad

    def may_take_rows(self) -> bool:
        """Is a row an operand offset here? Not where it would carry gradients though grad is off: a node cuts them."""
        return self.trace.quick and not (self._may_cut and not torch.is_grad_enabled())


class Lengths(dict[int, Home]):
    """The homes of ragged values of one Spec, by length."""

    def __init__(self, trace: Tracer, spec: Spec):
        super().__init__()
        self.trace, self.spec = trace, spec

    def __missing__(self, length: int) -> Home:
        self[length] = home = self.trace.home(self.spec, length)
        self.trace.lengths.add(length)
        return home


class Tracer:
    """Records while it is entered. `registry` remembers types between calls; `shared` tensors are the same for all."""

    def __init__(self, registry: Registry, shared: Iterable[torch.Tensor]):
        self.registry = registry
        self.shared = {id(tensor): tensor for tensor in shared}
        self.constants = ConstantTable(self.shared)
        self.formats: dict[CellType, Format] = {}
        self.stream = Stream()  # see stream.py
        self.closed = False
        self.probing = 0
        self.quick = False  # may calls that need no second look be recorded at once?
        self.functions: dict[Any, Callable[..., Any]] = {}  # by torch function: records such calls, or dispatches them
        self.gathers: dict[tuple[str, bool], dict[Home, tuple[int, Any]]] = {}  # stacks and reductions: see ragged.py
        self.learned: Counter[Any] = Counter()
        self.recorders: list[Any] = []  # shadows whose calls record without a second look
        self.inside: list[str] = []  # the modules that are being descended into
        self.deferrals = 0  # how many values were not recorded where they were computed; see whole.py
        self.lengths: set[int] = set()  # of all ragged values but the samples' own tensors
        self.rulers: dict[int, torch.Tensor] = {}  # something of each length
        self.lifted: dict[int, tuple[torch.Tensor, Any]] = {}  # samples' own tensors whose rows are taken, as Refs
        self._seen: set[int] = set()  # ids of shared tensors that calls read
        self._promises: dict[Hashable, tuple[Callable[[], Hashable], Hashable, str]] = {}
        self.latest: CellType | None = None  # the type of the call recorded last
        self.asked_lengths: set[int] = set()  # first axes that a probed module's own Python has seen
        self.iterated = False  # a probed module went through an axis of a tensor in Python
        self.outer_grad = torch.is_grad_enabled()
        self.last_of_module: dict[int, int] = {}  # stateful modules: the code of their latest node's value
        self._specs: dict[Spec, Spec] = {}
        self._homes: dict[tuple[Spec, int | None], Home] = {}
        self._sample = -1
        self._sample_start: list[int] = []  # where in the stream each sample begins

    def __enter__(self) -> Tracer:
        if current_trace() is not None:
            raise TraceError("a trace is already running in this thread")
        _active.trace = self
        self.quick = True
        return self

    def __exit__(self, *_: object) -> None:
        _active.trace = None
        self.closed, self.quick = True, False
        self.rest_recorders(for_good=True)
        self._homes.clear()  # they refer to the trace, and so do these
        self.functions.clear()
        self.gathers.clear()

    @property
    def sample(self) -> int:
        """The sample whose forward runs."""
        return self._sample

    @sample.setter
    def sample(self, sample: int) -> None:
        self._sample = sample
        self._sample_start.append(len(self.stream))

    def home(self, spec: Spec, length: int | None = None) -> Home:
        key = spec, length
        known = self._homes.get(key)
        if known is None:
            one = self._specs.setdefault(spec, spec)  # so that equal Specs of homes are one object
            known = self._homes[key] = Home(self, one, length)
        return known

    def ref(self, code: int, spec: Spec, length: int | None = None) -> Ref:
        """A Ref to the value with this code, or, by its high bits, to a row of it."""
        return Ref.of(self.home(spec, length), code)

    def format(self, cell: CellType) -> Format:
        """The number of a type in this trace, and how its records look."""
        known = self.formats.get(cell)
        if known is None:
            known = self.formats[cell] = Format.of(cell, len(self.formats))
        return known

    def add(self, cell: CellType, slots: Sequence[Sequence[int]], constants: Sequence[Any], length: int = 1) -> int:
        """Record a node whose slots read these parts (see stream.py); returns the code of its first value."""
        code = len(self.stream)
        entries = [self.constants.add(constant) for constant in constants]
        self.stream.extend(self.format(cell).record(slots, entries, length if cell.ragged else 1))
        return code

    def piece(self, outputs: Sequence[Any], results: Sequence[Ref], origin: Origin | None = None) -> Piece:
        """Everything that was recorded, as data. `results` are the Refs that `outputs` has Results for."""
        return Piece(
            origin,
            tuple(self.formats),
            np.frombuffer(self.stream.tobytes(), np.int64),
            np.array(self._sample_start, np.int64),
            self.constants.frozen(),
            np.array([ref.part for ref in results], np.int64),
            tuple([(ref.home.spec, ref.home.length) for ref in results]),
            {k: tuple(ref.home.shape) for k, ref in enumerate(results) if ref.home.shape is not None},
            tuple(outputs),
        )

    def before_write(self, tensor: torch.Tensor) -> None:
        """`tensor` is about to be written in place: calls recorded with its memory keep what it holds now."""
        if not self.constants.entries:
            return
        self.constants.before_write(tensor)
        with torch._C.DisableTorchFunction():
            memory = tensor.untyped_storage()._cdata
            for key, (lifted, _) in list(self.lifted.items()):
                if lifted.untyped_storage()._cdata == memory:
                    del self.lifted[key]

    @contextmanager
    def probe(self) -> Iterator[None]:
        """While a module is run on fake tensors, no call is recorded."""
        self.probing += 1
        self.quick = False
        self.rest_recorders()
        try:
            yield
        finally:
            self.probing -= 1
            if not self.probing:
                self.quick = not self.closed
                for info in self.recorders:
                    info.answer_calls(info.recorder)

    def rest_recorders(self, for_good: bool = False) -> None:
        """Let every call be looked at."""
        for info in self.recorders:
            info.answer_calls(None)
        if for_good:
            self.recorders.clear()

    def promise(self, owner: Any, now: Callable[[], Hashable], seen: Hashable, what: str) -> None:
        """What a recorded call reads must still be as it was `seen` when the call runs, at the end of the trace."""
        self._promises.setdefault((id(owner), seen), (now, seen, what))

    def saw(self, shared: torch.Tensor) -> None:
        """A recorded call reads a parameter, or another tensor that is the same for all samples, as it is now."""
        key = id(shared)
        if key not in self._seen:
            self._seen.add(key)
            what = f"a parameter, buffer or keyword argument of shape {list(shared.shape)}, read by a torch function,"
            self.promise(shared, lambda: version_of(shared), version_of(shared), what)

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
