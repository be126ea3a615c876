"""Gather: rows of one matrix, picked or summed into rows of another, without a temporary."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from numba import njit

from bale.batching.cells.kernels import Kernels
from bale.batching.cells.pointwise import NUMBA
from bale.batching.cells.triton_kernels import TRITON

_HALF = frozenset({torch.float16, torch.bfloat16})


class Matrix:
    """A tensor [rows, width], and the same memory as compiled loops are handed it: None where they cannot."""

    __slots__ = ("array", "kernels", "tensor")

    def __init__(self, tensor: torch.Tensor, kernels: Kernels = NUMBA):
        self.tensor, self.kernels = tensor, kernels
        self.array: Any = kernels.array(tensor)

    def narrow(self, width: int) -> Matrix:
        """The same numbers as rows of another width; those left over at the end are dropped."""
        tensor = self.tensor
        if tensor.shape[1] == width:
            return self
        flat = tensor.reshape(-1)
        return Matrix(flat[: flat.numel() // width * width].view(-1, width), self.kernels)


class Index:
    """Row numbers, as compiled loops are handed them and, where it is asked for, as a tensor on the device."""

    def __init__(self, array: Any, device: torch.device):
        self.array, self._device = array, device

    @cached_property
    def tensor(self) -> torch.Tensor:
        if isinstance(self.array, torch.Tensor):
            return self.array
        return torch.from_numpy(self.array.astype(np.int64, copy=False)).to(self._device)


def take(source: Matrix, index: Index, low: int, count: int, target: Matrix, row: int, column: int) -> None:
    """target[row : row + count, column : column + width] = source[index[low : low + count]]"""
    if source.array is not None and target.array is not None:
        loop = _take if isinstance(index.array, np.ndarray) else _triton().take
        loop(source.array, index.array, low, count, target.array, row, column)
        return
    width = source.tensor.shape[1]
    target.tensor[row : row + count, column : column + width] = source.tensor.index_select(
        0, index.tensor[low : low + count]
    )


def take_pieces(source: Matrix, index: Index, low: np.ndarray, high: np.ndarray, target: Matrix, column: int) -> None:
    """The rows of index[low[0] : high[0]], then those of index[low[1] : high[1]], ..., from target's first row on."""
    if isinstance(source.array, np.ndarray) and isinstance(target.array, np.ndarray):
        _take_pieces(source.array, index.array, low, high, target.array, column)
        return
    pieces = [index.tensor[first:end] for first, end in zip(low.tolist(), high.tolist(), strict=True)]
    if pieces:
        joined = torch.cat(pieces)
        take(source, Index(joined, joined.device), 0, joined.shape[0], target, 0, column)


def take_sum(source: Matrix, index: Index, start: Any, first: int, count: int, target: Matrix, row: int,
             column: int, mean: bool = False) -> None:  # fmt: skip
    """Row k is the sum (or mean) of source[index[start[first + k] : start[first + k + 1]]], added in that order.

    `start` as loops are handed it.
    """
    if source.array is not None and target.array is not None:
        loop = _take_sum if isinstance(start, np.ndarray) else _triton().take_sum
        loop(source.array, index.array, start, first, count, target.array, row, column, mean)
        return
    low, high = int(start[first]), int(start[first + count])
    lengths = torch.as_tensor(start[first : first + count + 1]).diff().to(source.tensor.device)
    rows = source.tensor.index_select(0, index.tensor[low:high])
    if rows.dtype in _HALF:  # summed as torch.sum does: in float32, rounded once
        rows = rows.float()
    if rows.is_complex():  # which segment_reduce does not take
        parts = torch.view_as_real(rows).flatten(1)
        total = torch.view_as_complex(_segments(parts, lengths, mean).unflatten(1, (-1, 2)))
    else:
        total = _segments(rows, lengths, mean)
    target.tensor[row : row + count, column : column + rows.shape[1]] = total


def _segments(rows: torch.Tensor, lengths: torch.Tensor, mean: bool) -> torch.Tensor:
    return torch.segment_reduce(rows, "mean" if mean else "sum", lengths=lengths, axis=0, initial=0, unsafe=True)


def sum_crowded(memory: Any, reader: Any, start: Any, summed: Any, target: Any, first: int, count: int) -> None:
    """Of `count` places from `first` on, those that `summed` counts: the sum of their readers, into row `target`.

    Everything as loops are handed it.
    """
    loop = _sum_crowded if isinstance(memory, np.ndarray) else _triton().sum_crowded
    loop(memory, reader, start, summed, target, first, count)


def divide(rows: torch.Tensor, counts: Any) -> None:
    """Divide row k by counts[k], where that is not 1. `counts` as loops are handed it."""
    if isinstance(counts, torch.Tensor):
        if TRITON.array(rows) is None:
            rows.div_(counts.clamp(min=1)[:, None])
        else:
            _triton().divide(rows, counts)
        return
    array = NUMBA.array(rows)
    if array is not None:
        _divide(array, counts)
        return
    some = np.flatnonzero(counts > 1)
    if some.size:
        at = torch.from_numpy(some).to(rows.device)
        rows[at] = rows[at] / torch.from_numpy(counts[some]).to(rows.device, rows.dtype)[:, None]


def _triton() -> Any:
    """The same loops for tensors."""
    from bale.batching.execute import triton_gather  # triton is needed by nobody else

    return triton_gather


@njit(cache=True, nogil=True)
def _divide(rows, counts):
    for k in range(counts.size):
        if counts[k] > 1:
            for h in range(rows.shape[1]):
                rows[k, h] /= counts[k]


@njit(cache=True, nogil=True)
def _take(source, index, low, count, target, row, column):
    width = source.shape[1]
    for k in range(count):
        given = source[index[low + k]]
        out = target[row + k, column : column + width]
        for h in range(width):
            out[h] = given[h]


@njit(cache=True, nogil=True)
def _take_pieces(source, index, low, high, target, column):
    row = 0
    for piece in range(low.size):
        _take(source, index, low[piece], high[piece] - low[piece], target, row, column)
        row += high[piece] - low[piece]


@njit(cache=True, nogil=True)
def _take_sum(source, index, start, first, count, target, row, column, mean):
    width = source.shape[1]
    for k in range(count):
        out = target[row + k, column : column + width]
        low, high = start[first + k], start[first + k + 1]
        for h in range(width):
            out[h] = 0
        for entry in range(low, high):
            given = source[index[entry]]
            for h in range(width):
                out[h] += given[h]
        if mean and high > low:
            for h in range(width):
                out[h] /= high - low


@njit(cache=True, nogil=True)
def _sum_crowded(memory, reader, start, summed, target, first, count):
    width = memory.shape[1]
    for place in range(first, first + count):
        if summed[place + 1] == summed[place]:
            continue
        out = memory[target[place]]
        for h in range(width):
            out[h] = 0
        for entry in range(start[place], start[place + 1]):
            given = memory[reader[entry]]
            for h in range(width):
                out[h] += given[h]
