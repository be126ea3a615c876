"""Who takes part? Names of contestants become contestants; who cannot take part is named with the reason."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.race import floor, local
from benchmarks.race.contestant import Contestant
from benchmarks.race.peer import PeerContestant, installed
from benchmarks.race.worker import write
from benchmarks.race.workload import Workload

MODES = {"dynet": [{"autobatch": 1}, {"autobatch": 2}], "dgl": [{}], "torchfold": [{}]}
PEERS = tuple(MODES)

ModuleOf = Callable[[str, str], str]
"""The names of a workload and of a peer -> the module in which somebody may have written the one for the other."""

_LOCAL: dict[str, Callable[..., Sequence[Contestant]]] = {
    **{name: local.bale_way(name) for name in local.WAYS},
    "by-hand": local.by_hand,
    "by-hand-merged": local.by_hand_merged,
    "per-sample": lambda workload, training: [local.per_sample(workload, training=training)],
    "floor": floor.floor,
}


def enter(
    workload: Workload,
    names: Sequence[str],
    folder: Path,
    threads: int,
    say: Callable[[str], None],
    module_of: ModuleOf,
    *,
    training: bool = True,
) -> list[Contestant]:
    """Make the contestants of these names; `folder` is for what the workers read and write."""
    contestants: list[Contestant] = []
    if any(name in MODES for name in names):
        write(folder / "race.npz", workload.arrays, workload.weights())
    try:
        for name in names:
            if name in MODES:
                contestants += _peers(name, module_of(workload.name, name), workload, folder, threads, say, training)
                continue
            found = _LOCAL[name](workload, training=training)
            if not found:
                say(f"{name} stays away: nobody has written {workload.name} that way")
            contestants += found
    except BaseException:
        leave(contestants)
        raise
    return contestants


def leave(contestants: Sequence[Contestant]) -> None:
    for contestant in contestants:
        contestant.close()


def written(module: str) -> bool:
    """Whether there is such a module."""
    return importlib.util.find_spec(module) is not None


def _peers(
    peer: str,
    module: str,
    workload: Workload,
    folder: Path,
    threads: int,
    say: Callable[[str], None],
    training: bool,
) -> list[PeerContestant]:
    """One contestant per mode of the peer; none where it is not installed or has no such workload."""
    if not written(module):
        say(f"{peer} stays away: nobody has written {workload.name} for it")
        return []
    if not installed(peer):
        say(f"{peer} stays away: it is not installed; `make peers` does that")
        return []
    contestants: list[PeerContestant] = []
    try:
        for mode in MODES[peer]:
            contestants.append(PeerContestant(peer, module, folder, threads, mode, training=training))  # noqa: PERF401
    except BaseException:  # those that have started must end
        leave(contestants)
        raise
    return contestants
