"""Tasks on trees: functions of Python's standard library, and sentences with their trees."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import nn

from bale.data import Tree, ptb_samples, ptb_vocabulary, python_functions, read_ptb
from bale.errors import DataError
from bale.models import ChildSumTreeLSTM, NaryTreeLSTM, TreeGRU
from bale.train.config import TaskConfig
from bale.train.splits import read_splits
from bale.train.task import Task

NAMED = "python-named"


def load_python(config: TaskConfig, model: str) -> Task:
    """Functions as trees of syntax, the first word of the name as the class."""
    functions = python_functions(config.limit)
    kinds, classes = functions.kinds, functions.classes
    splits = [functions.train, functions.valid, functions.test]
    if config.data_name == NAMED:
        # More than half of all functions are of the class `other`, the last: without them, a guess is easier to beat.
        classes = classes[:-1]
        splits = [[sample for sample in split if sample[1] < len(classes)] for split in splits]
    train, valid, test = splits
    if not train:
        raise DataError(f"none of {config.limit} functions is a training sample: raise the limit")
    return Task(
        config=config,
        model=model,
        train=train,
        valid=valid,
        test=test,
        vocabulary=kinds,
        classes=classes,
        make_model=lambda: ChildSumTreeLSTM(len(kinds), len(classes), config.hidden),
        rest=None if config.data_name == NAMED else len(classes) - 1,
    )


def load_sentences(config: TaskConfig, model: str, path: Path) -> Task:
    """Sentences with their trees, the label of the root as the class."""
    splits = read_splits(path, read_ptb, config.limit)
    trees = [tree for split in splits for tree in split]
    labels = sorted({tree.label for tree in trees})
    numbers = {label: number for number, label in enumerate(labels)}
    words = ptb_vocabulary(splits[0])
    train, valid, test = (
        [(tree, numbers[label]) for tree, label in ptb_samples(split, words)] for split in splits
    )  # the classes are the labels that occur, so that any integers will do
    arity = _arity(tree for split in (train, valid, test) for tree, _ in split)

    def make_model() -> nn.Module:
        if model == "child-sum":
            return ChildSumTreeLSTM(len(words), len(labels), config.hidden)
        if model == "tree-gru":
            return TreeGRU(len(words), len(labels), config.hidden, arity=arity)
        return NaryTreeLSTM(len(words), len(labels), config.hidden, arity=arity)

    return Task(
        config=config,
        model=model,
        train=train,
        valid=valid,
        test=test,
        vocabulary=tuple(words.to_list()),
        classes=tuple(map(str, labels)),
        make_model=make_model,
    )


def _arity(trees: Iterable[Tree]) -> int:
    """The largest number of children, at least 2."""
    widest = 2
    for tree in trees:
        widest = max(widest, *tree.flat()[1])
    return widest
