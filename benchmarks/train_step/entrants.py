"""Who takes part in this race?"""

from __future__ import annotations

from benchmarks.race.entrants import PEERS
from benchmarks.race.local import WAYS

CONTESTANTS = (*WAYS, "by-hand", "by-hand-merged", "floor", *PEERS)
ON_REQUEST = ("per-sample",)  # so slow that its rounds would make the whole race short


def module_of(workload: str, peer: str) -> str:
    return f"benchmarks.train_step.{workload.replace('-', '_')}.{peer}_peer"
