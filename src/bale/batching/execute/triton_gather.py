"""Triton gather: the loops of gather.py for tensors, each one launch. Needs triton.

A program of `take` and `divide` has a block of rows and columns; one of the sums has one row, whose parts it adds one
after another: so sums are the same every time.
"""

from __future__ import annotations

import torch
import triton.language as tl

from bale.batching.cells.triton_functions import blocks, jit

# What numbers are summed in: half types as torch.sum does, in float32, rounded once.
SUMS = {torch.float64: tl.float64, torch.int64: tl.int64}


def take(source: torch.Tensor, index: torch.Tensor, low: int, count: int, target: torch.Tensor, row: int,
         column: int) -> None:  # fmt: skip
    width = source.shape[1]
    if not count or not width:
        return
    grid, rows, columns = blocks(count, width)
    _take[grid](source, index, target, count, width, low, row, column, source.stride(0), target.stride(0),
                ROWS=rows, COLUMNS=columns)  # fmt: skip


def take_sum(source: torch.Tensor, index: torch.Tensor, start: torch.Tensor, first: int, count: int,
             target: torch.Tensor, row: int, column: int, mean: bool) -> None:  # fmt: skip
    width = source.shape[1]
    if not count or not width:
        return
    grid, columns = _by_row(count, width)
    _take_sum[grid](source, index, start, target, width, first, row, column, source.stride(0), target.stride(0),
                    MEAN=mean, SUM=SUMS.get(source.dtype, tl.float32), COLUMNS=columns)  # fmt: skip


def sum_crowded(memory: torch.Tensor, reader: torch.Tensor, start: torch.Tensor, summed: torch.Tensor,
                target: torch.Tensor, first: int, count: int) -> None:  # fmt: skip
    width = memory.shape[1]
    if not count or not width:
        return
    grid, columns = _by_row(count, width)
    _sum_crowded[grid](memory, reader, start, summed, target, width, first, memory.stride(0),
                       SUM=SUMS.get(memory.dtype, tl.float32), COLUMNS=columns)  # fmt: skip


def divide(rows: torch.Tensor, counts: torch.Tensor) -> None:
    count, width = rows.shape
    if not count or not width:
        return
    grid, high, columns = blocks(count, width)
    _divide[grid](rows, counts, count, width, rows.stride(0), ROWS=high, COLUMNS=columns)


def _by_row(count: int, width: int) -> tuple[tuple[int, int], int]:
    """The grid of programs of one row each, and the columns of each."""
    columns = blocks(count, width)[2]
    return (count, -(-width // columns)), columns


@jit(do_not_specialize=["count", "low", "row", "column"])
def _take(source, index, target, count, width, low, row, column, source_stride, target_stride,
          ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # fmt: skip
    r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    h = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (r < count)[:, None] & (h < width)[None, :]
    given = tl.load(index + low + r, mask=r < count, other=0) * source_stride
    out = (row + r).to(tl.int64) * target_stride + column
    numbers = tl.load(source + given[:, None] + h[None, :], mask=inside)
    tl.store(target + out[:, None] + h[None, :], numbers, mask=inside)


@jit
def _sum(source, index, low, high, stride, h, in_width, SUM: tl.constexpr, COLUMNS: tl.constexpr):
    """Of columns `h` of source[index[low : high]]."""
    total = tl.full((COLUMNS,), 0, SUM)
    for entry in range(low, high):
        given = tl.load(index + entry) * stride
        total += tl.load(source + given + h, mask=in_width, other=0).to(SUM)
    return total


@jit(do_not_specialize=["first", "row", "column"])
def _take_sum(source, index, start, target, width, first, row, column, source_stride, target_stride,
              MEAN: tl.constexpr, SUM: tl.constexpr, COLUMNS: tl.constexpr):  # fmt: skip
    k = tl.program_id(0)
    h = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    low = tl.load(start + first + k)
    high = tl.load(start + first + k + 1)
    total = _sum(source, index, low, high, source_stride, h, h < width, SUM, COLUMNS)
    if MEAN:
        total = total / tl.maximum(high - low, 1).to(SUM)
    out = (row + k).to(tl.int64) * target_stride + column
    tl.store(target + out + h, total, mask=h < width)


@jit(do_not_specialize=["first"])
def _sum_crowded(memory, reader, start, summed, target, width, first, stride, SUM: tl.constexpr,
                 COLUMNS: tl.constexpr):  # fmt: skip
    place = first + tl.program_id(0)
    h = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    if tl.load(summed + place) != tl.load(summed + place + 1):
        low = tl.load(start + place)
        high = tl.load(start + place + 1)
        total = _sum(memory, reader, low, high, stride, h, h < width, SUM, COLUMNS)
        tl.store(memory + tl.load(target + place) * stride + h, total, mask=h < width)


@jit(do_not_specialize=["count"])
def _divide(rows, counts, count, width, stride, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    h = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    by = tl.load(counts + r, mask=r < count, other=1)
    at = rows + (r.to(tl.int64) * stride)[:, None] + h[None, :]
    inside = (r < count)[:, None] & (h < width)[None, :]
    numbers = tl.load(at, mask=inside)
    # no row is divided by 0: an empty mean keeps its zeros
    tl.store(at, numbers / tl.maximum(by, 1)[:, None].to(numbers.dtype), mask=inside & (by > 1)[:, None])
