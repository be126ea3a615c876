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
from bale.batching.trace.ref import Ref
from bale.batching.trace.tracer import Trace
from bale.batching.uses import is_exact

MISSING = object()
_PLAIN = (bool, type(None), str, int, float, torch.dtype)  # arguments that may be compared by type and value


@dataclass
class Pattern:
    """Python for the question whether a call has the arguments that a recorder was made for."""

    trace: Trace
    conditions: list[str] = field(default_factory=list)
    of_constants: list[str] = field(default_factory=list)  # asked last, for they note what they have not seen before
    parts: list[str] = field(default_factory=list)
    entries: list[str] = field(default_factory=list)
    names: dict[str, Any] = field(default_factory=dict)  # what the Python refers to

    def match(self, argument: Any, code: str, number_is_data: bool = False) -> bool:
        """Add the question whether the argument `code` is like `argument`; False where it cannot be asked."""
        kind = type(argument)
        if kind is Ref:
            if argument.length is not None or argument.trace is not self.trace:
                return False
            self.conditions.append(f"type({code}) is Ref and {code}.home is {self._name(argument.home)}")
            self.parts.append(f"{code}.part")
        elif id(argument) in self.trace.shared:
            self.conditions.append(f"{code} is {self._name(argument)}")
        elif kind is torch.Tensor:
            constants = self.trace.constants.kind_of(argument)
            self._entry(self._name(constants.indices.get), self._name(constants.see), f"id({code})", code)
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

    def match_call(self, args: tuple[Any, ...], kwargs: dict[str, Any], numbers_are_data: bool) -> bool:
        self.conditions.append("not rest")
        self.conditions.append(f"len(kwargs) == {len(kwargs)}" if kwargs else "not kwargs")
        self.conditions += [f"{name!r} in kwargs" for name in kwargs]
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
) -> Callable[..., Any] | None:
    """A function that records calls like `cell(*args, **kwargs)` and hands all others to `otherwise`, or None.

    None where such calls need a second look. The recorder is for this trace, and for the grad mode of now without
    autocast. `numbers_are_data`: Python numbers among `args` differ from call to call.
    """
    if not cell.plain or torch._C._is_any_autocast_enabled():
        return None
    pattern = Pattern(trace)
    if not pattern.match_call(args, kwargs, numbers_are_data):
        return None
    layout = trace.format(cell)
    homes = [trace.home(spec) for spec in cell.node_type.outputs]
    pattern.names |= {f"out{k}": home for k, home in enumerate(homes)}
    source = _source(
        len(args),
        (*pattern.conditions, *pattern.of_constants),
        (str(layout.type), *pattern.parts, *pattern.entries, *["0"] * layout.padding),
        len(homes),
        "leaf" if cell.out_spec.is_leaf() else "tuple" if cell.returns_tuple else "tree",
        torch.is_grad_enabled(),
        tuple(pattern.names),
    )
    return _factory(source)(
        **pattern.names,
        otherwise=otherwise,
        stream=trace.stream,
        extend=trace.stream.extend,
        unflatten=lambda flat: pytree.tree_unflatten(flat, cell.out_spec),
        Ref=Ref,
        missing=MISSING,
        grad_enabled=torch.is_grad_enabled,
        autocast=torch._C._is_any_autocast_enabled,
    )


def _source(
    arity: int, conditions: tuple[str, ...], record: tuple[str, ...], outputs: int, shape: str, grad: bool,
    names: tuple[str, ...],
) -> str:  # fmt: skip
    arguments = [f"a{k}" for k in range(arity)]
    condition = "\n            and ".join([("" if grad else "not ") + "grad_enabled()", "not autocast()", *conditions])
    made = "".join(
        f"""
            r{k} = Ref()
            r{k}.home = out{k}
            r{k}.part = {f"code + {k}" if k else "code"}
            r{k}.memory = None"""
        for k in range(outputs)
    )
    listed = ", ".join(f"r{k}" for k in range(outputs))
    result = {"leaf": "r0", "tuple": f"({listed},)", "tree": f"unflatten([{listed}])"}[shape]
    environment = (*names, "otherwise", "stream", "extend", "unflatten", "Ref", "missing", "grad_enabled", "autocast")
    return f"""
def make({", ".join(environment)}):
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
