"""Shared: the rows of a compiled kernel, divided among threads. No row hangs on another, so results are the same."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import torch

from bale.batching.cells.kernels import Kernel


def shared(kernel: Kernel, offsets: int, at_least: int) -> Kernel:
    """The kernel, or what divides its rows where they hold so many numbers and torch may use several threads.

    A kernel is called with rows, width, arrays, and last its `offsets`: the row at which it begins in some array each.
    Kernels let go of Python's lock, and that is what lets threads help.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        return kernel

    def run(rows: int, width: int, *arguments: Any) -> None:
        if rows * width < at_least or rows < threads:
            kernel(rows, width, *arguments)
            return
        arrays, begin = arguments[: len(arguments) - offsets], arguments[len(arguments) - offsets :]
        share = -(-rows // threads)
        others = [
            _helpers(threads - 1).submit(kernel, min(share, rows - low), width, *arrays, *(at + low for at in begin))
            for low in range(share, rows, share)
        ]
        kernel(share, width, *arrays, *begin)
        for other in others:
            other.result()

    return run


@lru_cache(maxsize=1)
def _helpers(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="bale kernel")
