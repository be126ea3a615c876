"""Ref: a value that a per-sample forward has asked for and that is not computed yet."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from bale.batching.graph import WHOLE, Spec
from bale.batching.trace.names import CANONICAL
from bale.batching.trace.pretend import asked_by_python
from bale.batching.trace.recording import Method, Value, rows_from
from bale.batching.trace.stream import CODE, ROW

if TYPE_CHECKING:
    from bale.batching.trace.tracer import Home, Tracer


class Memory:
    """Stands for the memory that Refs share in the per-sample program: each of them holds it, and nothing else does.

    So the number of references to it is the number of Refs that share. `foreign` is the sample's own tensor whose
    memory it is, if it is one's.
    """

    __slots__ = ("foreign",)

    def __init__(self, foreign: torch.Tensor | None = None):
        self.foreign = foreign


class Ref(Value):
    """Stands for a tensor inside a traced forward: answers what its shape tells, records what is done to it.

    `part` names its value in the trace, and the row of that value's flattened leading axes unless it is the whole
    (see stream.py); `home` is what it has in common with all Refs of its shape; `memory` is None while no other Ref
    shares it.
    """

    __slots__ = ()

    __array_priority__ = 1000
    __array_ufunc__ = None  # numpy scalars hand arithmetic to us
    _is_param = False

    home: Home
    memory: Memory | None
    part: int

    @staticmethod
    def of(home: Home, part: int) -> Ref:
        ref = Ref()
        ref.home, ref.part, ref.memory = home, part, None
        return ref

    @property
    def trace(self) -> Tracer:
        return self.home.trace

    @property
    def spec(self) -> Spec:
        """Shape and dtype; of a ragged value without its first axis."""
        return self.home.spec

    @property
    def length(self) -> int | None:
        """The first axis of a ragged value."""
        return self.home.length

    @property
    def index(self) -> int:
        """WHOLE, or a row of the value's flattened leading axes."""
        return (self.part >> 32) + WHOLE

    @property
    def __class__(self) -> type:  # type: ignore[override]
        return torch.Tensor if asked_by_python() else Ref

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from bale.batching.trace.functions import dispatch

        return dispatch(func, args, kwargs or {})

    # What the spec answers.

    @property
    def shape(self) -> torch.Size:
        return torch.Size(self.spec.shape if self.length is None else (self.length, *self.spec.shape))

    @property
    def dtype(self) -> torch.dtype:
        return self.spec.dtype

    @property
    def device(self) -> torch.device:
        return self.spec.device

    @property
    def requires_grad(self) -> bool:
        return self.spec.requires_grad

    @property
    def ndim(self) -> int:
        return len(self.spec.shape) + (self.length is not None)

    layout = torch.strided
    is_sparse = is_quantized = is_meta = is_mkldnn = is_nested = False
    names: tuple[None, ...] = ()

    @property
    def is_cuda(self) -> bool:
        return self.spec.device.type == "cuda"

    @property
    def is_leaf(self) -> bool:
        return not self.spec.requires_grad

    def dim(self) -> int:
        return self.ndim

    ndimension = dim

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def numel(self) -> int:
        return self.shape.numel()

    nelement = numel

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def element_size(self) -> int:
        return self.dtype.itemsize

    def is_floating_point(self) -> bool:
        return self.dtype.is_floating_point

    def is_complex(self) -> bool:
        return self.dtype.is_complex

    def is_signed(self) -> bool:
        return self.dtype.is_signed

    def is_contiguous(self, **_: Any) -> bool:
        return True

    def get_device(self) -> int:
        return -1 if self.device.index is None else self.device.index

    # What is recorded.

    def __getattr__(self, name: str) -> Any:
        from bale.batching.trace.functions import attribute

        return attribute(self, name)

    @property
    def data(self) -> Any:
        return self.__torch_function__(torch.Tensor.detach, (), (self,))

    @data.setter
    def data(self, value: Any) -> None:
        self.__torch_function__(torch.Tensor.data.__set__, (), (self, value))  # type: ignore[attr-defined]

    def __getitem__(self, index: Any) -> Any:
        home = self.home
        if type(index) is int and home.rows is not None and -home.axis <= index < home.axis and home.may_take_rows():
            part = self.part
            if index < 0:
                index += home.axis
            if part >= ROW:  # itself a row
                index += ((part >> 32) - 1) * home.axis
                part &= CODE
            row = Ref()
            row.home, row.part = home.rows, part + (index + 1) * ROW
            if self.memory is None:
                self.memory = Memory()
            row.memory = self.memory
            return row
        return self.__torch_function__(torch.Tensor.__getitem__, (), (self, index))

    def __setitem__(self, index: Any, value: Any) -> None:
        self.__torch_function__(torch.Tensor.__setitem__, (), (self, index, value))

    def __iter__(self) -> Iterator[Any]:
        if not self.ndim:
            raise TypeError("iteration over a 0-d tensor")
        return iter(rows_of(self))

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"Ref({list(self.shape)}, {self.dtype})"

    def __format__(self, spec: str) -> str:
        return repr(self)

    # What needs the numbers.

    def _read(self, how: str) -> Any:
        from bale.batching.trace.functions import refuse_read

        return refuse_read(self, how)

    def __bool__(self) -> bool:
        return self._read("bool() (an `if`, `while`, `and`, `or` or `not` on a tensor)")

    def __float__(self) -> float:
        return self._read("float()")

    def __int__(self) -> int:
        return self._read("int()")

    def __index__(self) -> int:
        return self._read("an index or range()")

    def __complex__(self) -> complex:
        return self._read("complex()")

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self._read("a numpy array")

    def __contains__(self, item: Any) -> bool:
        return self._read("`in`")

    def __dlpack__(self, *_: Any, **__: Any) -> Any:
        return self._read("DLPack")

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._read("pickling")

    def __copy__(self) -> Ref:
        return self.__torch_function__(torch.clone, (), (self,))

    def __deepcopy__(self, memo: Any) -> Any:
        return self._read("deepcopy")

    # Views, for in-place writes.

    def share_memory_with(self, other: Any) -> None:
        """Note that in the per-sample program this is a view of `other`."""
        if type(other) is not Ref:
            self.memory = Memory(other)
            return
        if other.memory is None:
            other.memory = Memory()
        self.memory = other.memory

    def has_other_views(self) -> bool:
        return self.memory is not None and (self.memory.foreign is not None or _sharers(self) > _ALONE)

    def become(self, other: Ref) -> Ref:
        """Take the value of `other`: what an in-place operation does, for all names that hold this Ref."""
        self.part, self.home = other.part, other.home
        return self


def rows_of(ref: Ref) -> list[Any]:
    """ref[0], ref[1], ..., where what is the same for all of them is found once."""
    length = ref.home.axis
    if not length or type(first := ref[0]) is not Ref or first.home is not ref.home.rows:
        return [ref[k] for k in range(length)]
    return rows_from(first, length, ROW)


def _sharers(ref: Ref) -> int:
    return sys.getrefcount(ref.memory)  # the Refs, and what Python itself holds while it calls


def _count_of_one() -> int:
    ref = Ref()
    ref.memory = Memory()
    return _sharers(ref)


_ALONE = _count_of_one()

_OPERATORS = (
    "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow matmul rmatmul "
    "and rand or ror xor rxor lshift rlshift rshift rrshift neg pos abs invert "
    "eq ne lt le gt ge iadd isub imul itruediv ifloordiv imod ipow iand ior ixor ilshift irshift"
)


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    function = CANONICAL.get(function, function)

    def otherwise(self: Ref, *args: Any, **kwargs: Any) -> Any:
        return self.__torch_function__(function, (), (self, *args), kwargs)

    return Method(function, otherwise)


for _name in _OPERATORS.split():
    _function = getattr(torch.Tensor, f"__{_name}__", None)
    if _function is not None:
        setattr(Ref, f"__{_name}__", _method(_function))
for _name in dir(torch.Tensor):
    if not _name.startswith("_") and _name not in vars(Ref) and inspect.isroutine(getattr(torch.Tensor, _name)):
        setattr(Ref, _name, _method(getattr(torch.Tensor, _name)))
