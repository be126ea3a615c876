"""Gather: rows of one matrix, picked or summed into rows of another, without a temporary."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numba import njit

COMPILED = frozenset({torch.float32, torch.float64, torch.int64})
_HALF = frozenset({torch.float16, torch.bfloat16})


class Matrix:
    """A tensor [rows, width], and the same memory as an array where compiled loops can work on it."""

    __slots__ = ("array", "tensor")

    def __init__(self, tensor: torch.Tensor):
        self.tensor = tensor
        fits = tensor.device.type == "cpu" and tensor.dtype in COMPILED
        self.array: np.ndarray | None = tensor.numpy() if fits else None

    def narrow(self, width: int) -> Matrix:
        """The same numbers as rows of another width; those left over at the end are dropped."""
        tensor = self.tensor
        if tensor.shape[1] == width:
            return self
        flat = tensor.reshape(-1)
        return Matrix(flat[: flat.numel() // width * width].view(-1, width))


class Index:
    """Row numbers, as an array and, where it is asked for, as a tensor on the device."""

    def __init__(self, array: np.ndarray, device: torch.device):
        self.array, self._device = array, device

    @cached_property
    def tensor(self) -> torch.Tensor:
        return torch.from_numpy(self.array.astype(np.int64, copy=False)).to(self._device)


def take(source: Matrix, index: Index, low: int, count: int, target: Matrix, row: int, column: int) -> None:
    """target[row : row + count, column : column + width] = source[index[low : low + count]]"""
    if source.array is not None and target.array is not None:
        _take(source.array, index.array, low, count, target.array, row, column)
        return
    width = source.tensor.shape[1]
    target.tensor[row : row + count, column : column + width] = source.tensor.index_select(
        0, index.tensor[low : low + count]
    )


def take_pieces(source: Matrix, index: Index, low: np.ndarray, high: np.ndarray, target: Matrix, column: int) -> None:
    """The rows of index[low[0] : high[0]], then those of index[low[1] : high[1]], ..., from target's first row on."""
    if source.array is not None and target.array is not None:
        _take_pieces(source.array, index.array, low, high, target.array, column)
        return
    row = 0
    for first, end in zip(low.tolist(), high.tolist(), strict=True):
        take(source, index, first, end - first, target, row, column)
        row += end - first


def take_sum(source: Matrix, index: Index, start: np.ndarray, first: int, count: int, target: Matrix, row: int,
             column: int, mean: bool = False) -> None:  # fmt: skip
    """Row k is the sum (or mean) of source[index[start[first + k] : start[first + k + 1]]], added in that order."""
    if source.array is not None and target.array is not None:
        _take_sum(source.array, index.array, start, first, count, target.array, row, column, mean)
        return
    low, high = int(start[first]), int(start[first + count])
    lengths = torch.from_numpy(np.diff(start[first : first + count + 1])).to(source.tensor.device)
    rows = source.tensor.index_select(0, index.tensor[low:high])
    if rows.dtype in _HALF:  # summed as torch.sum does: in float32, rounded once
        rows = rows.float()
    total = torch.segment_reduce(rows, "mean" if mean else "sum", lengths=lengths, axis=0, initial=0, unsafe=True)
    target.tensor[row : row + count, column : column + rows.shape[1]] = total


def divide(rows: torch.Tensor, counts: np.ndarray) -> None:
    """Divide row k by counts[k], where that is not 1."""
    if rows.device.type == "cpu" and rows.dtype in COMPILED:
        _divide(rows.numpy(), counts)
        return
    some = np.flatnonzero(counts > 1)
    if some.size:
        at = torch.from_numpy(some).to(rows.device)
        rows[at] = rows[at] / torch.from_numpy(counts[some]).to(rows.device, rows.dtype)[:, None]


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
def sum_crowded(memory, reader, start, summed, target, first, count):
    """Of `count` places from `first` on, those that `summed` counts: the sum of their readers, into row `target`."""
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
