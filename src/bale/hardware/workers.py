"""Who shares the work of a simulation? As many threads as torch has, each of which multiplies by itself.

torch's own threads meet after every product, and where another program has one of the cores, all wait for it each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import torch


@contextmanager
def workers() -> Iterator[Executor | None]:
    """Threads that share vectors while the block runs; None where torch has one thread."""
    many = torch.get_num_threads()
    if many == 1:
        yield None
        return
    started = Barrier(many)

    def alone(_: int) -> None:
        torch.get_num_threads()  # a thread takes the number over at its first use of it, which should not come later
        torch.set_num_threads(1)  # of this thread, and of those that start from now on
        started.wait()

    with ThreadPoolExecutor(many, thread_name_prefix="bale crossbars") as pool:
        list(pool.map(alone, range(many)))
        torch.set_num_threads(many)  # of those that start from now on
        yield pool
