"""Which real data can be learnt from, and which network fits it?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from bale.data import PtbTree, Tree, ptb_samples, ptb_vocabulary, python_functions, read_ptb
from bale.errors import BaleError, CheckpointError, DataError
from bale.models import ChildSumTreeLSTM, NaryTreeLSTM
from bale.train.config import TaskConfig
from bale.train.step import Sample

MODELS = ("child-sum", "nary")
_NAMED = "python-named"
_SHARES = (8, 1, 1)  # of a single file, and of a limit: train, valid, test


@dataclass(frozen=True)
class Task:
    """Samples in three splits, what their numbers mean, and how a model for them is made.

    `vocabulary` names the kinds of the trees' nodes, `classes` the labels; `rest` is the label, if there is one, of
    whatever has no class of its own.
    """

    config: TaskConfig
    model: str
    train: Sequence[Sample] = field(repr=False)
    valid: Sequence[Sample] = field(repr=False)
    test: Sequence[Sample] = field(repr=False)
    vocabulary: tuple[str, ...] = field(repr=False)
    classes: tuple[str, ...] = field(repr=False)
    make_model: Callable[[], nn.Module] = field(repr=False)
    rest: int | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What a checkpoint keeps of the task: enough to load it again, and to see that it is the same."""
        return {
            "data": self.config.data,
            "model": self.model,
            "hidden": self.config.hidden,
            "limit": self.config.limit,
            "train_samples": len(self.train),
            "classes": list(self.classes),
            "vocabulary": list(self.vocabulary),
        }

    def check_facts(self, facts: dict[str, Any]) -> None:
        """Raise CheckpointError where `facts`, from a checkpoint, are of another task; only the path may differ."""
        for name, mine in self.facts.items():
            if name in ("data", "limit") or facts.get(name) == mine:
                continue
            its = facts.get(name)
            if isinstance(mine, list):
                raise CheckpointError(
                    f"the checkpoint was trained on other data: its {name} ({len(its or ())} entries) is not that of "
                    f"{self.config.data} ({len(mine)} entries)"
                )
            raise CheckpointError(f"the checkpoint has {name.replace('_', ' ')} {its}, not {mine}")


def load_task(config: TaskConfig) -> Task:
    """Read the data of a task; raises DataError where that fails, BaleError for an unknown data set or model."""
    name, _, path = config.data.partition(":")
    if config.model is not None and config.model not in MODELS:
        raise BaleError(f"model {config.model!r} is unknown; known are {', '.join(MODELS)}")
    if config.data in ("python", _NAMED):
        return _python(config)
    if name == "sst" and path:
        return _sentences(config, Path(path))
    raise BaleError(
        f"data {config.data!r} is unknown; expected python, {_NAMED}, or sst:PATH with a file or folder of trees"
    )


def _python(config: TaskConfig) -> Task:
    if config.model == "nary":
        raise BaleError("model nary has weights for a fixed number of children, and syntax nodes any: use child-sum")
    functions = python_functions(config.limit)
    kinds, classes = functions.kinds, functions.classes
    splits = [functions.train, functions.valid, functions.test]
    if config.data == _NAMED:
        # More than half of all functions are of the class `other`, the last: without them, a guess is easier to beat.
        classes = classes[:-1]
        splits = [[sample for sample in split if sample[1] < len(classes)] for split in splits]
    train, valid, test = splits
    if not train:
        raise DataError(f"none of {config.limit} functions is a training sample: raise the limit")
    return Task(
        config=config,
        model="child-sum",
        train=train,
        valid=valid,
        test=test,
        vocabulary=kinds,
        classes=classes,
        make_model=lambda: ChildSumTreeLSTM(len(kinds), len(classes), config.hidden),
        rest=None if config.data == _NAMED else len(classes) - 1,
    )


def _sentences(config: TaskConfig, path: Path) -> Task:
    splits = _limited(_read_splits(path), config.limit)
    trees = [tree for split in splits for tree in split]
    labels = sorted({tree.label for tree in trees})
    numbers = {label: number for number, label in enumerate(labels)}
    words = ptb_vocabulary(splits[0])
    train, valid, test = (
        [(tree, numbers[label]) for tree, label in ptb_samples(split, words)] for split in splits
    )  # the classes are the labels that occur, so that any integers will do
    arity = _arity(tree for split in (train, valid, test) for tree, _ in split)

    def make_model() -> nn.Module:
        if config.model == "child-sum":
            return ChildSumTreeLSTM(len(words), len(labels), config.hidden)
        return NaryTreeLSTM(len(words), len(labels), config.hidden, arity=arity)

    return Task(
        config=config,
        model=config.model or "nary",
        train=train,
        valid=valid,
        test=test,
        vocabulary=tuple(words.to_list()),
        classes=tuple(map(str, labels)),
        make_model=make_model,
    )


def _read_splits(path: Path) -> list[list[PtbTree]]:
    """Read train, dev and test of a folder, or split a file: of ten trees in a row the ninth and tenth are held out."""
    if path.is_dir():
        return [read_ptb(path / f"{name}.txt") for name in ("train", "dev", "test")]
    trees = read_ptb(path)
    return [[tree for place, tree in enumerate(trees) if place % 10 in places] for places in (range(8), (8,), (9,))]


def _limited(splits: list[list[PtbTree]], limit: int | None) -> list[list[PtbTree]]:
    if limit is None:
        return splits
    return [split[: -(-limit * share // sum(_SHARES))] for split, share in zip(splits, _SHARES, strict=True)]


def _arity(trees: Iterable[Tree]) -> int:
    """The largest number of children, at least 2."""
    widest = 2
    for tree in trees:
        widest = max(widest, *tree.flat()[1])
    return widest
