"""Shadow: a copy of the module tree that records. The forward of a sample runs on it, so nothing real is patched.

Each shadow is an instance of a subclass of its module's own class with a copied `__dict__`; its `__call__` decides
between a cell (recorded), and Python to descend into. What a forward writes to attributes stays on the shadow and is
carried over to the real module when the call has succeeded.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from bale.batching.cells.probe import RefusalError, ValueReadInCellError
from bale.batching.cells.purity import Same, can_change, freeze, reads_of
from bale.batching.trace.arguments import UnknownArgumentError, leaves_of
from bale.batching.trace.cell_filter import CellFilter
from bale.batching.trace.identity import Member, function_attributes, identify, members, state_of
from bale.batching.trace.info import Children, ShadowInfo, Watched
from bale.batching.trace.probe_run import ProbeRun, lent_buffers
from bale.batching.trace.record import Options, record
from bale.batching.trace.ref import Ref
from bale.batching.trace.tracer import Tracer
from bale.batching.uses import version_of
from bale.errors import CellError

Promise = tuple[Any, Callable[[], Hashable], Hashable, str]  # see Tracer.promise

MAX_SHAPES = 4  # distinct operand shapes of one module before it is taken for Python that handles structure


def make_shadow(root: nn.Module, trace: Tracer, cells: CellFilter) -> Any:
    """The shadow of `root` and of everything below it; a module reachable twice has one shadow."""
    made: dict[int, ShadowInfo] = {}
    shadow = _make(root, trace, cells, "", made)
    info: ShadowInfo = shadow.__dict__["_bale_shadow"]
    info.is_root = True
    if not info.opaque:
        info.answer_quickly(partial(nn.Module.__call__, shadow))
    return shadow


def _make(real: nn.Module, trace: Tracer, cells: CellFilter, path: str, made: dict[int, ShadowInfo]) -> Any:
    if id(real) in made:
        return made[id(real)].shadow
    info = made[id(real)] = ShadowInfo(real, trace, cells, path)
    opaque = info.opaque
    shadow = object.__new__(_opaque_class() if opaque else _shadow_class(type(real)))
    info.shadow = shadow
    info.long_way = partial(_call, shadow)
    info.answer_calls(None)
    state = shadow.__dict__
    if opaque:
        nn.Module.__init__(shadow)
        state["_bale_shadow"] = info
        return shadow
    state.update(real.__dict__)
    state["_bale_shadow"] = info
    state["_parameters"] = Watched(info, real._parameters)
    state["_buffers"] = Watched(info, real._buffers)
    state["_modules"] = children = Children(info)
    for name, child in real._modules.items():
        if child is None:
            children.put(name, None)
            continue
        children.put(name, _make(child, trace, cells, f"{path}.{name}" if path else name, made))
        made[id(child)].parents.append(info)
    inner = state.get("_inner")
    if isinstance(inner, nn.Module):  # a batched model inside this one: its forward joins the trace
        state["_inner"] = _make(inner, trace, cells, path, made)
        made[id(inner)].is_root = True
    return shadow


@lru_cache(maxsize=1024)
def _shadow_class(cls: type[nn.Module]) -> type:
    return type(
        cls.__name__,
        (cls,),
        {
            "__slots__": ("__call__",),  # found in the instance, since each has a recorder of its own
            "__setattr__": _setattr,
            "__delattr__": _delattr,
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
            "__reduce_ex__": _no_pickle,
            "_bale_real_class": cls,
        },
    )


@lru_cache(maxsize=1)
def _opaque_class() -> type:
    return type("Opaque", (nn.Module,), {"__slots__": ("__call__",), "__getattr__": _opaque_getattr})


def _opaque_getattr(self: Any, name: str) -> Any:
    return getattr(self.__dict__["_bale_shadow"].real, name)


def _no_pickle(self: Any, protocol: Any) -> Any:
    raise CellError("a module cannot be copied or pickled while its batched forward is being recorded")


def _setattr(self: Any, name: str, value: Any) -> None:
    info: ShadowInfo = self.__dict__["_bale_shadow"]
    if info.trace.probing:
        raise RefusalError(f"it writes to its attribute `{name}`")
    super(type(self), self).__setattr__(name, value)
    info.written.add(name)
    info.touch()


def _delattr(self: Any, name: str) -> None:
    info: ShadowInfo = self.__dict__["_bale_shadow"]
    if info.trace.probing:
        raise RefusalError(f"it deletes its attribute `{name}`")
    super(type(self), self).__delattr__(name)
    info.written.add(name)
    info.touch()


def _call(self: Any, *args: Any, **kwargs: Any) -> Any:
    info: ShadowInfo = self.__dict__["_bale_shadow"]
    trace = info.trace
    if trace.probing:
        info.calls += 1
        if info.opaque:
            return info.real(*args, **kwargs)
        return nn.Module.__call__(self, *args, **kwargs)
    return call_module(info, args, kwargs)


def call_module(info: ShadowInfo, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Record the call as a cell's, or run the module's Python on what it was given."""
    if info.is_root:
        return _descend(info, args, kwargs, None)
    if info.head is not None and info.refusal is not None and not info.marked:
        return _descend(info, args, kwargs, info.refusal)  # whatever it is called with
    if not any(type(leaf) is Ref or isinstance(leaf, torch.Tensor) for leaf in leaves_of(args, kwargs)):
        return _descend(info, args, kwargs, "it is called with things that are no tensors")
    marked = info.marked
    if not marked and _has_list(args, kwargs):
        return _descend(info, args, kwargs, "it takes a list, whose length would be part of the type")
    if info.head is None:
        with torch._C.DisableTorchFunction():
            _identify(info)
    if info.refusal is None:
        try:
            return _record(info, args, kwargs)
        except (RefusalError, UnknownArgumentError) as error:
            reason, cause = str(error), error
    else:
        reason, cause = info.refusal, None
    if marked:
        kind = "reads values in Python" if isinstance(cause, ValueReadInCellError) else "cannot be a cell"
        raise info.trace.error(f"{info.title} is marked with bale.cell but {kind}: {reason}")
    return _descend(info, args, kwargs, reason)


def _record(info: ShadowInfo, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    assert info.options is not None
    with torch._C.DisableTorchFunction():
        head, promises = _head(info)
    outputs = record(info.trace, head, info.title, info.instance, args, kwargs, info.options)
    latest = info.trace.latest
    for promise in promises if latest is None or not latest.stateful else promises[1:]:
        info.trace.promise(*promise)
    if latest is not None:
        seen = tuple(seen for _, _, seen, _ in promises[1:])
        info.learn(latest, args, kwargs, None if info.holds_still else lambda: _is_still(info, seen))
    return outputs


def _is_still(info: ShadowInfo, seen: tuple[Hashable, ...]) -> bool:
    """Does the module hold in lists and the like, and read from outside, what it did when it was `seen`?"""
    try:
        return (tuple(freeze(value) for _, value in info.held), info.reads.now()) == seen
    except RefusalError:  # it holds a lazy value by now
        return False


def _head(info: ShadowInfo) -> tuple[Hashable, list[Promise]]:
    """The cell's identity, with what it reads from outside, and what must still hold of that when its calls run."""
    tensors, held, reads, title = info.tensors, info.held, info.reads, info.title
    versions = lambda: tuple(map(version_of, tensors))  # noqa: E731
    promises: list[Promise] = [(info, versions, versions(), f"a parameter or buffer of {title}")]
    if info.holds_still:
        return info.head, promises
    contents = lambda: tuple(freeze(value) for _, value in held)  # noqa: E731
    names = ", ".join(f"`{name}`" for name, _ in held)
    promises.append((held, contents, contents(), f"an attribute that {title} holds ({names})"))
    promises.append((reads, reads.now, reads.now(), f"a global or closure that {title} reads ({reads.names})"))
    return (info.head, *(seen for _, _, seen, _ in promises[1:])), promises


def _descend(info: ShadowInfo, args: tuple[Any, ...], kwargs: dict[str, Any], reason: str | None) -> Any:
    if reason is not None:
        info.trace.registry.descended.setdefault(info.title, reason)
    if info.opaque:
        raise info.trace.error(f"{info.title} is compiled or scripted and cannot be recorded: {reason}")
    if info.is_root:
        return nn.Module.__call__(info.shadow, *args, **kwargs)
    info.trace.inside.append(info.title)
    try:
        return nn.Module.__call__(info.shadow, *args, **kwargs)
    finally:
        info.trace.inside.pop()


def _has_list(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return any(
        isinstance(arg, list) and any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(arg))
        for arg in (*args, *kwargs.values())
    )


def _identify(info: ShadowInfo) -> None:
    """Settle, until an attribute is written, whether the module may be a cell, and under which identity."""
    info.refusal, info.head = None, ("cell", Same(info.real))
    inside = members(info)
    try:
        only_rows = _only_rows(info, inside)
        if not only_rows:
            info.reads = reads_of([type(info.real).forward, *function_attributes(info, inside)], type(info.real))
        info.instance, key = identify(info, inside)
        info.head = ("cell", key)
    except RefusalError as error:
        info.refusal = str(error)
        return
    info.options = Options(
        align=False, constants_may_be_ragged=True, only_rows=only_rows, module=info.instance,
        probe_function=ProbeRun(info), lend_state=lambda: lent_buffers(info),
        max_shapes=None if info.marked else MAX_SHAPES, is_whole=info.marked or _is_of_torch(info.real),
    )  # fmt: skip
    info.tensors = state_of(inside)
    info.held = [entry for member in inside for entry in member.own if can_change(entry[1])]


def _is_of_torch(module: nn.Module) -> bool:
    """Is it one of torch's own modules? Not a list of others, nor a loss: what these call is better recorded alone."""
    name = type(module).__module__
    return name.startswith("torch.nn.") and name not in ("torch.nn.modules.container", "torch.nn.modules.loss")


def _only_rows(info: ShadowInfo, inside: Sequence[Member]) -> str:
    """Why the module must be run through its own `__call__`, row by row; raises RefusalError where it is no cell."""
    if not info.cells.allows(info.real, info.path) and not info.marked:
        raise RefusalError("bale.batch(..., cells=...) leaves it out")
    for member in inside:
        real = member.module
        if real._backward_hooks or real._backward_pre_hooks:
            return "it has backward hooks, which see the gradients of one call at a time"
        if real._forward_hooks or real._forward_pre_hooks:
            raise RefusalError("it has forward hooks")
        if member.info.opaque:
            return "it is compiled or scripted"
        if isinstance(real, nn.modules.batchnorm._NormBase) and real.training and not real.track_running_stats:
            return "it normalises over the rows of one call"
    return ""
