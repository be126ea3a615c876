"""Kernels: what compiles loops over rows, and what is a loop handed? By numba on the CPU, by Triton on a GPU."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Kernel = Callable[..., None]


@dataclass(frozen=True)
class Load:
    """`array[row + r, column * w + rest + h]`, or row index[row + r] of it; a vector has no rows."""

    array: int
    row: int
    column: int = 0  # in widths
    rest: int = 0
    indexed: bool = False
    vector: bool = False
    narrow: bool = False  # one number per row (or in all), for all columns


class Kernels(ABC):
    """One way to compile loops over rows.

    by_threads  may the rows of a kernel be divided among threads of this process?
    """

    by_threads: bool

    @abstractmethod
    def array(self, tensor: torch.Tensor) -> Any:
        """The tensor as a loop takes it, in the same memory; None where loops cannot read it."""

    @abstractmethod
    def indices(self, arrays: Sequence[np.ndarray], device: torch.device) -> list[Any]:
        """Row numbers as a loop takes them: all in one copy where they must be copied at all."""

    @abstractmethod
    def on(self, device: torch.device) -> AbstractContextManager[Any]:
        """Where kernels for this device are launched."""

    # Elementwise operations.

    @abstractmethod
    def formula(self, target: Any, operands: Sequence[str]) -> str:
        """An operation of pointwise.FORMULAS on operands."""

    @abstractmethod
    def constant(self, number: float) -> str: ...

    @abstractmethod
    def text(self, arrays: int, offsets: int, loads: list[tuple[str, Load]], body: list[str],
             stores: list[tuple[Load, str]], indices: dict[int, int], /) -> str:  # fmt: skip
        """The source of a kernel. Loads come before stores: a store may overwrite what the same element was read from.

        loads    name -> where it is loaded from; `stores` the reverse
        body     assignments of formulas to names
        indices  array -> the index that its indexed loads go through
        """

    @abstractmethod
    def compiled(self, text: str) -> Kernel:
        """Called with rows, width, the arrays, the indices, and the offsets: the row at which each begins."""
