"""Who takes part? Names of contestants become contestants; who cannot take part is named with the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.train_step import local
from benchmarks.train_step.contestant import Contestant
from benchmarks.train_step.peer import PeerContestant, installed, takes_part
from benchmarks.train_step.worker import write
from benchmarks.train_step.workload import Workload

MODES = {"dynet": [{"autobatch": 1}, {"autobatch": 2}], "dgl": [{}], "torchfold": [{}]}
PEERS = tuple(MODES)
CONTESTANTS = ("bale", "bale-nomerge", "by-hand", "by-hand-merged", "floor", *PEERS)
ON_REQUEST = ("per-sample",)  # so slow that its rounds would make the whole race short

_LOCAL: dict[str, Callable[[Workload], Sequence[Contestant]]] = {
    "bale": local.with_merging,
    "bale-nomerge": local.without_merging,
    "by-hand": local.by_hand,
    "by-hand-merged": local.by_hand_merged,
    "per-sample": lambda workload: [local.per_sample(workload)],
    "floor": lambda workload: [local.Floor(workload.products)],
}

_ABSENT = {
    "by-hand-merged": "nobody has written one for this workload",
}


def enter(
    workload: Workload, names: Sequence[str], folder: Path, threads: int, say: Callable[[str], None]
) -> list[Contestant]:
    """Make the contestants of these names; `folder` is for what the workers read and write."""
    contestants: list[Contestant] = []
    write(folder / "race.npz", workload.arrays, workload.weights())
    try:
        for name in names:
            if name in MODES:
                contestants += _peers(workload, name, folder, threads, say)
                continue
            found = _LOCAL[name](workload)
            if not found:
                say(f"{name} stays away: {_ABSENT[name]}")
            contestants += found
    except BaseException:
        leave(contestants)
        raise
    return contestants


def leave(contestants: Sequence[Contestant]) -> None:
    for contestant in contestants:
        contestant.close()


def _peers(
    workload: Workload, peer: str, folder: Path, threads: int, say: Callable[[str], None]
) -> list[PeerContestant]:
    """One contestant per mode of the peer; none where it is not installed or has no such workload."""
    if not takes_part(workload.name, peer):
        say(f"{peer} stays away: nobody has written {workload.name} for it")
        return []
    if not installed(peer):
        say(f"{peer} stays away: it is not installed; `make peers` does that")
        return []
    contestants: list[PeerContestant] = []
    try:
        for mode in MODES[peer]:
            contestants.append(PeerContestant(peer, workload.name, folder, threads, mode))  # noqa: PERF401  (see except)
    except BaseException:
        leave(contestants)
        raise
    return contestants
