"""Does a long stream with faults give one result for each frame, in order, and keep no memory?

    python -m benchmarks.video.soak [--frames 20000] [--workers in-line,thread,process] [--seed 0] [--json -]

A line per way to compute keys, each over as many frames of a toy detector, so that what is seen is the machinery. There
are frames that cannot be read, changes of resolution, images on which the detector raises or is slow. The thread's
input comes at a pace that it does not keep, and its queue drops; the process is killed again and again.

lost         frames without a result, or with a second one: 0
reordered    results that came before one of an earlier frame, or used features older than the result before: 0
unexplained  results and keys that no count tells of, or that one tells of and are not there: 0
growth_mb    resident memory (10^6 bytes) at the end over what it was after a fifth of the frames
left         threads and processes that are still there after the end: 0
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from rich.table import Table

import bale
from bale.video.frame import Frame
from bale.video.input_queue import InputQueue
from bale.video.keyframes import FixedInterval
from bale.video.pace import paced
from bale.video.result import FrameResult, StreamCounts
from bale.video.stream import ResultStream, VideoDetector
from bale.video.worker_process import ProcessWorker
from bale.video.worker_thread import ThreadWorker
from benchmarks import command
from benchmarks.command import Line
from benchmarks.video.toys import ShiftFlow, ToyDetector, faulty_frames

MB = 1e6
SAMPLES = 20
KEYS_BETWEEN_KILLS = 40
FPS = 2000.0  # for the queue that drops, with a consumer that stops now and then


def detector(worker: str) -> VideoDetector:
    """A toy detector whose keys are computed by such a worker, and the queue that goes with it."""
    made = {
        "in-line": (None, None),
        "thread": (ThreadWorker(), InputQueue(4, "drop-oldest")),
        "process": (ProcessWorker(), InputQueue(4, "block")),
    }
    beside, queue = made[worker]
    return VideoDetector(ToyDetector(), ShiftFlow(), FixedInterval(5), worker=beside, queue=queue, max_failures=10)


WORKERS = ("in-line", "thread", "process")


class Faults:
    """What goes wrong from outside while a stream runs."""

    def __init__(self, worker: str) -> None:
        self.kills = 0
        self._worker = worker
        self._keys = 0

    def strike(self, stream: ResultStream, index: int) -> None:
        """Kill the process when it has done some keys; stop the consumer of the queue that drops."""
        if self._worker == "process" and stream.counts.keys_finished >= self._keys + KEYS_BETWEEN_KILLS:
            self._keys = stream.counts.keys_finished
            for child in multiprocessing.active_children():
                assert child.pid is not None
                os.kill(child.pid, signal.SIGKILL)
                self.kills += 1
        if self._worker == "thread" and index % 400 == 399:
            time.sleep(0.01)


class Watch:
    """Whether results are as they must be, without keeping them."""

    def __init__(self) -> None:
        self.seen = 0
        self.reordered = 0
        self.kinds: Counter[str] = Counter()
        self._last = -1
        self._last_key = -1

    def look(self, result: FrameResult) -> None:
        self.seen += 1
        self.kinds[result.kind] += 1
        key = self._last_key if result.key_index is None else result.key_index
        self.reordered += result.frame.index <= self._last or key < self._last_key or key > result.frame.index
        self._last, self._last_key = result.frame.index, key

    def lost(self, frames: int) -> int:
        """Frames without exactly one result, where none is out of order."""
        return abs(frames - self.seen)

    def unexplained(self, counts: StreamCounts) -> int:
        """By how much the counts are not what was seen."""
        settled = counts.keys_finished + counts.keys_failed + counts.keys_superseded + counts.keys_voided
        return (
            abs(counts.frames - self.seen)
            + abs(counts.unreadable - self.kinds["repeated"])
            + abs(counts.dropped - self.kinds["dropped"])
            + abs(counts.keys_asked - settled - counts.keys_pending)
        )


def soak(worker: str, frames: int, seed: int, memory: Callable[[], float]) -> Line:
    """Run one stream with faults to its end; `memory` tells the resident bytes."""
    before = threading.active_count()
    faults, watch, resident = Faults(worker), Watch(), list[float]()
    source: Iterable[Frame] = faulty_frames(frames, seed)
    begin = time.perf_counter()
    with detector(worker).stream(paced(source, FPS) if worker == "thread" else source) as stream:
        for result in stream:
            watch.look(result)
            faults.strike(stream, result.frame.index)
            if watch.seen % max(frames // SAMPLES, 1) == 0:
                resident.append(round(memory() / MB, 1))
    counts = asdict(stream.counts)
    counts["key_seconds"] = round(counts["key_seconds"], 3)
    return {
        "worker": worker,
        "lost": watch.lost(frames),
        "reordered": watch.reordered,
        "unexplained": watch.unexplained(stream.counts),
        "left": threading.active_count() - before + len(multiprocessing.active_children()),
        "growth_mb": round(resident[-1] - resident[len(resident) // 5], 1),
        "kills": faults.kills,
        "seconds": round(time.perf_counter() - begin, 1),
        "counts": counts,
        "rss_mb": resident,
    }


def resident_bytes() -> float:
    """Of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


def table_of(lines: Sequence[Line]) -> Table:
    shown = ("lost", "reordered", "unexplained", "left", "growth_mb", "kills", "seconds")
    counted = ("frames", "unreadable", "dropped", "resolution_changes", "keys_asked", "keys_failed", "worker_restarts")
    table = Table("worker", *shown, *counted)
    for line in lines:
        numbers = [line[name] for name in shown] + [line["counts"][name] for name in counted]
        table.add_row(line["worker"], *map(str, numbers))
    return table


def arguments() -> argparse.Namespace:
    parser = command.parser("video.soak", __doc__)
    parser.add_argument("--frames", type=command.at_least(SAMPLES), default=20000)
    parser.add_argument("--workers", type=command.some_of(str, WORKERS), default=list(WORKERS), metavar="A,B,...")
    parser.add_argument("--seed", type=int, default=0)
    command.add_json(parser)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)
    versions = {"python": sys.version.split()[0], "torch": torch.__version__, "bale": bale.__version__}
    lines = [
        {**soak(worker, args.frames, args.seed, resident_bytes), "seed": args.seed, "versions": versions}
        for worker in args.workers
    ]
    command.tell(lines, args.json, table_of, 180)


if __name__ == "__main__":
    main()
