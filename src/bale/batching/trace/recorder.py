"""How does a call whose type is known record itself, asking as little as possible?

A recorder is a Python function made for one type: it compares the homes of its arguments with those of the call that
made it, by identity, and writes the record. Any other call goes to the next recorder, and at last to the long way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch.utils import _pytree as pytree

from bale.batching.cells.celltype import CellType
from bale.batching.graph import Spec
from bale.batching.trace.ref import Ref
from bale.batching.trace.tracer import Home, Lengths, Trace
from bale.batching.uses import is_exact

MISSING = object()
MAX_LEAVES = 16  # of the arguments: compiling the question must not cost more than it saves
_PLAIN = (bool, type(None), str, int, float, torch.dtype)  # arguments that may be compared by type and value


@dataclass
class Pattern:
    """Python for the question whether a call has the arguments that a recorder was made for."""

    trace: Trace
    ragged: bool  # is a node several rows, as many as its ragged arguments have?
    conditions: list[str] = field(default_factory=list)
    of_constants: list[str] = field(default_factory=list)  # asked last, for they note what they have not seen before
    parts: list[str] = field(default_factory=list)
    entries: list[str] = field(default_factory=list)
    one_long: bool = False  # is there but one argument whose first axis can be ragged?
    names: dict[str, Any] = field(default_factory=dict)  # what the Python refers to

    def match(self, argument: Any, code: str, number_is_data: bool = False) -> bool:
        """Add the question whether the argument `code` is like `argument`; False where it cannot be asked."""
        kind = type(argument)
        if kind is Ref:
            if argument.trace is not self.trace:
                return False
            self._match_home(argument.home, code)
            self.parts.append(f"{code}.part")
        elif id(argument) in self.trace.shared:
            self.conditions.append(f"{code} is {self._name(argument)}")
        elif kind is torch.Tensor:
            return self._match_constant(argument, code)
        elif kind in (tuple, list):
            self.conditions.append(f"type({code}) is {kind.__name__} and len({code}) == {len(argument)}")
            return all(self.match(item, f"{code}[{k}]", number_is_data) for k, item in enumerate(argument))
        elif number_is_data and kind in (bool, int, float):
            self.conditions.append(f"type({code}) is {kind.__name__}")
            numbers = self.trace.constants
            self._entry(self._name(numbers.exact[kind].get), self._name(numbers.number), code, code)
        elif kind in _PLAIN and (kind is not float or is_exact(argument)):
            same = "is" if kind in (bool, type(None)) else "=="
            self.conditions.append(f"type({code}) is {self._name(kind)} and {code} {same} {self._name(argument)}")
        else:
            return False
        return True

    def _match_constant(self, tensor: torch.Tensor, code: str) -> bool:
        spec = self.trace.constants.kind_of(tensor).spec
        ragged = self.ragged and bool(spec.shape)
        if ragged:
            if not self.one_long:
                return False  # whether it is ragged depends on how long the others are
            spec = Spec(spec.shape[1:], spec.dtype, spec.device, spec.requires_grad, ragged=True)
        kind = self.trace.constants.kind(spec)
        self._entry(self._name(kind.indices.get), self._name(kind.see), f"id({code})", code)
        if ragged:
            self.of_constants.append(f"(length := {self._name(kind.lengths)}[{self.entries[-1]}])")
        return True

    def _match_home(self, home: Home, code: str) -> None:
        if not (self.ragged and home.length):
            self.conditions.append(f"type({code}) is Ref and {code}.home is {self._name(home)}")
            return
        known = "length :=" in " ".join(self.conditions)
        same = f"length == {code}.home.length" if known else f"(length := {code}.home.length)"
        self.conditions.append(f"type({code}) is Ref and {code}.home.spec is {self._name(home.spec)} and {same}")

    def match_call(self, args: tuple[Any, ...], kwargs: dict[str, Any], numbers_are_data: bool) -> bool:
        self.conditions.append("not rest")
        self.conditions.append(f"len(kwargs) == {len(kwargs)}" if kwargs else "not kwargs")
        self.conditions += [f"{name!r} in kwargs" for name in kwargs]
        leaves = pytree.tree_leaves((args, kwargs))
        if len(leaves) > MAX_LEAVES:
            return False
        own = [leaf for leaf in leaves if type(leaf) is Ref or type(leaf) is torch.Tensor]
        self.one_long = len(own) == 1 or sum(type(leaf) is Ref or leaf.dim() > 0 for leaf in own) == 1
        return all(self.match(arg, f"a{k}", numbers_are_data) for k, arg in enumerate(args)) and all(
            self.match(arg, f"kwargs[{name!r}]") for name, arg in kwargs.items()
        )

    def _entry(self, known: str, see: str, key: str, code: str) -> None:
        entry = f"k{len(self.entries)}"
        self.of_constants.append(f"(({entry} := {known}({key})) is not None or ({entry} := {see}({code})) is not None)")
        self.entries.append(entry)

    def _name(self, thing: Any) -> str:
        for name, known in self.names.items():
            if known is thing:
                return name
        name = f"n{len(self.names)}"
        self.names[name] = thing
        return name


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
    if not _is_straight(cell) or torch._C._is_any_autocast_enabled():
        return None
    pattern = Pattern(trace, cell.ragged)
    if not pattern.match_call(args, kwargs, numbers_are_data):
        return None
    if cell.ragged and "length :=" not in " ".join(pattern.conditions + pattern.of_constants):
        return None
    if still is not None:
        pattern.of_constants.append("still()")
        pattern.names["still"] = still
    layout, outputs = trace.format(cell), cell.node_type.outputs
    record = [str(layout.type), *pattern.parts, *pattern.entries]
    if not layout.fixed:
        record[1:] = ["length", *(number for part in pattern.parts for number in ("1", part)), *pattern.entries]
    record += ["0"] * (len(outputs) - len(record))
    pattern.names |= {
        f"out{k}": Lengths(trace, spec) if spec.ragged else trace.home(spec) for k, spec in enumerate(outputs)
    }
    shape = "leaf" if cell.out_spec.is_leaf() else "tuple" if cell.returns_tuple else "tree"
    environment = {
        **pattern.names,
        "otherwise": otherwise,
        "stream": trace.stream,
        "extend": trace.stream.extend,
        "unflatten": lambda flat: pytree.tree_unflatten(flat, cell.out_spec),
        "Ref": Ref,
        "missing": MISSING,
        "grad_enabled": torch.is_grad_enabled,
        "autocast": torch._C._is_any_autocast_enabled,
    }
    grad = "grad_enabled()" if torch.is_grad_enabled() else "not grad_enabled()"
    conditions = [grad, "not autocast()", *pattern.conditions, *pattern.of_constants]
    source = _source(tuple(environment), len(args), conditions, record, [spec.ragged for spec in outputs], shape)
    return _factory(source)(**environment)


def _is_straight(cell: CellType) -> bool:
    """Every output is a new tensor, and no call depends on another."""
    outputs = cell.outputs
    return (
        not cell.stateful
        and bool(outputs)
        and all(leaf.tensor is not None and leaf.same_as is None and leaf.view_of is None for leaf in outputs)
    )


def _source(
    names: tuple[str, ...], arity: int, conditions: list[str], record: list[str], ragged: list[bool], shape: str
) -> str:
    arguments = [f"a{k}" for k in range(arity)]
    condition = "\n            and ".join(conditions)
    made = "".join(
        f"""
            r{k} = Ref()
            r{k}.home = out{k}{"[length]" * is_ragged}
            r{k}.part = {f"code + {k}" if k else "code"}
            r{k}.memory = None"""
        for k, is_ragged in enumerate(ragged)
    )
    listed = ", ".join(f"r{k}" for k in range(len(ragged)))
    result = {"leaf": "r0", "tuple": f"({listed},)", "tree": f"unflatten([{listed}])"}[shape]
    return f"""
def make({", ".join(names)}):
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


@lru_cache(maxsize=4096)
def _factory(source: str) -> Callable[..., Any]:
    made: dict[str, Any] = {}
    exec(compile(source, "<bale recorder>", "exec"), made)
    return made["make"]
