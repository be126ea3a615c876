"""Does the benchmark of the systems resume, take means over seeds, and show ours beside the claims?"""

import json
from types import SimpleNamespace

import pytest
import torch
from benchmarks.codesign import __main__ as command
from benchmarks.codesign import networks
from benchmarks.codesign.lines import Part, mean, merged, parts, read, runs
from benchmarks.codesign.networks import NETWORKS
from benchmarks.codesign.summary import draw, rows, table_of
from benchmarks.compression.runs import Amount, Run
from rich.console import Console

from bale.codesign.figure import Figure

FIELDS = ["system", "network", "figure", "baseline", "claim", "ours", "accuracy_dense", "accuracy", "conditions"]


class _Images:
    def take(self, count: int) -> "_Images":
        return self


class _Networks:
    """Dense networks of an accuracy that depends on the seed."""

    def __init__(self, study, amount, seeds) -> None:
        self.amount = amount

    def dense(self, network: str, seed: int) -> SimpleNamespace:
        return SimpleNamespace(accuracy=0.9 + seed / 100)


class _Systems:
    """Systems that remember what was measured of them."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int]] = []

    def of(self, system: str):
        def figures(networks, network: str, seed: int):
            self.asked.append((system, network, seed))
            conditions = {"ours_uj": 2.0 + seed, "bits": [8, 4 + seed], "form": "decomposed", "lossless": True}
            yield Figure("energy", "dense", 3.0 + seed, claim=2.5, conditions=conditions), 0.88 + seed / 100
            yield Figure("images", "10 images", 1.0, unit="share"), 0.88

        return figures


@pytest.fixture
def systems(monkeypatch) -> _Systems:
    fake = _Systems()
    monkeypatch.setattr(command, "image_data", lambda name: (_Images(), _Images()))
    monkeypatch.setattr(command, "Study", lambda *given: SimpleNamespace())
    monkeypatch.setattr(command, "Networks", _Networks)
    monkeypatch.setattr(command, "figures_of", fake.of)
    monkeypatch.setattr(torch, "set_num_threads", lambda many: None)
    return fake


def test_a_line_has_means_over_seeds_and_says_of_which(systems, capsys, tmp_path) -> None:
    asked = ["--system", "cannon", "--networks", "vgg8", "--seeds", "0,2", "--work", str(tmp_path), "--json", "-"]
    assert command.main(asked) == 0
    energy, images = map(json.loads, capsys.readouterr().out.splitlines())
    assert list(energy) == list(images) == FIELDS
    assert (energy["system"], energy["network"], energy["claim"]) == ("cannon", "vgg8", 2.5)
    assert (energy["ours"], energy["accuracy_dense"], energy["accuracy"]) == pytest.approx((4.0, 0.91, 0.89))
    told = energy["conditions"]
    assert told["seeds"] == [0, 2] and told["ours_by_seed"] == [3.0, 5.0]
    assert told["accuracies"] == pytest.approx([0.88, 0.90])
    assert (told["ours_uj"], told["bits"], told["form"], told["lossless"]) == (3.0, [8, 5.0], "decomposed", True)
    assert {"unit", "threads", "torch", "processor", "images", "epochs"} <= told.keys()
    assert images["claim"] is None and "ours_by_seed" not in images["conditions"]


def test_what_the_file_has_is_not_measured_again(systems, tmp_path) -> None:
    path, console = tmp_path / "results" / "lines.jsonl", Console(quiet=True)
    wanted = parts(["reboc", "smartdeal"], ["lenet5", "lstm"], [0, 1], command.QUICK)
    command.measure(wanted[:3], path, tmp_path, console)
    records = command.measure(wanted, path, tmp_path, console)
    assert systems.asked == [(part.system, part.network, part.seed) for part in wanted]
    assert [Part.of(record) for record in records] == wanted and read(path) == records
    command.measure(parts(["reboc"], ["lenet5"], [0], command.Amount()), path, tmp_path, console)
    assert len(systems.asked) == len(wanted) + 1, "of another amount"


def test_what_is_cut_off_leaves_whole_parts(systems, tmp_path, monkeypatch) -> None:
    def cut_off(system: str):
        def figures(networks, network, seed):
            yield from systems.of(system)(networks, network, seed)
            if seed == 1:
                raise KeyboardInterrupt

        return figures

    monkeypatch.setattr(command, "figures_of", cut_off)
    path = tmp_path / "lines.jsonl"
    wanted = parts(["reboc"], ["lenet5"], [0, 1], command.QUICK)
    with pytest.raises(KeyboardInterrupt):
        command.measure(wanted, path, tmp_path, Console(quiet=True))
    assert [Part.of(record) for record in read(path)] == wanted[:1]


def test_the_lstm_is_of_two_systems_only(capsys) -> None:
    asked = parts(["reboc", "tinyadc", "cannon", "smartdeal"], NETWORKS, [0], command.QUICK)
    assert {part.system for part in asked if part.network == "lstm"} == {"reboc", "smartdeal"}
    assert len(asked) == 14
    with pytest.raises(SystemExit):
        command.main(["--system", "tinyadc", "--networks", "lstm"])
    assert "only reboc and smartdeal" in capsys.readouterr().err


def test_what_takes_hours_is_trained_less_in_all_its_parts() -> None:
    wanted = parts(["tinyadc", "cannon"], ["vgg8", "resnet20"], [0, 1])
    images = {(part.system, part.network): part.amount.images for part in wanted}
    assert images == {
        ("tinyadc", "vgg8"): 20_000,
        ("cannon", "vgg8"): 60_000,
        ("tinyadc", "resnet20"): 20_000,
        ("cannon", "resnet20"): 20_000,
    }
    assert {run.amount.images for run in runs(wanted) if run.model == "vgg8"} == {20_000, 60_000}


def test_all_images_are_run_on_a_chip_once() -> None:
    study = SimpleNamespace(test=list(range(3000)))
    full, less = (networks.Networks(study, networks.amount("cannon", name)) for name in ("vgg8", "resnet20"))
    assert [len(full.checked(seed)) for seed in (0, 1)] == [3000, 3000]
    assert [len(less.checked(seed)) for seed in (0, 1)] == [3000, 1000]


def test_shards_share_out_all_networks(monkeypatch, tmp_path) -> None:
    trained: list[list] = []

    class Kept:
        def __init__(self, *given) -> None:
            pass

        def network(self, run):
            trained[-1].append(run)
            return None, {"accuracy": 0.9, "dense_accuracy": 0.9}

    monkeypatch.setattr(command, "image_data", lambda name: (_Images(), _Images()))
    monkeypatch.setattr(command, "Study", Kept)
    monkeypatch.setattr(torch, "set_num_threads", lambda many: None)
    asked = ["--train", "--system", "reboc", "--system", "cannon", "--work", str(tmp_path)]
    for mine in (1, 2):
        trained.append([])
        assert command.main([*asked, "--shard", f"{mine}/2"]) == 0
    whole = runs(parts(["reboc", "cannon"], NETWORKS, [0, 1, 2]))
    assert sorted(map(str, trained[0] + trained[1])) == sorted(map(str, whole))
    pairs = [{(run.model, run.seed) for run in part} for part in trained]
    assert pairs[0] and pairs[1] and not pairs[0] & pairs[1]


def test_a_shard_is_of_training(capsys) -> None:
    with pytest.raises(SystemExit):
        command.main(["--shard", "1/2"])
    assert "--train" in capsys.readouterr().err


def test_a_summary_shows_and_draws_what_the_file_has(systems, tmp_path, capsys) -> None:
    path, picture = tmp_path / "lines.jsonl", tmp_path / "claims.svg"
    asked = ["--quick", "--system", "tinyadc", "--system", "cannon", "--results", str(path)]
    command.main([*asked, "--networks", "lenet5,vgg8"])
    measured = capsys.readouterr().out
    many = len(systems.asked)
    command.main([*asked, "--networks", "lenet5,vgg8", "--summary", "--picture", str(picture)])
    assert capsys.readouterr().out == measured and len(systems.asked) == many
    for text in ("TinyADC", "CANNON", "LeNet-5", "VGG-8", "2.50x", "3.00x (-2.0)", "100%"):
        assert text in measured
    assert picture.read_text().startswith("<?xml")
    with pytest.raises(SystemExit):
        command.main(["--summary", "--results", str(path)])
    assert "--summary needs --results" in capsys.readouterr().err


def test_networks_stand_side_by_side_and_figures_in_the_order_of_their_system(systems, tmp_path) -> None:
    wanted = parts(["smartdeal", "cannon"], ["resnet20", "lenet5"], [1, 0], command.QUICK)
    lines = merged(command.measure(wanted, None, tmp_path, Console(quiet=True)))
    assert [(line["system"], line["network"], line["figure"]) for line in lines] == [
        (system, network, figure)
        for system in ("cannon", "smartdeal")
        for network in ("lenet5", "resnet20")
        for figure in ("energy", "images")
    ]
    assert [list(row) for row in rows(lines).values()] == [["lenet5", "resnet20"]] * 4
    assert table_of(lines).row_count == 4 and len(draw(lines).axes) == 2
    assert not [axes for axes in draw([line for line in lines if line["claim"] is None]).axes if axes.get_title("left")]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2], 1.5),
        ([True, False], True),
        (["a", "b"], "a"),
        ([{"a": 1, "b": [1, {"c": 2}]}, {"a": 1, "b": [1, {"c": 4}]}], {"a": 1, "b": [1, {"c": 3}]}),
        ([{"a": 1}, {"b": 2}], {"a": 1}),
        ([[1], [1, 2]], [1]),
        ([None, 2.0], None),
    ],
)
def test_numbers_that_differ_become_their_mean(values, expected) -> None:
    assert mean(values) == expected


def test_a_number_that_is_not_known_is_measured_told_and_drawn(systems, tmp_path, monkeypatch):
    def figures(networks, network, seed):
        yield Figure("operations by energy", "FPGA", None, claim=96), 0.88

    monkeypatch.setattr(command, "figures_of", lambda system: figures)
    wanted = parts(["reboc"], ["lenet5"], [0, 1], command.Amount())
    lines = merged(command.measure(wanted, None, tmp_path, Console(quiet=True)))
    assert [line["ours"] for line in lines] == [None]
    assert list(table_of(lines).columns[-1].cells) == ["not known (-2.5)"]
    draw(lines).savefig(tmp_path / "claims.svg")


def test_a_picture_that_cannot_be_written_is_told_before_hours_of_measuring(capsys, tmp_path) -> None:
    for name, message in (
        ("ours.gif", "expected a name that ends in"),
        (str(tmp_path / "no" / "ours.svg"), "no folder"),
    ):
        with pytest.raises(SystemExit):
            command.main(["--system", "reboc", "--picture", name])
        assert message in capsys.readouterr().err


def test_what_the_study_of_compression_has_is_not_trained_again(tmp_path, monkeypatch) -> None:
    run = Run("lenet5", "uniform:bits=2", 1, Amount())
    line = {"model": run.model, "setting": run.setting, "seed": run.seed, "configs": run.meaning, **run.amount.fields()}
    (tmp_path / "study.jsonl").write_text(json.dumps({**line, "accuracy": 0.5}) + "\n")
    monkeypatch.setattr(networks, "STUDY", tmp_path / "study.jsonl")
    trained = []
    known = networks.Networks(SimpleNamespace(), Amount())
    monkeypatch.setattr(known, "compressed", lambda *given: trained.append(given) or SimpleNamespace(line={}))
    assert known.told("lenet5", "uniform:bits=2", 1)["accuracy"] == 0.5 and not trained
    assert known.told("lenet5", "uniform:bits=2", 2) == {} and trained == [("lenet5", "uniform:bits=2", 2)]
