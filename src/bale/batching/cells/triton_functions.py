"""Triton functions: what generated kernels call, and how a kernel's numbers are cut into blocks. Needs triton.

tanh is pointwise.py's approximation. Nothing here calls triton's own library of functions, which would be compiled or
interpreted by what was asked for when triton was imported, and not by what is asked for when a kernel is made.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import triton
import triton.language as tl

jit: Any = triton.jit  # what it makes is called with plain numbers, which triton's types do not know
BLOCK = 1024  # numbers of a program: 8 for each of a block's 128 threads
WIDEST = 256  # columns of a program


@lru_cache(maxsize=1024)
def _block(width: int) -> tuple[int, int]:
    columns = min(1 << (width - 1).bit_length(), WIDEST)
    return BLOCK // columns, columns


def blocks(rows: int, width: int) -> tuple[tuple[int, int], int, int]:
    """The grid of programs over rows and columns, and the rows and columns of each."""
    high, wide = _block(width)
    return (-(-rows // high), -(-width // wide)), high, wide


@jit
def tanh(x):
    x_ = tl.minimum(tl.maximum(x, -7.90531110763549805), 7.90531110763549805)
    s = x_ * x_
    p = -2.76076847742355e-16
    p = p * s + 2.00018790482477e-13
    p = p * s + -8.60467152213735e-11
    p = p * s + 5.12229709037114e-08
    p = p * s + 1.48572235717979e-05
    p = p * s + 6.37261928875436e-04
    p = p * s + 4.89352455891786e-03
    q = 1.19825839466702e-06
    q = q * s + 1.18534705686654e-04
    q = q * s + 2.26843463243900e-03
    q = q * s + 4.89352518554385e-03
    return tl.where(x == x, x_ * p / q, x)


@jit
def sigmoid(x):
    e = tl.exp(-tl.abs(x))  # at most 1, whatever x is
    return tl.where(x >= 0, 1.0, e) / (1.0 + e)


@jit
def relu(x):
    return tl.where(x <= 0, 0.0, x)  # NaN passes, as in torch
