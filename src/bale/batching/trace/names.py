"""Which torch functions are one and the same, and which take Python numbers as data?"""

from __future__ import annotations

from typing import Any

import torch

Tensor = torch.Tensor

# One name for one function, so that `a + b`, `torch.add(a, b)` and `a.add(b)` share a type.
CANONICAL: dict[Any, Any] = {
    Tensor.__add__: torch.add,
    Tensor.__radd__: torch.add,
    Tensor.__sub__: torch.sub,
    Tensor.__mul__: torch.mul,
    Tensor.__rmul__: torch.mul,
    Tensor.__truediv__: torch.div,
    Tensor.__matmul__: torch.matmul,
    Tensor.__neg__: torch.neg,
    Tensor.__pow__: torch.pow,
    Tensor.__eq__: torch.eq,
    Tensor.__ne__: torch.ne,
    Tensor.__lt__: torch.lt,
    Tensor.__le__: torch.le,
    Tensor.__gt__: torch.gt,
    Tensor.__ge__: torch.ge,
} | {
    getattr(Tensor, name): getattr(torch, name)
    for name in "add sub mul div matmul neg eq ne lt le gt ge tanh sigmoid relu exp log softmax sum mean".split()
}


# Python numbers among the positional arguments of these are data, not part of a type.
ARITHMETIC = frozenset(
    "add sub subtract rsub mul multiply div divide true_divide pow eq ne lt le gt ge where lerp clamp __rsub__ "
    "__rtruediv__ __rdiv__ __pow__ __rpow__ basic_index".split()
)

# Whole numbers among the arguments of these say how long an axis of the result is.
SIZED = frozenset(
    "view reshape expand broadcast_to repeat tile unflatten narrow new_zeros new_ones new_full new_empty "
    "split split_with_sizes".split()
)


def name_of(func: Any) -> str:
    return getattr(func, "__name__", "")
