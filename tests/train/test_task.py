"""Real data become a task: samples in splits, numbers with names, a model that fits; or an error that says why not."""

import pytest

from bale.data import Lattice, TaggedLattice, random_lattices, random_ptb, random_tagged, write_lattices
from bale.errors import BaleError, CheckpointError, DataError
from bale.models import (
    BiLSTMTagger,
    CharBiLSTMTagger,
    ChildSumTreeLSTM,
    LatticeGRU,
    LatticeLSTM,
    NaryTreeLSTM,
    TreeGRU,
)
from bale.train import MODELS, TaskConfig, load_task, majority_accuracy


def write(path, trees):
    path.write_text("".join(f"{tree}\n" for tree in trees))
    return path


def samples_of(task):
    return [*task.train, *task.valid, *task.test]


def assert_fits(task):
    """Assert that the task's model reads every sample and says something of each label."""
    model = task.make_model()
    for sample, labels in samples_of(task):
        assert model(sample).shape == (len(labels), len(task.classes))
        assert all(0 <= label < len(task.classes) for label in labels)
    return model


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


@pytest.mark.parametrize(("model", "of_class"), [("tree-gru", TreeGRU), ("nary", NaryTreeLSTM)])
def test_networks_of_words_at_leaves(folder, model, of_class):
    task = load_task(TaskConfig(data=f"sst:{folder}", model=model, hidden=4))
    assert task.model == model
    made = task.make_model()
    assert isinstance(made, of_class)
    assert made(task.train[0][0]).shape == (len(task.classes),)


def test_any_labels_and_any_arity(tmp_path):
    path = tmp_path / "trees"
    path.write_text("(-7 a)\n(3 (9 b) (9 c) (9 (9 a)))\n")
    task = load_task(TaskConfig(data=f"sst:{path}", hidden=4))
    assert task.classes == ("-7", "3")
    assert [label for _, label in task.train] == [0, 1]
    for model in ("nary", "tree-gru"):
        task = load_task(TaskConfig(data=f"sst:{path}", model=model, hidden=4))
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


@pytest.mark.parametrize(("model", "of_class"), [("lattice-lstm", LatticeLSTM), ("lattice-gru", LatticeGRU)])
def test_identifiers_are_what_lattice_models_read(model, of_class):
    task = load_task(TaskConfig(model=model, limit=100, hidden=4))
    assert task.config.data_name == task.facts["data"] == "identifiers" and task.model == model
    assert len(samples_of(task)) == 100
    assert task.classes == ("I", "B") and task.row == "characters"
    assert {"e", "get"} <= set(task.vocabulary)
    assert isinstance(assert_fits(task), of_class)
    again = load_task(TaskConfig(**{name: task.facts[name] for name in ("data", "model", "hidden", "limit")}))
    again.check_facts(task.facts)
    assert again.train == task.train
    assert load_task(TaskConfig(data="identifiers", limit=10)).model == "lattice-lstm"


def test_lattices_of_a_folder_and_of_a_file(tmp_path):
    sentences = random_lattices(30, 1, characters=9, words=20, length=5)
    for name, part in (("train", sentences[:20]), ("dev", sentences[20:25]), ("test", sentences[25:])):
        write_lattices(tmp_path / f"{name}.txt", part)
    task = load_task(TaskConfig(data=f"lattice:{tmp_path}", hidden=4))
    assert [len(split) for split in (task.train, task.valid, task.test)] == [20, 5, 5]
    assert task.classes == tuple("12345678") and task.row == "characters"
    assert isinstance(assert_fits(task), LatticeLSTM)
    for (lattice, labels), sentence in zip(samples_of(task), sentences, strict=True):
        assert lattice == sentence.lattice
        assert [int(task.classes[label]) for label in labels] == list(sentence.tags[1:])
    file = load_task(TaskConfig(data=f"lattice:{tmp_path / 'train.txt'}", model="lattice-gru", limit=10, hidden=4))
    assert [len(split) for split in (file.train, file.valid, file.test)] == [8, 1, 1]
    assert isinstance(assert_fits(file), LatticeGRU)


@pytest.mark.parametrize("arcs", [((), ((0, 0),), ((1, 3),)), ((), (), ((0, 5),))], ids=["no words", "no characters"])
def test_lattices_of_one_kind_of_arc(tmp_path, arcs):
    write_lattices(tmp_path / "lattices", [TaggedLattice(Lattice(arcs), (0, 7, 7))])
    for model in ("lattice-lstm", "lattice-gru"):
        assert_fits(load_task(TaskConfig(data=f"lattice:{tmp_path / 'lattices'}", model=model, hidden=4)))


def test_tagged_sentences(tmp_path):
    path = write(tmp_path / "sentences", random_tagged(40, seed=1, words=30, length=4))
    plain = load_task(TaskConfig(data=f"tags:{path}", hidden=4))
    spelt = load_task(TaskConfig(data=f"tags:{path}", model="char-bilstm", hidden=5))
    assert (plain.model, plain.row, len(plain.train)) == ("bilstm", "words", 32)
    assert isinstance(assert_fits(plain), BiLSTMTagger) and isinstance(assert_fits(spelt), CharBiLSTMTagger)
    assert [labels for _, labels in plain.train] == [labels for _, labels in spelt.train]
    assert any(isinstance(word, tuple) for words, _ in spelt.train for word in words)
    assert set(spelt.vocabulary) >= {"w", *"0123456789"}


@pytest.mark.parametrize("model", ["lattice-lstm", "lattice-gru"])
def test_the_corpus_of_lattices(data_folder, model):
    task = load_task(TaskConfig(data=f"lattice:{data_folder('lattice')}", model=model, hidden=4))
    assert [len(split) for split in (task.train, task.valid, task.test)] == [1147, 113, 316]
    assert len(task.classes) == 17
    lattice, labels = task.test[0]
    assert task.make_model()(lattice).shape == (len(labels), 17)


def test_every_model_fits_some_data():
    for model in MODELS:
        with pytest.raises(DataError, match="no such file"):
            fitting = "tags" if "bilstm" in model else "lattice" if "lattice" in model else "sst"
            load_task(TaskConfig(data=f"{fitting}:/no/such/file", model=model))


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (TaskConfig(data="cifar"), "data 'cifar' is unknown; expected python, "),
        (TaskConfig(data="sst:"), "data 'sst:' is unknown"),
        (TaskConfig(model="gpt"), "model 'gpt' is unknown; known are child-sum, nary"),
        (TaskConfig(model="nary"), r"nary does not fit data python \(.*\): use child-sum, or data sst:PATH"),
        (TaskConfig(model="bilstm"), "use child-sum, or data tags:PATH"),
        (TaskConfig(data="python-named", model="lattice-lstm"), "or data identifiers or lattice:PATH"),
        (TaskConfig(data="identifiers", model="child-sum"), "use lattice-lstm or lattice-gru, or data python or "),
        (TaskConfig(data="sst:x", model="lattice-gru"), "use nary or child-sum or tree-gru, or data identifiers"),
        (TaskConfig(data="identifiers:x"), "data 'identifiers:x' is unknown"),
        (TaskConfig(data="lattice"), "data 'lattice' is unknown; .*lattice:PATH"),
        (TaskConfig(data="python:"), "data 'python:' is unknown"),
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
    assert majority_accuracy([(None, (1, 1, 0)), (None, (0, 0))], [(None, (0,)), (None, (1, 1, 1))]) == 0.25
    assert majority_accuracy(train, []) is None
    assert majority_accuracy([], test) is None


def test_the_majority_of_the_named_leaves_the_rest_out():
    train, test = [(None, 2), (None, 2), (None, 2), (None, 0)], [(None, 0), (None, 1), (None, 2), (None, 2)]
    assert majority_accuracy(train, test) == 0.5
    assert majority_accuracy(train, test, rest=2) == 0.5
    assert majority_accuracy(train, test[1:], rest=2) == 0.0
    assert majority_accuracy(train[:3], test, rest=2) is None
    assert majority_accuracy(train, test[2:], rest=2) is None
