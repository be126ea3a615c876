"""Does the study of compression resume, divide its runs among processes, and report what it has measured?"""

import json

import pytest
import torch
from benchmarks.compression import __main__ as command
from benchmarks.compression.runs import CANNON, CONTROL, NETWORKS, SETTINGS, SMARTDEAL, WIDER, Amount, Run, grid
from benchmarks.compression.study import Study
from benchmarks.compression.summary import _COLOURS, Summary, draw, summaries, table_of

from bale.data import FASHION_CLASSES, Images
from bale.train import image_accuracy

TINY = Amount(dense_epochs=1, epochs=2, images=64)


@pytest.fixture
def images() -> Images:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (64, 1, 28, 28), dtype=torch.uint8, generator=generator)
    return Images(pixels, torch.arange(64) % 10, FASHION_CLASSES, "noise")


def line_of(run: Run, accuracy: float = 0.9) -> dict:
    return {
        "model": run.model,
        "method": run.method,
        "setting": run.setting,
        "configs": run.meaning,
        "seed": run.seed,
        "dense_accuracy": 0.91,
        "accuracy": accuracy,
        "dense_bytes": 1000,
        "packed_bytes": 100 + run.seed,
        "adc_bits": 5,
        "train_s": 1.0,
        **run.amount.fields(),
    }


@pytest.mark.parametrize("setting", ["structured:keep=0.7 + adc-aware:adc_bits=5", "uniform:bits=2", CONTROL])
def test_a_run_reports_the_file_that_it_wrote_and_leaves_no_checkpoints(setting, images, tmp_path) -> None:
    told = []
    study = Study(images, images, tmp_path, lambda what, step: told.append(what))
    run = Run("lenet5", setting, 0, TINY)
    line = study.run(run)
    assert Run.of(json.loads(json.dumps(line))) == run
    assert line["dense_bytes"] == 4 * 61706
    assert 0 < line["packed_bytes"] < (1.1 if setting == CONTROL else 1) * line["dense_bytes"]
    assert [config["method"] for config in line["configs"]] == (
        [] if setting == CONTROL else line["method"].split(" + ")
    )
    assert line["adc_bits"] == (5 if "adc" in setting else line["adc_bits"]) and line["dense_adc_bits"] >= 8
    # The dense network's, and the compressed one's.
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".bale", ".json", ".json", ".safetensors"]
    assert set(told) == {"dense", setting}
    told.clear()
    assert {**study.run(run), "train_s": 0} == {**line, "train_s": 0} and set(told) == {setting}
    told.clear()
    model, kept = study.network(run)
    assert not told, "a network that is kept is trained once more"
    assert kept["accuracy"] == line["accuracy"]
    assert abs(image_accuracy(model, images) - line["accuracy"]) <= 2 / len(images)


def test_runs_that_the_file_has_are_not_done_again(tmp_path, monkeypatch) -> None:
    runs = grid(["lenet5", "lstm"], SETTINGS[:2], [0, 1], TINY)
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(json.dumps(line_of(run)) + "\n" for run in runs[:-1]))
    done = []
    monkeypatch.setattr(command, "image_data", lambda name: (_Any(), _Any()))
    monkeypatch.setattr(command.Study, "run", lambda self, run: done.append(run) or line_of(run))
    lines = command.measure(runs, path, tmp_path, command.Console(quiet=True))
    assert done == [runs[-1]] and [Run.of(line) for line in lines] == runs
    assert [Run.of(line) for line in command.read(path)] == runs


def test_a_setting_that_means_something_else_now_is_run_again(tmp_path, monkeypatch) -> None:
    run, same = grid(["lenet5"], ["uniform:bits=3", "uniform:bits=2"], [0], TINY)
    was, gone = line_of(run, 0.5), line_of(Run("lenet5", "structured:keep=0.7", 0, TINY))
    was["configs"] = [{**was["configs"][0], "rounding": "floor"}]
    unknown = {name: value for name, value in line_of(run).items() if name != "configs"}
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in (was, gone, unknown, line_of(same))))
    done = []
    monkeypatch.setattr(command, "image_data", lambda name: (_Any(), _Any()))
    monkeypatch.setattr(command.Study, "run", lambda self, run: done.append(run) or line_of(run, 0.8))
    command.measure([run, same], path, tmp_path, command.Console(quiet=True))
    command.measure([run, same], path, tmp_path, command.Console(quiet=True))
    assert done == [run]
    found = {line["setting"]: line["accuracy"] for line in command.measured(path, TINY)}
    assert found == {"uniform:bits=3": 0.8, "uniform:bits=2": 0.9}
    (row, *_) = summaries(command.measured(path, TINY))
    assert row.seeds == 1


def test_a_summary_is_of_one_amount(tmp_path, monkeypatch, capsys) -> None:
    path = tmp_path / "lines.jsonl"
    runs = [Run("lenet5", "uniform:bits=3", seed, amount) for seed in (0, 1) for amount in (Amount(), command.QUICK)]
    path.write_text("".join(json.dumps(line_of(run, 0.8 if run.amount == Amount() else 0.5)) + "\n" for run in runs))
    monkeypatch.setattr(torch, "set_num_threads", lambda many: None)
    command.main(["--results", str(path), "--summary"])
    full = capsys.readouterr().out
    command.main(["--results", str(path), "--summary", "--quick"])
    quick = capsys.readouterr().out
    assert "80.00 +- 0.00" in full and "50.00 +- 0.00" in quick


def test_checkpoints_are_of_one_meaning(monkeypatch) -> None:
    run = Run("lenet5", "uniform:bits=3", 0, TINY)
    folders = {run.folder, Run("lenet5", "uniform:bits=3", 0, Amount(2, 2, 64)).folder}
    monkeypatch.setattr(Run, "meaning", property(lambda self: [{"method": "uniform", "bits": 3, "rounding": "floor"}]))
    assert len({*folders, run.folder}) == 3


class _Any:
    def take(self, count: int) -> "_Any":
        return self


def test_shards_share_out_all_runs_and_a_dense_network_is_of_one() -> None:
    whole = _chosen()
    parts = [_chosen("--shard", f"{mine}/3") for mine in (1, 2, 3)]
    assert sorted(str(run) for part in parts for run in part) == sorted(map(str, whole))
    not_for_lstm = sum(setting.startswith(("structured", "communication-aware")) for setting in SETTINGS)
    assert len(whole) == 3 * (len(NETWORKS) * len(SETTINGS) - not_for_lstm)
    pairs = [{(run.model, run.seed) for run in part} for part in parts]
    assert not (pairs[0] & pairs[1] or pairs[0] & pairs[2] or pairs[1] & pairs[2])
    assert {run.model for run in whole} == set(NETWORKS)
    assert {run.model for run in _chosen("--models", ",".join(WIDER), "--seeds", "0")} == set(WIDER)


def test_a_wider_network_is_the_same_one_with_more_maps(images, tmp_path) -> None:
    study = Study(images, images, tmp_path, lambda what, step: None)

    def shapes(model: str) -> list[tuple[str, int]]:
        return [(name, p.numel()) for name, p in study.build(Run(model, CONTROL, 0, TINY)).named_parameters()]

    for name, (spec, _) in WIDER.items():
        wide, narrow = shapes(name), shapes(spec)
        assert [key for key, _ in wide] == [key for key, _ in narrow]
        assert all(more >= fewer for (_, more), (_, fewer) in zip(wide, narrow, strict=True)) and wide != narrow


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error_before_anything_runs(capsys) -> None:
    with pytest.raises(SystemExit):
        command.main(["--device", "cuda", "--quick"])
    assert "--device cuda: this torch finds no GPU" in capsys.readouterr().err


def _chosen(*arguments: str) -> list[Run]:
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "measure", lambda runs, *rest: found.extend(runs) or [line_of(run) for run in runs])
        patch.setattr(command.command, "tell", lambda *given, **more: None)
        patch.setattr(torch, "set_num_threads", lambda many: None)
        command.main(list(arguments))
    return found


def test_the_summary_has_means_and_extremes_and_says_what_was_wanted() -> None:
    setting = "adc-aware:adc_bits=5"
    lines = [line_of(Run("vgg8", setting, seed, TINY), accuracy) for seed, accuracy in enumerate((0.89, 0.90, 0.92))]
    lines.append(line_of(Run("lenet5", "uniform:bits=2", 0, TINY), 0.5))
    last, first = summaries(lines)[::-1]
    assert (last.model, last.seeds, last.met) == ("vgg8", 3, True)
    assert last.accuracy.mean == pytest.approx(0.90333333) and last.drop.half == pytest.approx(0.015)
    assert last.packed_bytes.mean == 101 and last.ratio == pytest.approx(1000 / 101)
    assert first.model == "lenet5" and first.met is None
    assert summaries([line_of(Run("vgg8", setting, 0, TINY), 0.85)])[0].met is False
    assert table_of(lines).row_count == 2
    assert len(draw(lines).axes) == 2


def test_bytes_and_communication_that_are_wanted_are_looked_at_too() -> None:
    def row(setting: str, **numbers: float) -> Summary:
        return summaries([line_of(Run("vgg8", setting, 0, TINY), 0.905) | numbers])[0]

    assert row(SMARTDEAL, packed_bytes=100).met and not row(SMARTDEAL, packed_bytes=101).met
    assert row(CANNON, communication=0.5).met and not row(CANNON, communication=0.51).met
    assert row(CANNON).met is False  # nothing is known of it
    left = {SMARTDEAL: None, CANNON: 0.4}
    lines = [line_of(Run("vgg8", setting, 0, TINY), 0.905) | {"communication": left[setting]} for setting in left]
    cells = {column.header: list(column.cells) for column in table_of(lines).columns}
    assert cells["wanted"] == ["<= 1, 10x: met", "<= 1, 50% of C: met"] and cells["C %"] == ["", "40.0"]


def test_a_control_says_what_training_alone_brings() -> None:
    def lines_of(model, setting, *accuracies):
        return [line_of(Run(model, setting, seed, TINY), accuracy) for seed, accuracy in enumerate(accuracies)]

    setting = "adc-aware:adc_bits=5"
    lines = [
        *lines_of("vgg8", setting, 0.90, 0.91),
        *lines_of("vgg8", CONTROL, 0.93, 0.94),
        *lines_of("lstm", setting, 0.9),
    ]
    lstm, pruned, control = summaries(lines)
    assert pruned.to_control == pytest.approx(0.03) and pruned.drop.mean == pytest.approx(0.005) and pruned.met
    assert lstm.to_control is None and control.to_control is None
    (column,) = (column for column in table_of(lines).columns if column.header == "to control")
    assert list(column.cells) == ["", "3.00", ""]
    labels = [text.get_text() for text in draw(lines).legends[0].texts]
    assert "not compressed, trained on" in labels


def test_every_method_has_a_colour() -> None:
    assert {run.method for run in grid(list(NETWORKS), SETTINGS, [0], TINY)} == _COLOURS.keys()
    assert len(set(_COLOURS.values())) == len(_COLOURS)
