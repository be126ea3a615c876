"""How are the bytes of a packed file read, from the first to the last, and how are types of numbers called in it?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Facts = dict[str, Any]


class Reader:
    """Bytes, from the first to the last."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def take(self, size: int) -> bytes:
        """The next bytes; raises ValueError where there are fewer."""
        part = self.content[self.at : self.at + size]
        if len(part) < size:
            raise ValueError(f"ends {size - len(part)} bytes early")
        self.at += size
        return part

    def tensor(self, dtype: torch.dtype, count: int) -> Tensor:
        """The next `count` numbers."""
        size = count * dtype.itemsize
        if not size:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(bytearray(self.take(size)), dtype=torch.uint8).view(dtype)


def name_of(dtype: torch.dtype) -> str:
    """As a header has it."""
    return str(dtype).removeprefix("torch.")


def dtype_of(name: str) -> torch.dtype:
    """The type that a header names; raises ValueError where it names none."""
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"names no type of numbers: {name!r}")
    return dtype
