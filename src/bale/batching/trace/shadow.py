"""Shadow: a copy of the module tree that records. The forward of a sample runs on it, so nothing real is patched.

Each shadow is an instance of a subclass of its module's own class with a copied `__dict__`; its `__call__` decides
between a cell (recorded), and Python to descend into. What a forward writes to attributes stays on the shadow and is
carried over to the real module when the call has succeeded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator
from functools import cached_property, lru_cache, partial
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from bale.batching.cells.celltype import CellType
from bale.batching.cells.probe import RefusalError, ValueReadInCellError
from bale.batching.cells.purity import Reads, Same, can_change, freeze, reads_of
from bale.batching.trace.containers import INTERNAL, attributes, containers, restore
from bale.batching.trace.record import Options, UnknownArgumentError, record
from bale.batching.trace.recorder import make_recorder
from bale.batching.trace.ref import Ref
from bale.batching.trace.tracer import Trace
from bale.batching.uses import version_of
from bale.errors import CellError

Promise = tuple[Any, Callable[[], Hashable], Hashable, str]  # see Trace.promise

MAX_RECORDERS = 8  # of one module: each asks its question before the next does
MAX_SHAPES = 4  # distinct operand shapes of one module before it is taken for Python that handles structure
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_BACKWARD_HOOKS = ("_backward_hooks", "_backward_pre_hooks")


class ShadowInfo:
    """What the recorder knows of one module in one call."""

    def __init__(self, real: nn.Module, trace: Trace, cells: CellFilter, path: str):
        self.real, self.trace, self.cells, self.path = real, trace, cells, path
        self.parents: list[ShadowInfo] = []
        self.shadow: Any = None
        self.written: set[str] = set()
        self.changed = False  # it, or a module inside it, differs from the real one
        self.is_root = False
        self.opaque = _is_opaque(real)
        self.head: Hashable = None
        self.refusal: str | None = None
        self.options: Options | None = None
        self.reads = Reads(())
        self.recorder: Callable[..., Any] | None = None  # takes calls that need no second look
        self.recorders = 0
        self.held: list[tuple[str, Any]] = []  # attributes whose content can change in place
        self.instance: nn.Module = real
        self.calls = 0
        self.title = f"{path} ({type(real).__name__})" if path else type(real).__name__

    @cached_property
    def marked(self) -> bool:
        """Did the user say that it is a cell?"""
        return getattr(self.real, "_bale_cell", False) is True

    @property
    def holds_still(self) -> bool:
        """Nothing that it reads can change without a word to the shadow."""
        return not self.held and not self.reads.sources

    def answer_calls(self, recorder: Callable[..., Any] | None) -> None:
        """Let `recorder` answer the calls of the shadow, or else the long way."""
        object.__setattr__(self.shadow, "__call__", recorder or partial(_call, self.shadow))

    def learn(
        self, cell: CellType, args: tuple[Any, ...], kwargs: dict[str, Any], still: Callable[[], bool] | None
    ) -> None:
        """Calls like `cell(*args, **kwargs)` need no second look from here on, or while `still` says so."""
        if self.recorders == MAX_RECORDERS:
            return
        otherwise = self.recorder or partial(_call, self.shadow)
        recorder = make_recorder(self.trace, cell, args, kwargs, otherwise, still=still)
        if recorder is not None:
            if self.recorder is None:
                self.trace.recorders.append(self)
            self.recorder = recorder
            self.recorders += 1
            self.answer_calls(recorder)

    def forget_recorder(self) -> None:
        if self.recorder is not None:
            self.recorder, self.recorders = None, 0
            self.trace.recorders.remove(self)
            self.answer_calls(None)

    def touch(self) -> None:
        """An attribute was written: calls from here on are of another cell."""
        self.changed, self.head = True, None
        self.forget_recorder()
        for parent in self.parents:
            parent.touch()


class Watched(dict):  # type: ignore[type-arg]
    """Parameters or buffers of a shadow: torch.func.functional_call swaps them without a word to the module."""

    def __init__(self, info: ShadowInfo, content: Any):
        super().__init__(content)
        self.info = info

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self.info.touch()

    def lend(self, content: Any) -> None:
        """Replace the content for a while, unnoticed."""
        super().update(content)


class Children(dict):  # type: ignore[type-arg]
    """The modules inside a shadow. Each stands in the shadow's `__dict__` too, where Python finds it at once."""

    def __init__(self, info: ShadowInfo):
        super().__init__()
        self.info = info

    def put(self, name: str, child: Any) -> None:
        """The shadow of a child that the real module has under this name."""
        super().__setitem__(name, child)
        cls, state = type(self.info.real), self.info.shadow.__dict__
        if child is not None and name not in state and not hasattr(cls, name) and _looks_up_as_torch(cls):
            state[name] = child

    def _drop(self, name: str) -> None:
        self.info.shadow.__dict__.pop(name, None)
        self.info.touch()

    def __setitem__(self, name: str, child: Any) -> None:
        super().__setitem__(name, child)
        self._drop(name)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self._drop(name)

    def pop(self, name: str, *default: Any) -> Any:
        self._drop(name)
        return super().pop(name, *default)

    def clear(self) -> None:
        for name in list(self):
            del self[name]

    def update(self, *args: Any, **kwargs: Any) -> None:
        for name, child in dict(*args, **kwargs).items():
            self[name] = child


def _looks_up_as_torch(cls: type[nn.Module]) -> bool:
    return cls.__getattr__ is nn.Module.__getattr__ and cls.__getattribute__ is object.__getattribute__


class CellFilter:
    """Which modules may be cells: those that `cells` lists (instances, classes or paths), or all."""

    def __init__(self, cells: Any = None):
        self.given = None if cells is None else tuple(cells)
        for cell in self.given or ():
            if not isinstance(cell, (str, nn.Module)) and not (isinstance(cell, type) and issubclass(cell, nn.Module)):
                raise CellError(f"cells= lists modules, module classes or paths such as 'encoder.leaf'; got {cell!r}")

    def moved(self, model: nn.Module, copy: nn.Module) -> CellFilter:
        """The same filter for a copy of `model`: modules that it lists are found by their paths."""
        if self.given is None:
            return self
        paths = {id(module): path for path, module in model.named_modules()}
        copies = dict(copy.named_modules())
        return CellFilter(
            [copies[paths[id(c)]] if isinstance(c, nn.Module) and id(c) in paths else c for c in self.given]
        )

    def allows(self, module: nn.Module, path: str) -> bool:
        if self.given is None:
            return True
        return any(
            cell == path
            if isinstance(cell, str)
            else module is cell or (isinstance(cell, type) and type(module) is cell)
            for cell in self.given
        )


def make_shadow(root: nn.Module, trace: Trace, cells: CellFilter) -> Any:
    """The shadow of `root` and of everything below it; a module reachable twice has one shadow."""
    made: dict[int, ShadowInfo] = {}
    shadow = _make(root, trace, cells, "", made)
    shadow.__dict__["_bale_shadow"].is_root = True
    return shadow


def _make(real: nn.Module, trace: Trace, cells: CellFilter, path: str, made: dict[int, ShadowInfo]) -> Any:
    if id(real) in made:
        return made[id(real)].shadow
    info = made[id(real)] = ShadowInfo(real, trace, cells, path)
    opaque = info.opaque
    shadow = object.__new__(_opaque_class() if opaque else _shadow_class(type(real)))
    info.shadow = shadow
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


def _is_opaque(module: nn.Module) -> bool:
    """ScriptModules and compiled modules cannot be run on a shadow."""
    return isinstance(module, torch.jit.ScriptModule) or hasattr(module, "_orig_mod")


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
    leaves = pytree.tree_leaves((args, kwargs))
    if not any(isinstance(leaf, torch.Tensor) for leaf in leaves):
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
    tensors, held, reads, title = tuple(_state(info)), info.held, info.reads, info.title
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


def subtree(info: ShadowInfo) -> Iterator[Any]:
    """The shadows of a module and of all that it holds, each once."""
    seen: set[int] = set()
    pending = [info.shadow]
    while pending:
        shadow = pending.pop()
        if id(shadow) in seen:
            continue
        seen.add(id(shadow))
        yield shadow
        pending += [child for child in shadow._modules.values() if child is not None]


def identify(info: ShadowInfo) -> tuple[nn.Module, Hashable]:
    """The module to run later for calls recorded now, and a key for everything it depends on."""
    return (_plain_copy(info.shadow, {}) if info.changed else info.real), fingerprint(info)


def _identify(info: ShadowInfo) -> None:
    """Settle, until an attribute is written, whether the module may be a cell, and under which identity."""
    info.refusal, info.head = None, ("cell", Same(info.real))
    try:
        only_rows = _only_rows(info)
        if not only_rows:
            info.reads = reads_of([type(info.real).forward, *_function_attributes(info)], type(info.real))
        info.instance, key = identify(info)
        info.head = ("cell", key)
    except RefusalError as error:
        info.refusal = str(error)
        return
    info.options = Options(
        align=False, constants_may_be_ragged=True, only_rows=only_rows, module=info.instance,
        probe_function=ProbeRun(info), lend_state=lambda: _lent_buffers(info),
        max_shapes=None if info.marked else MAX_SHAPES,
    )  # fmt: skip
    info.held = [
        (key, value) for shadow in subtree(info) for key, value in attributes(_live(shadow)) if can_change(value)
    ]


@contextlib.contextmanager
def _lent_buffers(info: ShadowInfo) -> Iterator[list[torch.Tensor]]:
    """Give the shadows buffers of their own while they are probed, so that nothing real is written."""
    kept = [(shadow, dict(shadow._buffers)) for shadow in subtree(info)]
    copies: dict[int, torch.Tensor] = {}
    try:
        for shadow, buffers in kept:
            for name, buffer in buffers.items():
                if buffer is not None:
                    _lend(shadow, {name: copies.setdefault(id(buffer), buffer.clone())})
        yield list(copies.values())
    finally:
        for shadow, buffers in kept:
            _lend(shadow, buffers)


def _lend(shadow: Any, buffers: dict[str, Any]) -> None:
    if isinstance(shadow._buffers, Watched):
        shadow._buffers.lend(buffers)


def _state(info: ShadowInfo) -> Iterator[torch.Tensor]:
    for shadow in subtree(info):
        module = _live(shadow)
        yield from (t for t in (*module._parameters.values(), *module._buffers.values()) if isinstance(t, torch.Tensor))


def _only_rows(info: ShadowInfo) -> str:
    """Why the module must be run through its own `__call__`, row by row; raises RefusalError where it is no cell."""
    if not info.cells.allows(info.real, info.path) and not info.marked:
        raise RefusalError("bale.batch(..., cells=...) leaves it out")
    for shadow in subtree(info):
        real = _live(shadow)
        if any(getattr(real, hooks) for hooks in _BACKWARD_HOOKS):
            return "it has backward hooks, which see the gradients of one call at a time"
        if any(getattr(real, hooks) for hooks in _HOOKS):
            raise RefusalError("it has forward hooks")
        if _is_opaque(real):
            return "it is compiled or scripted"
        if isinstance(real, nn.modules.batchnorm._NormBase) and real.training and not real.track_running_stats:
            return "it normalises over the rows of one call"
    return ""


def _live(shadow: Any) -> nn.Module:
    """The real module where it is opaque (its shadow is empty), else the shadow."""
    info: ShadowInfo = shadow.__dict__["_bale_shadow"]
    return info.real if info.opaque else shadow


def _function_attributes(info: ShadowInfo) -> Iterator[Any]:
    for shadow in subtree(info):
        module = _live(shadow)
        if module is not info.shadow:
            yield type(shadow.__dict__["_bale_shadow"].real).forward
        yield from (value for _, value in attributes(module) if callable(value))


def fingerprint(info: ShadowInfo) -> Hashable:
    """Everything about a module that its result depends on besides its arguments, except the numbers in its tensors."""
    parts: list[Hashable] = []
    for shadow in subtree(info):
        module, real = _live(shadow), shadow.__dict__["_bale_shadow"].real
        parts.append(Same(real))
        parts += [_tensor_key(t) for t in (*module._parameters.values(), *module._buffers.values())]
        parts += [(key, freeze(value)) for key, value in attributes(module)]
        parts += [(key, freeze(value)) for key, value in _class_constants(type(real))]
    return tuple(parts)


def _tensor_key(tensor: torch.Tensor | None) -> Hashable:
    if tensor is None:
        return None
    if type(tensor) is Ref:
        raise RefusalError("it holds a lazy value as a parameter or buffer")
    return Same(tensor), tuple(tensor.shape), tensor.dtype, tensor.device, tensor.requires_grad


def _class_constants(cls: type) -> Iterator[tuple[str, Any]]:
    for base in cls.__mro__[: cls.__mro__.index(nn.Module)]:
        if base.__module__.startswith("torch."):
            continue
        for key, value in vars(base).items():
            if not key.startswith("__") and isinstance(value, (int, float, str, tuple, list, dict, set)):
                yield key, value


def _plain_copy(shadow: Any, made: dict[int, Any]) -> Any:
    """A module of the real class in the state that the shadow is in now: the cell as it was when it was called."""
    if id(shadow) in made:
        return made[id(shadow)]
    info: ShadowInfo = shadow.__dict__["_bale_shadow"]
    if info.opaque:
        return info.real
    copy = made[id(shadow)] = object.__new__(type(info.real))
    copy.__dict__.update({k: v for k, v in shadow.__dict__.items() if k in INTERNAL and k != "_bale_shadow"})
    copy.__dict__.update(attributes(shadow))
    copy.__dict__["_parameters"] = dict(shadow._parameters)
    copy.__dict__["_buffers"] = dict(shadow._buffers)
    copy.__dict__["_modules"] = {
        name: None if child is None else _plain_copy(child, made) for name, child in shadow._modules.items()
    }
    return copy


class ProbeRun:
    """The module's own Python on its shadow, watched: run on fake tensors, with buffers of its own."""

    def __init__(self, info: ShadowInfo):
        self.info = info

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        info, trace = self.info, self.info.trace
        if info.opaque:
            return info.real(*args, **kwargs)
        shadows = [shadow for shadow in subtree(info) if not shadow.__dict__["_bale_shadow"].opaque]
        trace.iterated = False
        for shadow in shadows:
            shadow.__dict__["_bale_shadow"].calls = 0
        before = containers(shadows)
        try:
            outputs = nn.Module.__call__(info.shadow, *args, **kwargs)
        finally:
            changed = restore(before)
        if changed:
            raise RefusalError("it changes a list, dict or set that it holds")
        if not info.marked:
            self._refuse_structure(shadows)
        return outputs

    def _refuse_structure(self, shadows: list[Any]) -> None:
        if self.info.trace.iterated:
            raise RefusalError("it iterates over an axis of a tensor")
        for shadow in shadows:
            inner: ShadowInfo = shadow.__dict__["_bale_shadow"]
            if inner.calls > 1 and next(inner.real.parameters(), None) is not None:
                raise RefusalError(f"it calls {inner.title} {inner.calls} times")
