"""Compiled gathers and sums of rows equal torch's, for every dtype, into a slice of a wider target."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bale.batching.execute.gather import Index, Matrix, take, take_pieces, take_sum

DTYPES = (torch.float32, torch.float64, torch.int64, torch.bfloat16, torch.float16)
CPU = torch.device("cpu")
UNTOUCHED = 77
ROWS = 9
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
few = settings(max_examples=25)


def source(dtype: torch.dtype, width: int) -> torch.Tensor:
    drawn = torch.randn(ROWS, width, generator=torch.Generator().manual_seed(width)) * 4
    return drawn.to(dtype)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, int]:
    """A width, a target that is wider and longer than what is written, and where in it that begins."""
    width, row, column = draw(st.integers(0, 4)), draw(st.integers(0, 3)), draw(st.integers(0, 3))
    more = {"rows": draw(st.integers(0, 2)), "columns": draw(st.integers(0, 2))}
    return {"width": width, "row": row, "column": column, "count": draw(st.integers(0, 6)), **more}


def wider(case: dict[str, int], dtype: torch.dtype) -> torch.Tensor:
    rows, columns = case["row"] + case["count"] + case["rows"], case["column"] + case["width"] + case["columns"]
    return torch.full((rows, columns), UNTOUCHED, dtype=dtype)


def part(target: torch.Tensor, case: dict[str, int]) -> torch.Tensor:
    return target[case["row"] : case["row"] + case["count"], case["column"] : case["column"] + case["width"]]


@dtypes
@few
@given(case=cases(), data=st.data())
def test_take_is_index_select(dtype: torch.dtype, case: dict[str, int], data: st.DataObject) -> None:
    given, target = source(dtype, case["width"]), wider(case, dtype)
    low = data.draw(st.integers(0, 3))
    index = np.array(data.draw(st.lists(st.integers(0, ROWS - 1), min_size=low + case["count"])), np.int32)
    want = target.clone()
    part(want, case).copy_(given.index_select(0, torch.from_numpy(index[low : low + case["count"]].astype(np.int64))))
    take(Matrix(given), Index(index, CPU), low, case["count"], Matrix(target), case["row"], case["column"])
    assert torch.equal(target, want)


@dtypes
@few
@given(case=cases(), data=st.data())
def test_take_pieces_is_take_after_take(dtype: torch.dtype, case: dict[str, int], data: st.DataObject) -> None:
    given = source(dtype, case["width"])
    index = Index(np.array(data.draw(st.permutations(range(ROWS))), np.int32), CPU)
    pieces = data.draw(st.lists(st.tuples(st.integers(0, ROWS), st.integers(0, 3)), max_size=4))
    low = np.array([min(first, ROWS - count) for first, count in pieces], np.int64)
    high = low + np.array([count for _, count in pieces], np.int64)
    rows = int((high - low).sum()) + case["rows"]
    found = torch.full((rows, case["column"] + case["width"] + case["columns"]), UNTOUCHED, dtype=dtype)
    want, row = found.clone(), 0
    for first, end in zip(low.tolist(), high.tolist(), strict=True):
        take(Matrix(given), index, first, end - first, Matrix(want), row, case["column"])
        row += end - first
    take_pieces(Matrix(given), index, low, high, Matrix(found), case["column"])
    assert torch.equal(found, want)


@dtypes
@pytest.mark.parametrize("mean", [False, True])
@few
@given(case=cases(), data=st.data())
def test_take_sum_is_the_sum_of_each_segment(
    dtype: torch.dtype, mean: bool, case: dict[str, int], data: st.DataObject
) -> None:
    """Segments may be empty: their sum, and by agreement their mean, is zero."""
    if mean and not dtype.is_floating_point:
        return
    given, target = source(dtype, case["width"]), wider(case, dtype)
    first = data.draw(st.integers(0, 2))
    lengths = data.draw(st.lists(st.integers(0, 3), min_size=first + case["count"], max_size=first + case["count"]))
    start = np.cumsum([0, *lengths])
    index = np.array(
        data.draw(st.lists(st.integers(0, ROWS - 1), min_size=int(start[-1]), max_size=int(start[-1]))), np.int64
    )
    want = target.clone()
    for k in range(case["count"]):
        rows = given[torch.from_numpy(index[start[first + k] : start[first + k + 1]])]
        total = rows.sum(0) / (max(len(rows), 1) if mean else 1)
        want[case["row"] + k, case["column"] : case["column"] + case["width"]] = total.to(dtype)
    take_sum(Matrix(given), Index(index, CPU), start, first, case["count"], Matrix(target), case["row"],
             case["column"], mean)  # fmt: skip
    tolerance = {torch.float32: 1e-6, torch.float64: 1e-15, torch.bfloat16: 2e-2, torch.float16: 2e-3}.get(dtype, 0.0)
    torch.testing.assert_close(target, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_types_are_summed_as_torch_sums_them(dtype: torch.dtype) -> None:
    """Not in their own precision: 257 ones are more than bfloat16 can count one by one."""
    given = torch.ones(1, 2, dtype=dtype)
    count = 5000
    target = torch.zeros(1, 2, dtype=dtype)
    index = Index(np.zeros(count, np.int64), CPU)
    take_sum(Matrix(given), index, np.array([0, count]), 0, 1, Matrix(target), 0, 0)
    assert torch.equal(target[0], given.expand(count, 2).sum(0))


@dtypes
def test_a_view_of_other_width_shares_the_memory(dtype: torch.dtype) -> None:
    matrix = Matrix(source(dtype, 6))
    narrow = matrix.narrow(2)
    assert narrow.tensor.shape == (ROWS * 3, 2)
    assert narrow.tensor.data_ptr() == matrix.tensor.data_ptr()
    assert torch.equal(narrow.tensor.view(ROWS, 6), matrix.tensor)
    assert Matrix(source(dtype, 4)[:2]).narrow(3).tensor.shape == (2, 3), "what is left over is dropped"
    assert matrix.narrow(6) is matrix
