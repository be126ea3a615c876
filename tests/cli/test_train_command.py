"""`bale train` reports what it did, to people and to programs, and goes on where it stopped."""

import json
import re

import pytest
import safetensors.torch
import torch

from bale.train import STAGES

NUMBER, OPTIONAL = (int, float), (int, float, type(None))

SCHEMA = {
    "format": int,
    "bale": str,
    "torch": str,
    "threads": int,
    "interrupted": bool,
    "task": {
        "data": str,
        "model": str,
        "hidden": int,
        "limit": (int, type(None)),
        "parameters": int,
        "classes": int,
        "train": int,
        "valid": int,
        "test": int,
    },
    "config": {
        "batch_size": int,
        "lr": float,
        "epochs": (int, type(None)),
        "steps": (int, type(None)),
        "minutes": OPTIONAL,
        "seed": int,
        "policy": str,
        "threads": int,
        "save_every": int,
    },
    "step": int,
    "epoch": int,
    "steps": int,
    "samples": int,
    "rows": int,
    "epochs": list,
    "accuracy": dict.fromkeys(
        ("test", "test_majority", "test_named", "test_named_majority", "best_valid", "valid_majority"), OPTIONAL
    ),
    "samples_per_second": OPTIONAL,
    "per_step": dict.fromkeys(("nodes", "batches", "bound"), OPTIONAL),
    "seconds": dict.fromkeys((*STAGES, "wall"), NUMBER),
    "comparison": {
        "mini_batches": int,
        "samples": int,
        "batched_seconds": float,
        "per_sample_seconds": float,
        "speedup": float,
        "slowest": float,
        "fastest": float,
        "difference": float,
    },
}


def assert_fits(value, schema, path="report"):
    if isinstance(schema, dict):
        assert isinstance(value, dict) and list(value) == list(schema), path
        for key, below in schema.items():
            assert_fits(value[key], below, f"{path}.{key}")
    else:
        assert isinstance(value, schema), path


def parameters(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


def assert_same_parameters(one, other):
    left, right = parameters(one), parameters(other)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_json_on_stdout_is_all_there_is(train):
    result = train("--epochs", 2, "--json", "-")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert_fits(report, SCHEMA)
    assert (report["steps"], report["samples"], report["rows"], report["epoch"]) == (6, 48, 48, 2)
    assert report["task"]["train"] == 24 and report["task"]["test"] == 3
    assert [set(epoch) for epoch in report["epochs"]] == [{"epoch", "samples", "rows", "loss", "accuracy", "valid"}] * 2
    assert 0 <= report["accuracy"]["test"] <= 1
    assert report["per_step"]["batches"] >= report["per_step"]["bound"] > 0
    assert report["comparison"]["difference"] < 1e-5


def test_json_in_a_file_comes_beside_the_text(train, tmp_path):
    result = train("--steps", 2, "--json", tmp_path / "report.json")
    assert result.exit_code == 0
    assert_fits(json.loads((tmp_path / "report.json").read_text()), SCHEMA)
    for word in ("accuracy", "samples/s", "batches", "speed-up", *STAGES):
        assert word in result.stdout


def test_nothing_is_trained_in_no_steps(train):
    result = train("--steps", 0, "--compare", 0, "--json", "-")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["steps"] == 0 and report["samples_per_second"] is None and report["comparison"] is None
    assert train("--steps", 0, "--compare", 0).exit_code == 0


def test_progress_goes_to_stderr(train):
    result = train("--steps", 3)
    assert [line.split("  ")[0] for line in result.stderr.splitlines() if line.startswith("step")] == [
        "step 1/3",
        "step 2/3",
        "step 3/3",
    ]
    assert "step 1/3" not in result.stdout


@pytest.mark.parametrize("stop", [2, 3])
def test_a_run_in_two_parts_is_the_run(train, bale, tmp_path, stop):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train("--steps", 5, "--save", whole).exit_code == 0
    assert train("--steps", stop, "--save", parts).exit_code == 0
    result = bale("train", "--resume", parts, "--steps", 5, "--json", "-", "--compare", 0)
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert (report["step"], report["steps"], report["config"]["batch_size"]) == (5, 5 - stop, 8)
    assert_same_parameters(whole, parts)


def test_a_resumed_run_can_be_saved_elsewhere(train, bale, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert train("--steps", 2, "--save", first).exit_code == 0
    before = (first / "checkpoint.json").read_bytes()
    assert bale("train", "--resume", first, "--save", second, "--steps", 3, "--compare", 0).exit_code == 0
    assert (first / "checkpoint.json").read_bytes() == before
    assert json.loads((second / "checkpoint.json").read_text())["step"] == 3


def test_new_limits_take_the_place_of_the_old(train, bale, tmp_path):
    assert train("--steps", 2, "--save", tmp_path / "run").exit_code == 0
    result = bale("train", "--resume", tmp_path / "run", "--epochs", 2, "--json", "-", "--compare", 0)
    assert json.loads(result.stdout)["epoch"] == 2


def test_the_data_may_move(train, bale, trees, tmp_path):
    assert train("--steps", 2, "--save", tmp_path / "run").exit_code == 0
    moved = trees.rename(tmp_path / "moved.txt")
    assert bale("train", "--resume", tmp_path / "run", "--steps", 3).exit_code == 2
    again = bale("train", "--resume", tmp_path / "run", "--steps", 3, "--data", f"sst:{moved}", "--compare", 0)
    assert again.exit_code == 0


def test_the_standard_library_is_the_default(bale):
    result = bale("train", "--limit", 400, "--steps", 1, "--hidden", 4, "--compare", 0, "--json", "-")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert (report["task"]["data"], report["task"]["model"]) == ("python", "child-sum")
    assert report["task"]["classes"] == 51
    assert all(0 <= report["accuracy"][name] <= 1 for name in ("test", "test_named", "test_named_majority"))


def test_named_functions_alone(bale):
    options = ("--limit", 400, "--steps", 1, "--hidden", 4, "--compare", 0)
    result = bale("train", "--data", "python-named", *options, "--json", "-")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["task"]["classes"] == 50 and report["accuracy"]["test_named"] is None
    assert "ruled out" not in bale("train", "--data", "python-named", *options).stdout
    assert "that are not `other`, that answer ruled out" in " ".join(bale("train", *options).stdout.split())


def test_a_lattice_model_needs_no_files_either(bale, tmp_path):
    options = ("--limit", 120, "--steps", 2, "--batch-size", 8, "--hidden", 4, "--compare", 1)
    result = bale("train", "--model", "lattice-lstm", *options, "--json", tmp_path / "report.json")
    assert result.exit_code == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert_fits(report, SCHEMA)
    assert (report["task"]["data"], report["task"]["model"]) == ("identifiers", "lattice-lstm")
    assert report["task"]["classes"] == 2 and report["samples"] == 16
    assert 16 * 4 < report["rows"] == report["epochs"][0]["rows"]
    assert report["comparison"]["difference"] < 1e-5
    text = " ".join(result.stdout.split())
    assert re.search(r"[0-9.]+% on the [0-9]+ characters of [0-9]+ test samples \(the commonest class alone", text)
    assert re.search("identifiers: [0-9]+ training samples, 2 classes", text) and "samples/s in training" in text


def test_ctrl_c_while_comparing_keeps_the_report(train, monkeypatch, tmp_path):
    def press(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("bale.train.run.compare", press)
    result = train("--steps", 3, "--json", "-", "--save", tmp_path / "run")
    assert result.exit_code == 130
    report = json.loads(result.stdout)
    assert report["interrupted"] and report["steps"] == 3
    assert report["accuracy"]["test"] is not None and report["comparison"] is None
