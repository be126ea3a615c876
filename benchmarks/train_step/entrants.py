"""Who takes part in this race?"""

from __future__ import annotations

from benchmarks.race.entrants import PEERS
from benchmarks.race.local import WAYS

# The loop is so slow that its rounds would make the whole race short; bfloat16 computes something else.
ON_REQUEST = ("per-sample", "bale-bfloat16")
CONTESTANTS = (*[name for name in WAYS if name not in ON_REQUEST], "by-hand", "by-hand-merged", "floor", *PEERS)


def module_of(workload: str, peer: str) -> str:
    return f"benchmarks.train_step.{workload.replace('-', '_')}.{peer}_peer"
