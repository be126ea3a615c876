"""Real data become a task: samples in splits, numbers with names, a model that fits; or an error that says why not."""

import pytest

from bale.data import random_ptb
from bale.errors import BaleError, CheckpointError, DataError
from bale.models import ChildSumTreeLSTM, NaryTreeLSTM
from bale.train import TaskConfig, load_task, majority_accuracy


def write(path, trees):
    path.write_text("".join(f"{tree}\n" for tree in trees))
    return path


@pytest.fixture
def trees():
    return random_ptb(40, seed=1, words=30, leaves=4)


@pytest.fixture
def folder(tmp_path, trees):
    for name, part in (("train", trees[:30]), ("dev", trees[30:35]), ("test", trees[35:])):
        write(tmp_path / f"{name}.txt", part)
    return tmp_path


def test_a_folder_of_trees(folder, trees):
    task = load_task(TaskConfig(data=f"sst:{folder}", hidden=4))
    assert [len(split) for split in (task.train, task.valid, task.test)] == [30, 5, 5]
    assert [task.classes[label] for _, label in task.train] == [str(tree.label) for tree in trees[:30]]
    assert {word for tree in trees[:30] for word in tree.words} == set(task.vocabulary[1:])
    model = task.make_model()
    assert isinstance(model, NaryTreeLSTM)
    for tree, _ in [*task.train, *task.valid, *task.test]:
        assert model(tree).shape == (len(task.classes),)


def test_one_file_is_split(tmp_path, trees):
    task = load_task(TaskConfig(data=f"sst:{write(tmp_path / 'trees', trees)}", model="child-sum", hidden=4))
    assert [len(split) for split in (task.train, task.valid, task.test)] == [32, 4, 4]
    assert isinstance(task.make_model(), ChildSumTreeLSTM)


def test_any_labels_and_any_arity(tmp_path):
    path = tmp_path / "trees"
    path.write_text("(-7 a)\n(3 (9 b) (9 c) (9 (9 a)))\n")
    task = load_task(TaskConfig(data=f"sst:{path}", hidden=4))
    assert task.classes == ("-7", "3")
    assert [label for _, label in task.train] == [0, 1]
    assert task.make_model()(task.train[1][0]).shape == (2,)


def test_a_limit_counts_all_splits(folder):
    task = load_task(TaskConfig(data=f"sst:{folder}", limit=20))
    assert [len(split) for split in (task.train, task.valid, task.test)] == [16, 2, 2]


def test_the_standard_library():
    every = load_task(TaskConfig(limit=400, hidden=4))
    named = load_task(TaskConfig(data="python-named", limit=400, hidden=4))
    assert every.classes == (*named.classes, "other") and len(every.classes) == 51
    assert len(every.train) + len(every.valid) + len(every.test) == 400
    assert named.train == [(tree, label) for tree, label in every.train if every.classes[label] != "other"]
    assert every.rest == 50 and named.rest is None
    assert len(named.train) < len(every.train)
    assert named.make_model()(named.train[0][0]).shape == (50,)


def test_the_treebank(data_folder):
    task = load_task(TaskConfig(data=f"sst:{data_folder('sst')}", hidden=4))
    assert task.classes == ("0", "1", "2", "3", "4")
    assert [len(split) for split in (task.train, task.valid, task.test)] == [8550, 1107, 2210]


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (TaskConfig(data="cifar"), "data 'cifar' is unknown; expected python, "),
        (TaskConfig(data="sst:"), "data 'sst:' is unknown"),
        (TaskConfig(model="gpt"), "model 'gpt' is unknown; known are child-sum, nary"),
        (TaskConfig(model="nary"), "use child-sum"),
    ],
)
def test_unknown_tasks(config, problem):
    with pytest.raises(BaleError, match=problem):
        load_task(config)


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"train\.txt: no such file"):
        load_task(TaskConfig(data=f"sst:{tmp_path}"))


def test_a_checkpoint_of_another_task_is_refused(folder, tmp_path, trees):
    task = load_task(TaskConfig(data=f"sst:{folder}", hidden=4))
    task.check_facts(task.facts)
    task.check_facts({**task.facts, "data": "sst:/where/it/was/then"})
    for change in (
        {"hidden": 5},
        {"model": "child-sum"},
        {"train_samples": 31},
        {"vocabulary": ["<unk>"]},
        {"classes": []},
    ):
        with pytest.raises(CheckpointError, match="the checkpoint"):
            task.check_facts({**task.facts, **change})


def test_the_majority_is_that_of_the_training_samples():
    train, test = [(None, 1), (None, 1), (None, 0)], [(None, 0), (None, 1), (None, 2), (None, 0)]
    assert majority_accuracy(train, test) == 0.25
    assert majority_accuracy(train, []) is None
    assert majority_accuracy([], test) is None


def test_the_majority_of_the_named_leaves_the_rest_out():
    train, test = [(None, 2), (None, 2), (None, 2), (None, 0)], [(None, 0), (None, 1), (None, 2), (None, 2)]
    assert majority_accuracy(train, test) == 0.5
    assert majority_accuracy(train, test, rest=2) == 0.5
    assert majority_accuracy(train, test[1:], rest=2) == 0.0
    assert majority_accuracy(train[:3], test, rest=2) is None
    assert majority_accuracy(train, test[2:], rest=2) is None
