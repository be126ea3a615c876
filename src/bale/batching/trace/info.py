"""ShadowInfo: what the recorder knows of one module in one call, and how it hears of changes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cached_property
from typing import Any

import torch
from torch import nn

from bale.batching.cells.celltype import CellType
from bale.batching.cells.purity import Reads
from bale.batching.trace.cell_filter import CellFilter
from bale.batching.trace.record import Options
from bale.batching.trace.recorder import make_recorder
from bale.batching.trace.tracer import Tracer

MAX_RECORDERS = 8  # of one module: each asks its question before the next does


class ShadowInfo:
    """What the recorder knows of one module in one call."""

    def __init__(self, real: nn.Module, trace: Tracer, cells: CellFilter, path: str):
        self.real, self.trace, self.cells, self.path = real, trace, cells, path
        self.parents: list[ShadowInfo] = []
        self.shadow: Any = None
        self.long_way: Callable[..., Any] = real  # what looks at every call
        self.written: set[str] = set()
        self.changed = False  # it, or a module inside it, differs from the real one
        self.is_root = False
        self.opaque = is_opaque(real)
        self.head: Hashable = None
        self.refusal: str | None = None
        self.options: Options | None = None
        self.reads = Reads(())
        self.recorder: Callable[..., Any] | None = None  # takes calls that need no second look
        self.recorders = 0
        self.held: list[tuple[str, Any]] = []  # attributes whose content can change in place
        self.tensors: tuple[torch.Tensor, ...] = ()  # parameters and buffers, of what is inside too
        self.instance: nn.Module = real
        self.calls = 0
        self.title = f"{path} ({type(real).__name__})" if path else type(real).__name__

    @cached_property
    def marked(self) -> bool:
        """Did the user say that it is a cell?"""
        mark = vars(self.real).get("_bale_cell")  # what is not there, nn.Module would look for at length
        return (getattr(type(self.real), "_bale_cell", False) if mark is None else mark) is True

    @property
    def holds_still(self) -> bool:
        """Nothing that it reads can change without a word to the shadow."""
        return not self.held and not self.reads.sources

    def answer_calls(self, recorder: Callable[..., Any] | None) -> None:
        """Let `recorder` answer the calls of the shadow, or else the long way."""
        object.__setattr__(self.shadow, "__call__", recorder or self.long_way)

    def learn(
        self, cell: CellType, args: tuple[Any, ...], kwargs: dict[str, Any], still: Callable[[], bool] | None
    ) -> None:
        """Calls like `cell(*args, **kwargs)` need no second look from here on, or while `still` says so."""
        if self.recorders == MAX_RECORDERS:
            return
        otherwise = self.recorder or self.long_way
        recorder = make_recorder(self.trace, cell, args, kwargs, otherwise, still=still)
        if recorder is not None:
            self.recorders += 1
            self.answer_quickly(recorder)

    def answer_quickly(self, recorder: Callable[..., Any]) -> None:
        """Let `recorder` answer the calls of the shadow while no module is probed."""
        if self.recorder is None:
            self.trace.recorders.append(self)
        self.recorder = recorder
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


def is_opaque(module: nn.Module) -> bool:
    """ScriptModules and compiled modules cannot be run on a shadow."""
    if isinstance(module, torch.jit.ScriptModule):
        return True
    if _looks_up_as_torch(type(module)) and "_orig_mod" not in module._modules:
        return "_orig_mod" in vars(module) or hasattr(type(module), "_orig_mod")
    return hasattr(module, "_orig_mod")
