"""Do all workloads build, all contestants compute the same, and does a file of results go on where it was left?"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.race.contestant import Step
from benchmarks.race.entrants import enter, leave, written
from benchmarks.race.local import per_sample
from benchmarks.race.peer import PeerError, installed
from benchmarks.race.turns import compare
from benchmarks.throughput import __main__ as command
from benchmarks.throughput import pools
from benchmarks.throughput.cell import Cell, grid
from benchmarks.throughput.published import INFERENCE
from benchmarks.throughput.results import Line, Results, lines_of
from benchmarks.throughput.run import Race, module_of
from benchmarks.throughput.summary import bale_over_dynet, ed_batch_over_dynet, table_of, verdict
from benchmarks.throughput.workloads import WORKLOADS, make
from torch import Tensor, nn

FIELDS = set(
    "workload hidden batch phase threads seed data impl variant instances_per_s step_ms build_ms schedule_ms "
    "execute_ms backward_ms cpu_ms floor_ratio rounds versions processor".split()
)
BY_HAND = {"tree-lstm", "tree-gru", "mv-rnn", "two-type", "bilstm", "nmt"}


@pytest.fixture(autouse=True)
def few_made_samples(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("BALE_DATA", str(tmp_path / "no data"))
    monkeypatch.setattr(pools, "MADE", 12)
    make.cache_clear()
    yield
    make.cache_clear()


def agree(name: str, names: list[str], folder: Path, batches: int, *, training: bool) -> set[str]:
    """Compare contestants with the loop over some mini-batches; return who there was."""
    mini_batches = make(name, 6, 0).mini_batches(5, seed=1)
    first = next(mini_batches)
    contestants = enter(first, names, folder, 1, lambda text: None, module_of, training=training)
    try:
        for workload in (first, *itertools.islice(mini_batches, batches - 1)):
            for contestant in contestants:
                contestant.turn_to(workload)
            compare(contestants, per_sample(workload, training=training))
    finally:
        leave(contestants)
    return {contestant.impl for contestant in contestants}


@pytest.mark.parametrize("name", WORKLOADS)
def test_bale_and_every_way_by_hand_agree_with_the_loop(name: str, tmp_path: Path) -> None:
    local = ["bale", "by-hand", "floor"]
    there = set(local) if name in BY_HAND else {"bale", "floor"}
    assert agree(name, local, tmp_path, 2, training=True) == there
    assert agree(name, local, tmp_path, 1, training=False) == there


@pytest.mark.parametrize("name", WORKLOADS)
def test_dynet_agrees_with_the_loop(name: str, tmp_path: Path) -> None:
    if not written(module_of(name, "dynet")):
        pytest.skip(f"nobody has written {name} for dynet")
    if not installed("dynet"):
        pytest.skip("dynet is not installed: make peers")
    assert agree(name, ["dynet"], tmp_path, 2, training=True) == {"dynet"}


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_floor_multiplies_no_more_than_the_loop_and_not_much_less(name: str) -> None:
    workload = next(make(name, 6, 0).mini_batches(5, seed=1))
    of_floor = sum(rows * inner * columns for rows, inner, columns in workload.products)
    of_loop = multiplications(workload.model, workload.samples)
    assert 0.4 * of_loop < of_floor <= of_loop


def multiplications(model: nn.Module, samples: list[Any]) -> int:
    """Those of all products by a weight, layer by layer."""
    found = 0

    def count(layer: nn.Module, operands: tuple[Tensor, ...], result: Any) -> None:
        nonlocal found
        rows = result.numel() // result.shape[-1] if isinstance(result, Tensor) else 1
        found += rows * sum(weight.numel() for weight in layer.parameters() if weight.dim() == 2)

    def count_matrix(phrase: nn.Module, operands: tuple[Tensor, ...], result: Any) -> None:
        nonlocal found
        found += phrase.matrix.weight.numel() * result[1].shape[1]  # type: ignore[union-attr, operator]

    for layer in model.modules():
        if isinstance(layer, (nn.Linear, nn.LSTMCell, nn.GRUCell)):
            layer.register_forward_hook(count)
        if type(layer).__name__ == "Phrase":  # of the MV-RNN: uses a weight, but calls no layer
            layer.register_forward_hook(count_matrix)
    with torch.no_grad():
        for sample in samples:
            model(sample)
    return found


def test_mini_batches_change_and_have_no_sample_twice_until_few_are_left() -> None:
    task = make("tree-lstm", 4, 0)
    chosen = [workload.chosen or [] for workload in itertools.islice(task.mini_batches(5, seed=3), 4)]
    assert len({*chosen[0], *chosen[1]}) == len({*chosen[2], *chosen[3]}) == 10
    assert chosen[:2] != chosen[2:]
    assert chosen == [workload.chosen for workload in itertools.islice(task.mini_batches(5, seed=3), 4)]
    with pytest.raises(ValueError, match="a mini-batch of 13 samples, and tree-lstm has 12"):
        next(task.mini_batches(13, seed=3))


def test_real_data_are_read_where_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert pools.tagged().data == "generated"
    (tmp_path / "tags").mkdir()
    (tmp_path / "tags" / "dev.txt").write_text("a|DT cat|NN\na|DT dog|NN\n")
    monkeypatch.setenv("BALE_DATA", str(tmp_path))
    pool = pools.tagged()
    assert (pool.data, len(pool.samples), pool.sizes) == ("tags", 2, {"vocabulary": 2, "tags": 2})


def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    contestants = ("--contestants", "bale,by-hand,floor")
    monkeypatch.setattr("sys.argv", ["throughput", "--hidden", "4", "--rounds", "2", *contestants, *options])
    return command.main()


def read(path: Path) -> list[Line]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def test_lines_have_every_field_and_cells_that_are_done_are_skipped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "results.jsonl"
    options = ("--workloads", "tree-lstm", "--json", str(path))
    assert run(monkeypatch, *options, "--batch", "3", "--phase", "inference") == 0
    first = path.read_text()
    lines = read(path)
    assert [line["impl"] for line in lines] == ["bale", "by-hand", "floor"]
    for line in lines:
        assert set(line) == FIELDS
        assert (line["data"], line["rounds"], line["backward_ms"]) == ("generated", 2, None)
    assert lines[0]["build_ms"] > 0 and lines[0]["schedule_ms"] > 0 and lines[0]["execute_ms"] > 0
    assert lines[2]["floor_ratio"] == 1

    assert run(monkeypatch, *options, "--batch", "3,4") == 0
    assert path.read_text().startswith(first)
    more = read(path)[3:]
    assert [(line["batch"], line["phase"]) for line in more[::3]] == [
        (3, "training"),
        (4, "inference"),
        (4, "training"),
    ]
    assert all(line["backward_ms"] > 0 for line in more if line["phase"] == "training" and line["impl"] != "floor")


def test_ctrl_c_leaves_what_is_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path, once = tmp_path / "results.jsonl", Race.run

    def stop_at_the_second(race: Race, cell: Cell) -> list[Line]:
        if cell.batch == 4:
            raise KeyboardInterrupt
        return once(race, cell)

    monkeypatch.setattr(Race, "run", stop_at_the_second)
    options = ("--workloads", "bilstm", "--phase", "inference", "--batch", "3,4", "--json", str(path))
    assert run(monkeypatch, *options) == 130
    assert {line["batch"] for line in read(path)} == {3}


def test_a_mini_batch_too_large_for_any_machine_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.throughput.run.LARGEST", 100)
    assert run(monkeypatch, "--workloads", "mv-rnn", "--batch", "3", "--phase", "training") == 0
    assert "mv-rnn, hidden 4, batch 3, training: left out: its values take" in capsys.readouterr().err


def test_a_peer_that_fails_is_named_and_the_others_race_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_memory(workload: Any, names: list[str], *others: Any, **options: Any) -> list[Any]:
        if "dynet" in names:
            raise PeerError("dynet", "its worker ended with -9")
        return enter(workload, names, *others, **options)

    monkeypatch.setattr("benchmarks.throughput.run.enter", without_memory)
    said: list[str] = []
    lines = Race(["bale", "dynet"], 1, 60.0, said.append).run(Cell("bilstm", 4, 2, "inference", 1, 0))
    assert [line["impl"] for line in lines] == ["bale"]
    assert said == ["bilstm, hidden 4, batch 2, inference: left out: dynet: its worker ended with -9"]


def made_lines(cell: Cell, **seconds: float) -> list[Line]:
    class Made:
        variant = None
        versions: dict[str, str] = {}  # noqa: RUF012  (nobody writes to it)

        def __init__(self, impl: str):
            self.impl = impl

    steps = [[Step(None, taken, taken / 2, {"forward": taken})] for taken in seconds.values()]
    return lines_of(cell, "sst", [Made(impl) for impl in seconds], steps)  # type: ignore[misc]


def test_the_summary_compares_with_what_was_published() -> None:
    ahead, behind = (Cell("tree-lstm", 64, batch, "inference", 1, 0) for batch in (8, 64))
    unpublished = Cell("tree-lstm", 64, 64, "training", 1, 0)
    results = Results(None)
    for cell, dynet in ((ahead, 2.0), (behind, 1.5), (unpublished, 9.0)):
        results.add(made_lines(cell, bale=1.0, dynet=dynet))
    cells = {
        cell: {line["impl"]: line for line in results.lines if Cell.of(line) == cell}
        for cell in (ahead, behind, unpublished)
    }
    assert bale_over_dynet(cells[ahead], "step_ms") == 2 and ed_batch_over_dynet(ahead) == pytest.approx(8231 / 4606)
    assert ed_batch_over_dynet(unpublished) is None
    assert table_of("tree-lstm", cells).row_count == 3
    by_time, by_processor_time = verdict(cells)
    assert "in 1 of 2 cells" in by_time and by_time.endswith("not reached")
    assert by_processor_time.startswith("by processor time")
    assert verdict({unpublished: cells[unpublished]}) == []


def test_what_was_published_is_among_the_cells() -> None:
    cells = grid(WORKLOADS, (64, 256, 512), (8, 64, 256), ("inference",), 1, 0)
    published = {(workload, hidden, batch) for (workload, hidden), batches in INFERENCE.items() for batch in batches}
    assert published <= {(cell.workload, cell.hidden, cell.batch) for cell in cells}
    assert len(published) == 27


def test_unknown_names_are_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, "--workloads", "tree-lstm,oak")
    assert "oak: expected some of tree-lstm, " in capsys.readouterr().err
