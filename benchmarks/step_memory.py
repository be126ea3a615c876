"""How much memory does a training step take at its peak, beside the same step batched by hand?

    python -m benchmarks.step_memory [--workload tree-lstm] [--batch 64] [--hidden 128] [--json -]
    python -m benchmarks.step_memory --steps 1000 [--batch 16] [--hidden 16]

A line per contestant, each in a process of its own, after `--warm` steps that do not count. Of a step, from samples to
gradients, over what was there before it, in MB of 10^6 bytes:

torch_mb    the peak of the running sum of what torch allocates and frees, from its profiler: exact, but without numpy
rss_mb      the peak of the process's resident memory (VmHWM), all of it: the median of several steps. Blocks from
            64 KiB on have pages of their own in these processes, so that freed ones are given back at once

With --steps, the mini-batch is drawn anew every step, and the lines tell what is held after every tenth of them:
resident memory, what torch holds of tensors that Python can reach, and how many objects Python's collector knows.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import bale
from benchmarks import command
from benchmarks.race import local
from benchmarks.race.workload import Workload
from benchmarks.train_step.__main__ import WORKLOADS, make
from benchmarks.train_step.tree_lstm.trees import random_trees

CONTESTANTS: dict[str, Callable[[Workload], list[local.LocalContestant]]] = {
    "bale": local.bale_way("bale"),
    "bale-nomerge": local.bale_way("bale-nomerge"),
    "by-hand": local.by_hand,
}
MB = 1e6
RSS_STEPS = 7


def peak_of_torch(step: Callable[[], Any]) -> float:
    """MB that torch allocates at the peak of `step`, over what it had before."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        step()
    results: Any = profile.profiler
    events = [event for event in results.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(np.cumsum([event.nbytes() for event in events]), default=0) / MB


def peak_of_process(step: Callable[[], Any]) -> float | None:
    """MB of resident memory at the peak of `step`, over what there was before; None where the system does not say."""
    try:
        _trim()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    except OSError:
        return None
    before = _status("VmRSS")
    step()
    return (_status("VmHWM") - before) / MB


def _trim() -> None:
    """Give pages back that the allocator keeps, so that a step is seen to take them anew."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _status(name: str) -> float:
    """Bytes, from a line of the process's status."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith(name))


def measure(impl: str, args: argparse.Namespace) -> dict[str, Any]:
    """The peaks of a step of this contestant, in that of its ways that takes the least."""
    ways = CONTESTANTS[impl](make(args.workload, args.batch, args.hidden, args.seed))
    return min((_measure(way, args.warm) for way in ways), key=lambda found: found["torch_mb"])


def _measure(contestant: local.LocalContestant, warm: int) -> dict[str, Any]:
    for _ in range(warm):
        contestant.step()
    gc.collect()
    gc.disable()  # what a step leaves in cycles would go at some time: none of it may be large

    def without_gradients(peak: Callable[[Callable[[], Any]], float | None]) -> float | None:
        contestant.workload.model.zero_grad()
        return peak(contestant.step)

    rss = [without_gradients(peak_of_process) for _ in range(RSS_STEPS)]
    known = [each for each in rss if each is not None]
    torch_mb = without_gradients(peak_of_torch)
    assert torch_mb is not None
    gc.enable()
    rss_mb = round(statistics.median(known), 2) if known else None
    return {"torch_mb": round(torch_mb, 2), "rss_mb": rss_mb, "variant": contestant.variant}


def hold(impl: str, args: argparse.Namespace) -> dict[str, Any]:
    """What is held after every tenth of many steps, each over trees of its own."""
    workload = make(args.workload, args.batch, args.hidden, args.seed)
    contestant, rng = CONTESTANTS[impl](workload)[0], np.random.default_rng(args.seed)
    found: dict[str, list[float]] = {"rss_mb": [], "tensors_mb": [], "objects": []}
    for step in range(1, args.steps + 1):
        workload.samples[:] = random_trees(rng, args.batch)
        contestant.step()
        if step % max(args.steps // 10, 1) == 0:
            gc.collect()
            found["rss_mb"].append(round(_status("VmRSS") / MB, 1))
            found["tensors_mb"].append(round(_tensors() / MB, 2))
            found["objects"].append(len(gc.get_objects()))
    return found


def _tensors() -> int:
    storages = [
        thing.untyped_storage() for thing in gc.get_objects() if type(thing) in (torch.Tensor, torch.nn.Parameter)
    ]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages if storage.device.type == "cpu"}.values())


def main() -> None:
    args = arguments()
    if args.alone:
        torch.set_num_threads(args.threads)
        print(json.dumps((hold if args.steps else measure)(args.alone, args)))
        return
    lines = []
    for impl in args.contestants.split(","):
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 16), "OMP_NUM_THREADS": str(args.threads)}
        alone = [sys.executable, "-m", "benchmarks.step_memory", *sys.argv[1:], "--alone", impl]
        answer = subprocess.run(alone, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout
        conditions = {name: getattr(args, name) for name in ("workload", "batch", "hidden", "threads", "seed")}
        versions = {"python": sys.version.split()[0], "torch": torch.__version__, "bale": bale.__version__}
        lines.append({"impl": impl, **json.loads(answer.splitlines()[-1]), **conditions, "versions": versions})
    command.write(lines, args.json)


def arguments() -> argparse.Namespace:
    parser = command.parser("step_memory", __doc__)
    for name, default in (("batch", 64), ("hidden", 128), ("threads", 1), ("warm", 6), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--workload", choices=WORKLOADS, default="tree-lstm")
    parser.add_argument("--steps", type=int, default=0, help="of tree-lstm: what is held over so many mini-batches")
    parser.add_argument("--contestants", default="bale,bale-nomerge,by-hand", metavar="A,B,...")
    parser.add_argument("--json", default="-", help="a file, or - for standard output")
    parser.add_argument("--alone", choices=CONTESTANTS, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
