"""FunctionCell: a function that `bale.cell` marked. Recorded inside a traced forward, itself elsewhere."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Any

from torch import nn

from bale.batching.cells.probe import RefusalError
from bale.batching.cells.purity import Reads, Same, freeze, reads_of
from bale.batching.trace.arguments import UnknownArgumentError
from bale.batching.trace.identity import identify, members
from bale.batching.trace.info import ShadowInfo
from bale.batching.trace.record import Options, record
from bale.batching.trace.tracer import Tracer, current_trace


class FunctionCell:
    """Callable as the function; bound to a module when it is one of its methods."""

    def __init__(self, function: Callable[..., Any]):
        self.function = function

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        trace = current_trace()
        if trace is None or trace.probing:
            return self.function(*args, **kwargs)
        name = getattr(self.function, "__qualname__", repr(self.function))
        try:
            if args and isinstance(args[0], nn.Module):
                return self._record_method(trace, name, args, kwargs)
            reads = reads_of([self.function])
            head = ("function", Same(self.function), freeze(self.function), self._read(trace, name, reads))
            return record(trace, head, name, self.function, args, kwargs, Options(align=False))
        except (RefusalError, UnknownArgumentError) as error:
            raise trace.error(f"{name} is marked with bale.cell but cannot be a cell: {error}") from error

    def _record_method(self, trace: Tracer, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        info: ShadowInfo | None = vars(args[0]).get("_bale_shadow")
        if info is None:
            raise RefusalError("it is a method of a module that is not part of the batched model")
        instance, key = identify(info, members(info))
        reads = reads_of([self.function], type(info.real))
        head = ("method", Same(self.function), key, self._read(trace, name, reads))
        options = Options(align=False, module=instance, probe_function=functools.partial(self.function, args[0]))
        return record(trace, head, name, functools.partial(self.function, instance), args[1:], kwargs, options)

    def _read(self, trace: Tracer, name: str, reads: Reads) -> Hashable:
        seen = reads.now()
        trace.promise(self, reads.now, seen, f"a global or closure that {name} reads ({reads.names})")
        return seen
