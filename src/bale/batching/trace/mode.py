"""TraceMode: sees every torch function of a traced forward, and says which are recorded and which run at once."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from bale.batching.trace.functions import (
    PROPERTIES,
    READS_ARGUMENTS,
    dispatch,
    is_in_place,
    quick_functions,
    refuse_read,
)
from bale.batching.trace.names import CANONICAL, name_of
from bale.batching.trace.recording import Switch
from bale.batching.trace.ref import Ref
from bale.batching.trace.tracer import Tracer


class TraceMode(TorchFunctionMode):
    """Sees every torch function of a traced forward, also those that only touch parameters."""

    def __init__(self, trace: Tracer):
        super().__init__()
        self.trace = trace
        trace.functions.update(quick_functions(trace))
        # torch finds it before the method: what most calls come to needs no Python
        self.__torch_function__ = Switch(Ref, trace, self.__torch_function__)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.trace.probing:
            if func is Tensor.unbind and sys._getframe(1).f_code.co_name == "__iter__":
                self.trace.iterated = True
            if func in _ASKS_LENGTH and not _who_asks(sys._getframe(1)).startswith(_NO_USERS):
                with torch._C.DisableTorchFunction():
                    dim = args[1] if len(args) > 1 else kwargs.get("dim")
                    if dim in (None, 0, -args[0].dim()):
                        self.trace.asked_lengths.update(args[0].shape[:1])
            return func(*args, **kwargs)
        if func in READS_ARGUMENTS and args and _is_of_numbers(args[0]):  # words, for each sample
            return func(*args, **kwargs)
        if Ref in types or any(type(a) is Ref for a in args):
            recorder = self.trace.functions.get(CANONICAL.get(func, func))
            return dispatch(func, args, kwargs) if recorder is None else recorder(*args, **kwargs)
        if func in _TAKES_APART and isinstance(args[0], Tensor):
            rows = func(*args, **kwargs)
            self.trace.constants.add_rows(args[0], rows)
            return rows
        if _is_getter(func) and not _is_recorded_getter(func):
            if name_of(func) == "__set__" and isinstance(args[0], Tensor):  # `x.data = y`
                self.trace.before_write(args[0])
            return func(*args, **kwargs)
        if func in READS_ARGUMENTS and _has_ref(args):
            return refuse_read(args[0], "torch.tensor() and its like")
        name = name_of(func)
        if is_in_place(func, name) and not _has_ref((args, kwargs)):
            written = args[0] if args and isinstance(args[0], Tensor) else None
            if written is not None:
                self.trace.before_write(written)
            return func(*args, **kwargs)  # on real tensors, at once
        if name == "__setitem__" and isinstance(args[0], Tensor):
            self.trace.before_write(args[0])
            return func(*args, **kwargs)
        if any(map(self._is_recorded, args)) and name not in _PLAIN:
            return dispatch(func, args, kwargs)
        return func(*args, **kwargs)

    def _is_recorded(self, arg: Any) -> bool:
        if isinstance(arg, Tensor):
            return id(arg) in self.trace.shared or arg.requires_grad
        return isinstance(arg, (list, tuple)) and any(map(self._is_recorded, arg))


# What tells a module how long a tensor is. Torch's own code may ask: what it computes does not depend on that.
_NO_USERS = ("torch.", "bale.batching.")
_ASKS_LENGTH = frozenset((Tensor.size, Tensor.__len__, Tensor.numel, torch.numel, Tensor.shape.__get__))  # type: ignore[attr-defined]
_TAKES_APART = frozenset((Tensor.unbind, torch.unbind))

# Functions that answer at once on real tensors, parameters among them.
_PLAIN = frozenset(
    "size dim numel nelement stride is_contiguous is_floating_point is_complex is_signed element_size get_device "
    "__len__ __hash__ __repr__ __format__ __bool__ __float__ __int__ __index__ item tolist numpy __array__ storage "
    "untyped_storage data_ptr __reduce_ex__ __deepcopy__ register_hook requires_grad_ retain_grad backward "
    "is_same_size is_inference type ndimension storage_offset has_names __contains__ __setstate__ "
    "is_shared share_memory_ broadcast_shapes __dlpack__ is_distributed rename result_type _is_view".split()
)


def _who_asks(frame: FrameType | None) -> str:
    """The module whose Python called a torch function, which may be a function of Python itself."""
    while frame is not None and frame.f_globals.get("__name__") in ("torch._tensor", "torch.overrides"):
        frame = frame.f_back
    return "" if frame is None else frame.f_globals.get("__name__", "")


def _is_getter(func: Any) -> bool:
    return name_of(func) in ("__get__", "__set__", "__delete__")


def _is_recorded_getter(func: Any) -> bool:
    return name_of(func) == "__get__" and getattr(getattr(func, "__self__", None), "__name__", "") in PROPERTIES


def _is_of_numbers(tree: Any) -> bool:
    return type(tree) in (list, tuple) and set(map(type, tree)) <= _NUMBERS


def _has_ref(tree: Any) -> bool:
    if type(tree) is list or type(tree) is tuple:
        kinds = set(map(type, tree))
        return Ref in kinds or (not kinds <= _LEAVES and any(map(_has_ref, tree)))
    return any(type(leaf) is Ref for leaf in pytree.tree_leaves(tree))


_NUMBERS = frozenset((int, float, bool))
_LEAVES = _NUMBERS | {str, type(None), Tensor}
