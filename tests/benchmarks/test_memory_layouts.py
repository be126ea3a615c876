"""Are layouts counted as by hand, and is what bale is said to copy what it copies?"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.memory import __main__ as command
from benchmarks.memory.layouts import calls, execution_order, inside, naive, planned
from benchmarks.throughput import pools
from benchmarks.throughput.workloads import make
from tests.batching.cell_modules import WIDTH, Of, linear
from tests.batching.test_account import assert_counted
from torch import Tensor, nn

import bale
from bale.batching.execute.account import Copies

ROW = 4 * WIDTH  # bytes of one value in float32


@pytest.fixture
def few_made_samples(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("BALE_DATA", str(tmp_path / "no data"))
    monkeypatch.setattr(pools, "MADE", 12)
    make.cache_clear()
    yield
    make.cache_clear()


@pytest.mark.usefixtures("few_made_samples")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["mv-rnn", "nmt", "lattice-lstm", "dag-lstm"])
def test_what_is_counted_is_what_is_written(name: str, training: bool) -> None:
    task = make(name, 6, 0)
    with torch.set_grad_enabled(training):
        assert_counted(task.model, next(task.mini_batches(5, 0)).samples)


class Steps(nn.Module):
    """A chain: each step reads a word and the step before."""

    def __init__(self) -> None:
        super().__init__()
        self.word = Of(lambda m, x: m.by(x).tanh(), by=linear())
        self.step = Of(lambda m, x, h: m.by(x) + h.tanh(), by=linear())

    def forward(self, words: Tensor) -> Tensor:
        first, *rest = (self.word(word) for word in words)
        for x in rest:
            first = self.step(x, first)
        return first


def planned_calls(model: nn.Module, samples: list[Any]) -> Any:
    return calls(bale.batch(model, capture="eager"), samples)


def test_chains_counted_by_hand() -> None:
    """Three chains of 4, 2 and 3 words, and the batches that they run in: 9 words; 3 steps, 2, 1."""
    _, call = planned_calls(Steps(), [torch.randn(length, WIDTH) for length in (4, 2, 3)])
    # every step's word and state
    assert naive(call).forward == naive(call).backward == Copies(6, 2 * 6 * ROW, 2 * 6 * ROW)
    # Words lie sample by sample: those of the steps are rows 1, 5 and 7, then 2 and 8, then 3. The states that they
    # read are rows 0, 4 and 6, then the first and the third of the step before, then the first. Only what is one row is
    # a view.
    between = execution_order(call)
    assert between.forward == Copies(4, (3 + 2 + 3 + 2) * ROW, (3 + 2 + 3 + 2) * ROW)
    # all that is read is read once, so what is a view has no copy of its gradient either
    assert between.backward == between.forward


def test_a_row_with_two_readers_has_its_gradient_added() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = linear(), Of(lambda m, h: h.tanh())

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = self.first(x)
            return self.second(h), h

    call, in_order = planned_calls(Twice(), [torch.randn(WIDTH) for _ in range(3)])
    assert execution_order(in_order).forward == Copies(), "in order"
    assert execution_order(in_order).backward == Copies(1, 3 * ROW, 3 * ROW), "but also a result"
    # bale's product reads the sum as rows for its weight's gradient: one gather of both readers
    assert planned(call).backward == Copies(1, 3 * ROW, 6 * ROW)
    assert planned(call).forward == Copies()


def test_a_sum_writes_a_row_and_its_scatter_all_of_them() -> None:
    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.leaf, self.root = linear(), Of(lambda m, h: h.tanh())

        def forward(self, rows: Tensor) -> Tensor:
            return self.root(torch.stack([self.leaf(row) for row in rows]).sum(0))

    call, in_order = planned_calls(Sums(), [torch.randn(count, WIDTH) for count in (2, 3)])
    for layout in (naive, execution_order):
        assert layout(in_order).forward == Copies(1, 2 * ROW, 5 * ROW)
        assert layout(in_order).backward == Copies(1, 5 * ROW, 2 * ROW)
    assert planned(call).forward == Copies(1, 2 * ROW, 5 * ROW)


def test_inside_counts_every_batch_and_row() -> None:
    call, _ = planned_calls(Steps(), [torch.randn(length, WIDTH) for length in (4, 2, 3)])
    for plan in (True, False):
        counts = [(code.traffic.after if plan else code.traffic.before).forward for code in call.emitted]
        forward, _ = inside(call, plan)
        batches, rows = {"word": 1, "step": 3}, {"word": 9, "step": 6}
        names = [t.name.split(" ")[0] for t in call.graph.types]
        assert forward.launches == sum(c.launches * batches[n] for n, c in zip(names, counts, strict=True))
        assert forward.written == sum(c.bytes * rows[n] for n, c in zip(names, counts, strict=True))


@pytest.mark.usefixtures("few_made_samples")
def test_the_command_writes_lines_and_a_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["memory", "--workloads", "tree-lstm,nmt", "--batch", "3", "--hidden", "4"]
    monkeypatch.setattr("sys.argv", [*arguments, "--json", str(tmp_path / "lines")])
    command.main()
    lines = [json.loads(text) for text in (tmp_path / "lines").read_text().splitlines()]
    assert [line["workload"] for line in lines] == ["tree-lstm", "nmt"]
    for line in lines:
        assert set(line["layouts"]) == set(command.LAYOUTS)
        naively = line["layouts"]["naive"]["between"]["forward"]["written"]
        assert naively >= line["layouts"]["execution order"]["between"]["forward"]["written"] > 0
    monkeypatch.setattr("sys.argv", [*arguments, "--inference"])
    command.main()
    assert "times fewer" in capsys.readouterr().out
