"""How do several processes of this machine work on one search? Each takes trials; this one watches, and ends them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue

import torch

from bale.codesign.search.design import Outcome
from bale.codesign.search.front import Candidate
from bale.codesign.search.space import Design
from bale.codesign.search.study import Search
from bale.errors import BaleError

Evaluate = Callable[[Design], Outcome]
# What a worker begins with. It is called in the worker's process, so it can be pickled, and its words are few.
Begin = Callable[[], tuple[Search, Evaluate]]
_LOOK = 0.5  # seconds between looks at what workers have done
_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def work_together(
    search: Search,
    begin: Begin,
    trials: int,
    workers: int,
    *,
    threads: int = 1,
    on_outcome: Callable[[Candidate], None] | None = None,
) -> None:
    """Let `workers` processes, of so many of torch's threads each, work until the study has `trials` that are finished.

    Ctrl-C reaches them through this process, and comes through when they have queued again what they were at. Raises
    BaleError with the first error of a worker, and where workers died before the study was done.
    """
    context = multiprocessing.get_context("spawn")  # a fork would share torch's threads, which do not survive it
    errors: SimpleQueue[str] = context.SimpleQueue()
    processes: list[BaseProcess] = [
        context.Process(target=_work, args=(begin, trials, threads, errors), daemon=True) for _ in range(workers)
    ]
    seen = {each.number for each in search.candidates()}

    def look() -> None:
        for each in search.candidates():
            if each.number not in seen:
                seen.add(each.number)
                if on_outcome is not None:
                    on_outcome(each)

    try:
        with _deaf():
            for process in processes:
                process.start()
        while any(process.is_alive() for process in processes):
            wait([process.sentinel for process in processes if process.is_alive()], timeout=_LOOK)
            look()
    except BaseException:
        _end(processes)
        raise
    look()
    if not errors.empty():
        raise BaleError(errors.get())
    died = [process.exitcode for process in processes if process.exitcode]
    if died and search.counts.finished < trials:
        raise BaleError(
            f"{search.folder}: {len(died)} of {workers} workers died (exit code {died[0]}); the same command goes on"
        )


def _end(processes: list[BaseProcess]) -> None:
    for process in processes:
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGINT)
    for process in processes:
        if process.pid is not None:
            process.join()


def _work(begin: Begin, trials: int, threads: int, errors: SimpleQueue[str]) -> None:
    """What a worker does: a terminal's Ctrl-C is not for it, but for the process that it belongs to."""
    if os.name == "posix":
        os.setpgrp()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()
    assert parent is not None
    try:
        search, evaluate = begin()
        search.work(evaluate, trials, goes_on=parent.is_alive)
    except KeyboardInterrupt:
        raise SystemExit(_INTERRUPTED) from None
    except BaleError as error:
        errors.put(str(error))


@contextmanager
def _deaf() -> Iterator[None]:
    """Let processes that are started here ignore Ctrl-C until they say otherwise: Python's own start has no answer."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
