"""Are the mini-batches of the size that they are said to be, and is a line of each complete? And is work linear?"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import bale
from bale.batching.graph import Graph
from bale.batching.memory import arrange
from bale.batching.schedule import make_schedule
from benchmarks import figures, scale


@pytest.mark.parametrize("family", scale.FAMILIES)
def test_a_line_of_each_family(family: str) -> None:
    lines = [scale.measure(family, 600, phase, 0) for phase in scale.PHASES]
    for line in lines:
        assert 0.7 * 600 < line["nodes"] < 1.3 * 600
        stages = [stage for stage in scale.STAGES if stage != "backward" or line["phase"] == "training"]
        assert list(line["us_per_node"]) == [*stages, "all"]
    assert lines[0]["nodes"] == lines[1]["nodes"]
    scale.table_of(lines)


def test_the_samples_are_those_of_the_model() -> None:
    for make in scale.FAMILIES.values():
        torch.manual_seed(0)
        model, samples = make(200, 0)
        batched = bale.batch(model, merge=False)
        for one, many in zip(map(model, samples), batched(samples), strict=True):
            torch.testing.assert_close(one, many)


def test_the_picture_is_the_same_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [scale.measure("deep", size, "training", 0) for size in (200, 400)]
    file = tmp_path / "scale.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for folder in ("one", "two"):
        monkeypatch.setattr("sys.argv", ["figures", str(file), str(tmp_path / folder)])
        figures.main()
    one, two = ((tmp_path / folder / "scale.svg").read_text() for folder in ("one", "two"))
    assert one == two and re.search("<svg", one)


def test_the_latest_batches_of_a_deep_graph_take_no_walk_over_all_of_them() -> None:
    """64 chains of 1000 nodes: every node's latest batch is its own, far from the last."""
    length, chains = 1000, 64
    operands = [[] if node % length == 0 else [node - 1] for node in range(length * chains)]
    graph = Graph.of([0] * len(operands), operands)
    schedule = make_schedule(graph, "depth")
    late = arrange.as_late_as_possible(graph, schedule)
    assert np.array_equal(late.order, schedule.order) and np.array_equal(late.batch_start, schedule.batch_start)
