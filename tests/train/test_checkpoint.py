"""A save is all or nothing, whenever it is cut off; damage is noticed and named."""

import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn

import bale.train.files as files
from bale.errors import CheckpointError
from bale.train import Checkpoint, Place, TrainConfig, load_checkpoint

FILES = ("checkpoint.json", "model.safetensors", "optimizer.safetensors")


def make_checkpoint(step, optimizer=torch.optim.Adam):
    """A checkpoint whose every part tells which step it is of."""
    model = nn.Linear(2, 3)
    nn.init.constant_(model.weight, step)
    optimizer = optimizer(model.parameters(), lr=0.1)
    model.weight.grad = torch.full((3, 2), float(step))
    optimizer.step()
    return Checkpoint.of(model, optimizer, Place(step, step, step, step / 10), TrainConfig(), {"words": ["a", "é"]})


def same(one, other):
    return (
        (one.place, one.config, one.facts) == (other.place, other.config, other.facts)
        and all(torch.equal(one.model[name], other.model[name]) for name in one.model)
        and torch.equal(one.optimizer["state"][0]["exp_avg"], other.optimizer["state"][0]["exp_avg"])
        and one.optimizer["param_groups"] == json.loads(json.dumps(other.optimizer["param_groups"]))
        and torch.equal(one.rng, other.rng)
    )


def test_what_is_saved_is_loaded(tmp_path):
    checkpoint = make_checkpoint(3)
    checkpoint.save(tmp_path / "new" / "folder")
    assert same(load_checkpoint(tmp_path / "new" / "folder"), checkpoint)
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(FILES)


def test_weights_that_share_memory_are_saved(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    checkpoint = Checkpoint.of(model, torch.optim.SGD(model.parameters()), Place(), TrainConfig(), {})
    checkpoint.save(tmp_path)
    assert torch.equal(load_checkpoint(tmp_path).model["1.weight"], model[0].weight)


class Killed(BaseException):
    """Nothing catches it, as nothing catches the end of a process."""


def cut_off(monkeypatch, after):
    """Let the file system die after so many operations; return the list of those that were done."""
    done = []

    def dying(operation):
        def run(*args, **kwargs):
            if len(done) == after:
                raise Killed
            done.append(operation)
            return operation(*args, **kwargs)

        return run

    monkeypatch.setattr(os, "replace", dying(os.replace))
    monkeypatch.setattr(os, "fsync", dying(os.fsync))
    return done


def operations_of_a_save(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        done = cut_off(patch, after=-1)
        make_checkpoint(0).save(tmp_path / "count")
    return len(done)


def test_a_save_that_is_cut_off_leaves_the_old_or_the_new_checkpoint(tmp_path, monkeypatch):
    old, new, newest = make_checkpoint(1), make_checkpoint(2), make_checkpoint(3)
    outcomes = []
    count = operations_of_a_save(tmp_path, monkeypatch)
    assert count >= 6
    for after in range(count):
        folder = tmp_path / str(after)
        old.save(folder)
        with monkeypatch.context() as patch, pytest.raises(Killed):
            cut_off(patch, after)
            new.save(folder)
        found = load_checkpoint(folder)
        outcomes.append(found.place.step)
        assert same(found, old) or same(found, new)
        # The next save may be cut off as well, before anything of it counts.
        with monkeypatch.context() as patch, pytest.raises(Killed):
            cut_off(patch, 1)
            newest.save(folder)
        assert load_checkpoint(folder).place.step == outcomes[-1]
        newest.save(folder)
        assert same(load_checkpoint(folder), newest)
        assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert outcomes == sorted(outcomes) and set(outcomes) == {1, 2}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "missing"])
def test_damage_is_named(tmp_path, name, damage):
    make_checkpoint(1).save(tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        # Every byte that can be flipped unnoticed in the index is one of its values; its syntax is not.
        place = 0 if name == "checkpoint.json" else len(content) // 2
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(tmp_path)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder; expected one that `--save` has written"):
        load_checkpoint(tmp_path / "none")
    with pytest.raises(CheckpointError, match=r"has no checkpoint\.json"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": 99}, "is of format 99"),
        ({"config": {"colour": "blue"}}, "is damaged"),
        ({"config": None}, "is damaged"),
        ({"rng": "%"}, "is damaged"),
        ({"files": {}}, "is damaged"),
        ({"files": 3}, "names no files"),
    ],
)
def test_an_index_that_makes_no_sense(tmp_path, change, problem):
    make_checkpoint(1).save(tmp_path)
    path = tmp_path / "checkpoint.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CheckpointError, match=problem):
        load_checkpoint(tmp_path)


def test_a_folder_that_two_processes_prepare_at_once(tmp_path, monkeypatch):
    touch = Path.touch

    def another_is_faster(path):
        touch(path)
        path.unlink()

    monkeypatch.setattr(Path, "touch", another_is_faster)
    files.prepare_folder(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be written: Not a directory"):
        make_checkpoint(1).save(tmp_path / "file" / "below")
    with pytest.raises(CheckpointError, match="cannot be written"):
        files.prepare_folder(tmp_path / "file")
