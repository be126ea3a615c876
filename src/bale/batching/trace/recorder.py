"""How does a call whose type is known record itself, asking as little as possible?

A recorder is a Python function made for one type: it compares the homes of its arguments with those of the call that
made it, by identity, and writes the record. Any other call goes to the next recorder, and at last to the long way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch.utils import _pytree as pytree

from bale.batching.cells.celltype import CellType
from bale.batching.graph import Spec
from bale.batching.trace.record import leaves_of
from bale.batching.trace.ref import Ref
from bale.batching.trace.tracer import Home, Lengths, Trace
from bale.batching.uses import is_exact

MISSING = object()
MAX_LEAVES = 16  # of the arguments: compiling the question must not cost more than it saves
_PLAIN = (bool, type(None), str, int, float, torch.dtype)  # arguments that may be compared by type and value


@dataclass(slots=True)
class Pattern:
    """What a recorder must ask of a call's arguments: how that is written, and the things that it refers to, in turn.

    The same model asks the same in every trace, so what is written is compiled once; see `_factory`.
    """

    trace: Trace
    ragged: bool  # is a node several rows, as many as its ragged arguments have?
    one_long: bool = False  # is there but one argument whose first axis can be ragged?
    things: list[Any] = field(default_factory=list)

    def of_call(self, args: tuple[Any, ...], kwargs: dict[str, Any], numbers_are_data: bool) -> Any:
        """What to ask of each argument, by position and by name; None where it cannot be asked."""
        leaves = leaves_of(args, kwargs)
        if len(leaves) > MAX_LEAVES:
            return None
        if self.ragged:
            own = [leaf for leaf in leaves if type(leaf) is Ref or type(leaf) is torch.Tensor]
            self.one_long = len(own) == 1 or sum(type(leaf) is Ref or leaf.dim() > 0 for leaf in own) == 1
        positional = tuple([self.of(arg, numbers_are_data) for arg in args])
        named = tuple([(name, self.of(arg)) for name, arg in kwargs.items()])
        return None if None in positional or any(asked is None for _, asked in named) else (positional, named)

    def of(self, argument: Any, number_is_data: bool = False) -> Any:
        """Whether an argument is like this one: ("home",), ("constant", ragged), ("tuple", ..., ...) and so on."""
        kind = type(argument)
        if kind is Ref:
            return self._of_home(argument.home) if argument.home.trace is self.trace else None
        if id(argument) in self.trace.shared:
            return self._asks(("same",), argument)
        if kind is torch.Tensor:
            return self._of_constant(argument)
        if kind is tuple or kind is list:
            inside = [self.of(item, number_is_data) for item in argument]
            return None if None in inside else (kind.__name__, *inside)
        if number_is_data and kind in (bool, int, float):
            numbers = self.trace.constants
            return self._asks(("number", kind.__name__), numbers.exact[kind].get, numbers.number)
        if kind in _PLAIN and (kind is not float or is_exact(argument)):
            return self._asks(("plain", kind in (bool, type(None))), kind, argument)
        return None

    def _of_home(self, home: Home) -> Any:
        return self._asks(("rows",), home.spec) if self.ragged and home.length else self._asks(("home",), home)

    def _of_constant(self, tensor: torch.Tensor) -> Any:
        kind = self.trace.constants.kind_of(tensor)
        spec = kind.spec
        if not (self.ragged and spec.shape):
            return self._asks(("constant", False), kind.indices.get, kind.see)
        if not self.one_long:
            return None  # whether it is ragged depends on how long the others are
        row = Spec(spec.shape[1:], spec.dtype, spec.device, spec.requires_grad, ragged=True)
        kind = self.trace.constants.kind(row)
        return self._asks(("constant", True), kind.indices.get, kind.see, kind.lengths)

    def _asks(self, asked: tuple[Any, ...], *things: Any) -> tuple[Any, ...]:
        self.things += things
        return asked


class Form(NamedTuple):
    """All that the Python of a recorder depends on."""

    asked: Any
    type: int
    fixed: bool
    ragged_outputs: tuple[bool, ...]
    shape: str  # of what it returns: "leaf", "tuple" or "tree"
    grad: bool
    asks_still: bool


def make_recorder(
    trace: Trace,
    cell: CellType,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    otherwise: Callable[..., Any],
    numbers_are_data: bool = False,
    still: Callable[[], bool] | None = None,
) -> Callable[..., Any] | None:
    """A function that records calls like `cell(*args, **kwargs)` and hands all others to `otherwise`, or None.

    None where such calls need a second look. The recorder is for this trace, and for the grad mode of now without
    autocast. `numbers_are_data`: Python numbers among `args` differ from call to call. `still` must hold where a call
    is recorded, if it is given.
    """
    if not cell.straight or torch._C._is_any_autocast_enabled():
        return None
    pattern = Pattern(trace, cell.ragged)
    asked = pattern.of_call(args, kwargs, numbers_are_data)
    if asked is None:
        return None
    layout, outputs = trace.format(cell), cell.node_type.outputs
    ragged = tuple([spec.ragged for spec in outputs])
    shape = "leaf" if cell.out_spec.is_leaf() else "tuple" if cell.returns_tuple else "tree"
    make = _factory(Form(asked, layout.type, layout.fixed, ragged, shape, torch.is_grad_enabled(), still is not None))
    if make is None:
        return None
    homes = [Lengths(trace, spec) if spec.ragged else trace.home(spec) for spec in outputs]
    unflatten = partial(pytree.tree_unflatten, treespec=cell.out_spec)
    return make(trace.stream, trace.stream.extend, otherwise, still, unflatten, *homes, *pattern.things)


@lru_cache(maxsize=4096)
def _factory(form: Form) -> Callable[..., Any] | None:
    """Makes recorders of one form; None where nothing tells how many rows a call has."""
    writer = Writer()
    writer.write_call(*form.asked)
    if not form.fixed and not writer.knows_length:
        return None
    made: dict[str, Any] = {
        "Ref": Ref,
        "missing": MISSING,
        "grad_enabled": torch.is_grad_enabled,
        "autocast": torch._C._is_any_autocast_enabled,
    }
    exec(compile(_source(form, writer), "<bale recorder>", "exec"), made)
    return made["make"]


class Writer:
    """Python for the question whether a call has the arguments that a recorder was made for."""

    def __init__(self) -> None:
        self.conditions: list[str] = []
        self.of_constants: list[str] = []  # asked last, for they note what they have not seen before
        self.parts: list[str] = []
        self.entries: list[str] = []
        self.things = 0
        self.knows_length = False

    def write_call(self, positional: tuple[Any, ...], named: tuple[tuple[str, Any], ...]) -> None:
        self.conditions.append("not rest")
        self.conditions.append(f"len(kwargs) == {len(named)}" if named else "not kwargs")
        self.conditions += [f"{name!r} in kwargs" for name, _ in named]
        for k, asked in enumerate(positional):
            self.write(asked, f"a{k}")
        for name, asked in named:
            self.write(asked, f"kwargs[{name!r}]")

    def write(self, asked: tuple[Any, ...], code: str) -> None:
        """Add the question whether the argument `code` is as `asked`."""
        kind, *rest = asked
        if kind == "home":
            self._write_part(f"{code}.home is {self._thing()}", code)
        elif kind == "rows":
            length = f"length == {code}.home.length" if self.knows_length else f"(length := {code}.home.length)"
            self._write_part(f"{code}.home.spec is {self._thing()} and {length}", code)
            self.knows_length = True
        elif kind == "same":
            self.conditions.append(f"{code} is {self._thing()}")
        elif kind == "constant":
            self._write_entry(f"id({code})", code)
            if rest[0]:
                self.of_constants.append(f"(length := {self._thing()}[{self.entries[-1]}])")
                self.knows_length = True
        elif kind == "number":
            self.conditions.append(f"type({code}) is {rest[0]}")
            self._write_entry(code, code)
        elif kind == "plain":
            self.conditions.append(
                f"type({code}) is {self._thing()} and {code} {'is' if rest[0] else '=='} {self._thing()}"
            )
        else:
            self.conditions.append(f"type({code}) is {kind} and len({code}) == {len(rest)}")
            for k, item in enumerate(rest):
                self.write(item, f"{code}[{k}]")

    def _write_part(self, condition: str, code: str) -> None:
        self.conditions.append(f"type({code}) is Ref and {condition}")
        self.parts.append(f"{code}.part")

    def _write_entry(self, key: str, code: str) -> None:
        entry, known, see = f"k{len(self.entries)}", self._thing(), self._thing()
        self.of_constants.append(f"(({entry} := {known}({key})) is not None or ({entry} := {see}({code})) is not None)")
        self.entries.append(entry)

    def _thing(self) -> str:
        self.things += 1
        return f"n{self.things - 1}"


def _source(form: Form, writer: Writer) -> str:
    arguments = [f"a{k}" for k in range(len(form.asked[0]))]
    outputs = len(form.ragged_outputs)
    names = [f"out{k}" for k in range(outputs)] + [f"n{k}" for k in range(writer.things)]
    conditions = ["grad_enabled()" if form.grad else "not grad_enabled()", "not autocast()"]
    conditions += writer.conditions + writer.of_constants + ["still()"] * form.asks_still
    condition = "\n            and ".join(conditions)
    record = [str(form.type), *writer.parts, *writer.entries]
    if not form.fixed:
        record[1:] = ["length", *(number for part in writer.parts for number in ("1", part)), *writer.entries]
    record += ["0"] * (outputs - len(record))
    made = "".join(
        f"""
            r{k} = Ref()
            r{k}.home = out{k}{"[length]" * is_ragged}
            r{k}.part = {f"code + {k}" if k else "code"}
            r{k}.memory = None"""
        for k, is_ragged in enumerate(form.ragged_outputs)
    )
    listed = ", ".join(f"r{k}" for k in range(outputs))
    result = {"leaf": "r0", "tuple": f"({listed},)", "tree": f"unflatten([{listed}])"}[form.shape]
    return f"""
def make({", ".join(["stream", "extend", "otherwise", "still", "unflatten", *names])}):
    def record({", ".join([f"{a}=missing" for a in arguments] + ["/"] * bool(arguments) + ["*rest", "**kwargs"])}):
        if (
            {condition}
        ):
            code = len(stream)
            extend(({", ".join(record)},)){made}
            return {result}
        given = [a for a in ({", ".join(arguments)}{"," * bool(arguments)}) if a is not missing]
        return otherwise(*given, *rest, **kwargs)
    return record
"""
