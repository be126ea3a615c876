"""Do all contestants of the race compute the same, and does its report have every field?"""

import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks.race.contestant import Step
from benchmarks.race.entrants import PEERS, enter, leave, written
from benchmarks.race.local import per_sample
from benchmarks.race.peer import installed
from benchmarks.race.turns import Mismatch, compare
from benchmarks.race.worker import read, write
from benchmarks.train_step.__main__ import WORKLOADS, make, run
from benchmarks.train_step.entrants import CONTESTANTS, module_of
from benchmarks.train_step.report import table_of

FIELDS = set(
    "workload batch hidden impl variant step_ms cpu_ms build_ms forward_ms backward_ms trees_per_s floor_ratio threads "
    "runs versions processor".split()
)
LOCAL = [name for name in CONTESTANTS if name not in PEERS]


@pytest.mark.parametrize("name", WORKLOADS)
def test_bale_and_every_way_by_hand_agree_with_the_loop(name: str, tmp_path: Path) -> None:
    workload = make(name, batch=5, hidden=6, seed=1)
    contestants = enter(workload, LOCAL, tmp_path, threads=1, say=lambda text: None, module_of=module_of)
    assert {contestant.impl for contestant in contestants} >= {"bale", "by-hand", "floor"}
    compare(contestants, per_sample(workload))


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("name", WORKLOADS)
def test_a_peer_agrees_with_the_loop(name: str, peer: str, tmp_path: Path) -> None:
    if not written(module_of(name, peer)):
        pytest.skip(f"nobody has written {name} for {peer}")
    if not installed(peer):
        pytest.skip(f"{peer} is not installed: make peers")
    workload = make(name, batch=5, hidden=6, seed=1)
    contestants = enter(workload, [peer], tmp_path, threads=1, say=lambda text: None, module_of=module_of)
    try:
        compare(contestants, per_sample(workload))
    finally:
        leave(contestants)


def test_the_report_has_every_field_and_every_contestant_once() -> None:
    workload = make("bilstm", batch=2, hidden=4, seed=0)
    lines = run(workload, ["bale", "by-hand", "floor"], threads=1, pairs=2, seconds=60.0)
    assert [line["impl"] for line in lines] == ["bale", "by-hand", "floor"]
    for line in lines:
        assert set(json.loads(json.dumps(line))) == FIELDS
        assert line["runs"] == 2
    assert lines[2]["floor_ratio"] == 1 and lines[2]["forward_ms"] is None
    assert table_of(lines).row_count == 3


def test_a_mismatch_names_the_contestant(tmp_path: Path) -> None:
    workload = make("tree-lstm", batch=2, hidden=4, seed=0)
    (contestant,) = enter(workload, ["bale"], tmp_path, threads=1, say=lambda text: None, module_of=module_of)
    right = contestant.gradient

    contestant.gradient = lambda: right() * 1.001  # type: ignore[method-assign]
    with pytest.raises(Mismatch, match="bale: the gradient is off"):
        compare([contestant], per_sample(workload))
    contestant.step = lambda: Step(0.0, 0.0, 0.0)  # type: ignore[method-assign]
    with pytest.raises(Mismatch, match="bale: the loss is"):
        compare([contestant], per_sample(workload))


def test_absent_contestants_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("benchmarks.race.peer.ENVIRONMENTS", tmp_path)
    workload = make("tree-lstm", batch=2, hidden=4, seed=0)
    assert enter(workload, ["dgl"], tmp_path, threads=1, say=said.append, module_of=module_of) == []
    assert said == ["dgl stays away: it is not installed; `make peers` does that"]


def test_workers_read_what_was_written(tmp_path: Path) -> None:
    samples = {"words": np.arange(3)}
    weights = {"b.weight": np.ones((2, 3), np.float32), "a.bias": np.zeros(2, np.float32)}
    write(tmp_path / "race.npz", samples, weights)
    samples_read, weights_read = read(tmp_path / "race.npz")
    assert list(samples_read) == ["words"] and list(weights_read) == ["b.weight", "a.bias"]
    np.testing.assert_array_equal(weights_read["b.weight"], weights["b.weight"])
