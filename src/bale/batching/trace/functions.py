"""What happens to a torch function that meets a lazy value: recorded, answered, rebound (in place), or refused."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch.autograd.function import Function
from torch.utils import _pytree as pytree

from bale.batching.cells.probe import RefusalError, ValueReadInCellError
from bale.batching.trace import ragged, rows
from bale.batching.trace.arguments import UnknownArgumentError, leaves_of
from bale.batching.trace.deferred import deferred_in
from bale.batching.trace.indexing import basic_index, getitem, pick, pick_of
from bale.batching.trace.location import user_line
from bale.batching.trace.names import ARITHMETIC, CANONICAL, SIZED, name_of
from bale.batching.trace.nodes import lift
from bale.batching.trace.record import Options, record
from bale.batching.trace.recorder import make_recorder
from bale.batching.trace.ref import Ref, rows_of
from bale.batching.trace.tracer import Tracer, current_trace
from bale.errors import TraceError, ValueReadError

Tensor = torch.Tensor

MAX_RECORDERS = 16  # of one function: each asks its question before the next does

_READS = frozenset("item tolist numpy __array__ __bool__ __float__ __int__ __index__ __contains__ cpu_numpy".split())
_REFUSED = {
    "backward": "call backward() on what the batched model returns",
    "grad": "differentiate what the batched model returns",
    "retain_grad": "keep the gradients of what the batched model returns",
    "register_hook": "register the hook on a parameter, or on what the batched model returns",
    "register_post_accumulate_grad_hook": "register the hook on a parameter",
    "requires_grad_": "use detach() to cut gradients, or parameters for what is trained",
    "set_": "make a new value instead",
    "resize_": "make a new value instead",
    "storage": "a lazy value has no memory yet",
    "untyped_storage": "a lazy value has no memory yet",
    "data_ptr": "a lazy value has no memory yet",
    "__setitem__": "build the value with torch.stack, torch.cat or torch.where instead",
    "share_memory_": "a lazy value has no memory yet",
}
READS_ARGUMENTS = frozenset(
    f for f in (torch.tensor, torch.as_tensor, torch.asarray, torch.from_numpy, np.asarray) if f is not None
)
PROPERTIES = ("T", "mT", "H", "mH", "real", "imag")
_FILLS = frozenset(
    "zero_ fill_ normal_ uniform_ exponential_ bernoulli_ random_ cauchy_ geometric_ log_normal_".split()
)
_RESHAPES = frozenset("squeeze_ unsqueeze_ t_ transpose_ swapaxes_ swapdims_ detach_".split())


def refuse_read(ref: Ref, how: str) -> Any:
    """Raises: the numbers of a lazy value are not known while its forward runs."""
    trace = current_trace()
    if trace is None:
        raise TraceError(f"{_at()}{how} of a lazy value outside the forward that made it; it has no numbers. {_RETURN}")
    if trace.probing:
        raise ValueReadInCellError(f"it needs {how} of a value that is not among its arguments")
    raise trace.error(
        f"{how} needs the numbers of a lazy value, and they are computed only after every sample's forward has run. "
        "Decide on the structure of the sample instead, or use torch.where; return the value to read it afterwards.",
        ValueReadError,
    )


_RETURN = "Return it from the forward, and use the tensor that the batched model gives you."


def _at() -> str:
    line = user_line()
    return f"{line}: " if line else ""


def attribute(ref: Ref, name: str) -> Any:
    """`ref.name` for what Ref does not define itself: a property or a method of torch.Tensor."""
    if name in PROPERTIES:
        return dispatch(getattr(Tensor, name).__get__, (ref,), {})
    if name in ("grad", "grad_fn"):
        trace = current_trace()
        where = f"{trace.where()}: " if trace else _at()
        raise TraceError(f"{where}a lazy value has no `{name}` yet. {_RETURN}")
    function = getattr(Tensor, name, None)
    if function is None or not callable(function):
        raise AttributeError(f"'Tensor' object has no attribute '{name}'")
    return partial(_method, function, ref)


def _method(function: Callable[..., Any], ref: Ref, *args: Any, **kwargs: Any) -> Any:
    return dispatch(function, (ref, *args), kwargs)


def dispatch(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Record `func(*args, **kwargs)`, some of whose arguments are lazy."""
    trace = current_trace()
    if trace is None:
        if name_of(func) in _READS:
            return refuse_read(args[0], f".{name_of(func)}()")
        raise TraceError(f"{_at()}a lazy value of a finished call is used; it has no numbers any more. {_RETURN}")
    if trace.probing:
        raise RefusalError("it uses a lazy value that is not among its arguments")
    func = CANONICAL.get(func, func)
    name = name_of(func)
    if name in _READS:
        return refuse_read(args[0], f".{name}()")
    if func in READS_ARGUMENTS:
        return refuse_read(args[0], f"torch.{name}()")
    if name in _REFUSED:
        raise trace.error(f"`{name}` cannot be done to a lazy value: {_REFUSED[name]}")
    if name == "__set__" or kwargs.get("out") is not None:
        raise trace.error("a lazy value cannot be written into a tensor that exists (`out=`, `.data`): give it a name")
    if is_in_place(func, name):
        return _in_place(trace, func, name, args, kwargs)
    if "inplace" in _parameters(func):
        return _inplace_flag(trace, func, name, args, kwargs)
    return _apply(trace, func, name, args, kwargs)


def quick_functions(trace: Tracer) -> dict[Any, Callable[..., Any]]:
    """What records stacks and reductions at once where it can, and else dispatches them."""
    quick = {function: ragged.quick_gather(trace, name, partial(_dispatch, function)) for name, function in _GATHERS}
    return {**quick, Tensor.unbind: _unbind_rows}


def _unbind_rows(tensor: Any, *args: Any, **kwargs: Any) -> Any:
    if type(tensor) is Ref and not args and not kwargs and tensor.ndim and tensor.home.deferred is None:
        return tuple(rows_of(tensor))
    return dispatch(Tensor.unbind, (tensor, *args), kwargs)


_GATHERS = [(name, getattr(torch, name)) for name in ("stack", *ragged.REDUCTIONS)]


def _apply(trace: Tracer, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if trace.deferrals and next(deferred_in((args, kwargs)), None) is not None:
        if name == "__getitem__":
            return _pick(trace, *args)
        return _record(trace, func, name, args, kwargs)
    if name == "__getitem__":
        return _index(trace, args)
    special = _SPECIAL.get(name)
    if special is not None:
        result = special(trace, *args, **kwargs)
        if result is not ragged.PASS:
            return result
    if name in ragged.REDUCED:
        result = ragged.reduce(trace, name, args[0], args[1:], kwargs)
        if result is not ragged.PASS:
            return result
    return _record(trace, func, name, args, kwargs)


def _pick(trace: Tracer, tensor: Any, index: Any) -> Any:
    function, name, arguments = pick_of(tensor, index)
    picked = _record(trace, function, name, arguments, {})
    if function is pick and type(picked) is Ref:  # a view in the per-sample program
        picked.share_memory_with(tensor)
    return picked


def _index(trace: Tracer, args: tuple[Any, ...]) -> Any:
    result = getitem(trace, *args)
    if type(result) is Ref:
        return result
    function, arguments = result
    recorder = trace.functions.get(function) if function is basic_index else None  # others would come back here
    ref = recorder(*arguments) if recorder else _record(trace, function, name_of(function), arguments, {})
    if function is basic_index:  # a view in the per-sample program
        ref.share_memory_with(args[0])
    return ref


def _record(trace: Tracer, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if trace.outer_grad and not torch.is_grad_enabled():
        _refuse_custom_function(trace)
    args, kwargs = pytree.tree_map_only(np.ndarray, _copied, (args, kwargs))
    if name == "__get__":
        name = func.__self__.__name__
        func = getter(name)
    try:
        result = record_function(trace, func, name, args, kwargs)
    except UnknownArgumentError as error:
        raise trace.error(f"{name} is called with {error}, which a recorded computation cannot hold") from error
    except ValueReadInCellError as error:
        raise trace.error(
            f"{name}: {error}; the numbers of a lazy value are known only after every sample's forward has run",
            ValueReadError,
        ) from error
    except RefusalError as error:
        raise trace.error(f"{name} cannot be recorded: {error}") from error
    _learn(trace, func, args, kwargs, name in ARITHMETIC)
    return result


def _learn(trace: Tracer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], numbers_are_data: bool) -> None:
    """Calls like this one need no second look from here on; all that was asked of it follows from its Specs."""
    cell = trace.latest
    without_grad = trace.outer_grad and not torch.is_grad_enabled()  # where each call is asked where it comes from
    if cell is None or without_grad or trace.learned[func] == MAX_RECORDERS:
        return
    otherwise = trace.functions.get(func) or partial(_dispatch, func)
    recorder = make_recorder(trace, cell, args, kwargs, otherwise, numbers_are_data)
    if recorder is not None:
        trace.functions[func] = recorder
        trace.learned[func] += 1


def _dispatch(func: Any, *args: Any, **kwargs: Any) -> Any:
    return dispatch(func, args, kwargs)


_OPTIONS = {False: Options(), True: Options(number_data=True)}
_SIZED = Options(sized=True)
_TABLE = Options(constants_may_be_ragged=True, scalar_rows=True)  # of embeddings: a vector of whole numbers is rows


def _has_matrix(args: tuple[Any, ...]) -> bool:
    """Is a matrix among the sample's own tensors? How many rows it has may differ from sample to sample."""
    return any(isinstance(arg, Tensor) and not isinstance(arg, torch.nn.Parameter) and arg.dim() > 1 for arg in args)


def record_function(tracer: Tracer, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Record a call of a torch function, or of what stands for one, just as it is given."""
    return record(tracer, func, name, func, args, kwargs, _options(name, args, kwargs))


def _options(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Options:
    if name == "embedding":
        return _TABLE
    if name == ragged.LOOK_UP:
        return ragged.OF_TABLE
    options = _SIZED if name in SIZED else _OPTIONS[name in ARITHMETIC]
    if any(type(leaf) is Ref for leaf in leaves_of(args, kwargs)):
        return options
    return replace(options, constants_may_be_ragged=_has_matrix(args))


class Getter:
    """Reads a property of a tensor. One object per name, in another process too."""

    def __init__(self, name: str):
        self.name = name

    def __call__(self, tensor: torch.Tensor) -> Any:
        return getattr(tensor, self.name)

    def __reduce__(self) -> Any:
        return getter, (self.name,)


@cache
def getter(name: str) -> Getter:
    return Getter(name)


def _copied(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.copy())


def _refuse_custom_function(trace: Tracer) -> None:
    """torch.autograd.Function.apply runs its forward without grad: recorded as it is, gradients would be lost."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code is Function.apply.__func__.__code__:
            raise trace.error(
                "a custom autograd.Function (or reentrant checkpointing) is applied to a lazy value; put it in an "
                "nn.Module of its own, so that it becomes a cell, or use checkpoint(use_reentrant=False)"
            )
        frame = frame.f_back


# In place.


def is_in_place(func: Any, name: str) -> bool:
    if name.startswith("__i") and name.endswith("__"):
        return name not in ("__invert__", "__index__", "__init__", "__int__", "__iter__")
    return name.endswith("_") and not name.endswith("__")


@cache
def _parameters(func: Any) -> tuple[str, ...]:
    if not inspect.isfunction(func) or not func.__module__.startswith("torch.nn."):
        return ()
    return tuple(inspect.signature(func).parameters)


def _inplace_flag(trace: Tracer, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    bound = inspect.signature(func).bind(*args, **kwargs)
    in_place = bound.arguments.get("inplace", False)
    if in_place:
        _may_write(trace, args[0], name)
    bound.arguments["inplace"] = False
    result = _apply(trace, func, name, bound.args, bound.kwargs)
    return _rebind(args[0], result, name) if in_place else result


def _in_place(trace: Tracer, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    target = args[0]
    _may_write(trace, target, name)
    if name in _FILLS:
        result = _record(trace, filled, name, (target, name, *args[1:]), kwargs)
    elif name == "copy_":
        result = _record(trace, copied, name, args, kwargs)
    else:
        plain = f"__{name[3:]}" if name.startswith("__i") else name.rstrip("_")
        function = getattr(Tensor, plain, None) or getattr(torch, plain, None)
        if function is None:
            raise trace.error(f"`{name}` has no form that makes a new value; use one that does")
        function = CANONICAL.get(function, function)
        result = _apply(trace, function, name_of(function), args, kwargs)
    return _rebind(target, result, name)


def filled(tensor: torch.Tensor, name: str, *args: Any) -> torch.Tensor:
    """A copy of `tensor`, filled by its in-place method `name`."""
    return getattr(tensor.clone(), name)(*args)


def copied(tensor: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    return tensor.clone().copy_(source)


def _may_write(trace: Tracer, target: Any, name: str) -> None:
    if type(target) is not Ref:
        raise trace.error(
            f"`{name}` writes a lazy value into a real tensor. Write `x = x + y` instead of `x += y`, "
            "or begin from a value of the model"
        )
    if target.has_other_views():
        raise trace.error(
            f"`{name}` writes into a lazy value that shares its memory with another (a view, a slice, a row). "
            "Write the operation out of place"
        )


def _rebind(target: Any, result: Any, name: str) -> Any:
    if result is target:
        return target
    if name not in _RESHAPES:
        if result.shape != target.shape:
            raise RuntimeError(
                f"output with shape {list(target.shape)} doesn't match the broadcast shape {list(result.shape)}"
            )
        if result.dtype != target.dtype:
            if not torch.can_cast(result.dtype, target.dtype):
                raise RuntimeError(f"result type {result.dtype} can't be cast to the desired type {target.dtype}")
            result = result.to(target.dtype)
    return target.become(result)


# Functions with a meaning of their own on lists and lazy values.


def _unbind(trace: Tracer, tensor: Any, dim: int = 0) -> Any:
    if dim not in (0, -tensor.dim()) or id(tensor) in trace.shared:
        return ragged.PASS
    return tuple(rows_of(tensor if type(tensor) is Ref else lift(trace, tensor)))


def _flip(trace: Tracer, tensor: Any, *given: Any, dims: Any = None) -> Any:
    wanted = given if dims is None else (dims,)
    wanted = wanted[0] if len(wanted) == 1 and isinstance(wanted[0], (list, tuple)) else wanted
    if type(tensor) is not Ref or tensor.length is None or tuple(wanted) not in ((0,), (-tensor.ndim,)):
        return ragged.PASS
    flipped = ragged.choose_rows(trace, tensor, range(tensor.length)[::-1])
    flipped.memory = None
    return flipped


def _answer(name: str) -> Callable[..., Any]:
    def answer(trace: Tracer, tensor: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(tensor, name)(*args, **kwargs) if type(tensor) is Ref else ragged.PASS

    return answer


def _numel(trace: Tracer, tensor: Any) -> Any:
    return tensor.numel()


def _clamp(trace: Tracer, tensor: Any, min: Any = None, max: Any = None) -> Any:
    return _record(trace, torch.clamp, "clamp", (tensor, min, max), {})  # by position, where numbers are data


_SPECIAL: dict[str, Callable[..., Any]] = (
    {
        "clamp": _clamp,
        "clip": _clamp,
        "stack": ragged.stack,
        "cat": ragged.cat,
        "concat": ragged.cat,
        "concatenate": ragged.cat,
        "unbind": _unbind,
        "flip": _flip,
        "matmul": ragged.weighted_sum,
        "numel": _numel,
    }
    | rows.SPECIAL
    | {name: _answer(name) for name in ("is_floating_point", "is_complex", "is_signed", "dim", "size", "get_device")}
)

__all__ = ["attribute", "basic_index", "dispatch", "refuse_read"]
