"""Which real data can be learnt from, and which network fits it?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bale.errors import BaleError
from bale.train.config import TaskConfig
from bale.train.tagging_tasks import load_identifiers, load_lattices, load_tagged
from bale.train.task import Task
from bale.train.tree_tasks import NAMED, load_python, load_sentences


@dataclass(frozen=True)
class _Data:
    """A kind of data: what it is, the models that read it (the default first), and how it is read.

    `of_path` is for data that are named with a path, as in sst:PATH, `load` for the others.
    """

    what: str
    models: tuple[str, ...]
    load: Callable[[TaskConfig, str], Task] | None = None
    of_path: Callable[[TaskConfig, str, Path], Task] | None = None


_SYNTAX = _Data("syntax trees, whose nodes have any number of children", ("child-sum",), load_python)
_LATTICE_MODELS = ("lattice-lstm", "lattice-gru")

_DATA = {
    "python": _SYNTAX,
    NAMED: _SYNTAX,
    "identifiers": _Data("lattices of characters and words", _LATTICE_MODELS, load_identifiers),
    "sst": _Data("trees with words at their leaves", ("nary", "child-sum", "tree-gru"), of_path=load_sentences),
    "lattice": _Data("lattices of characters and words", _LATTICE_MODELS, of_path=load_lattices),
    "tags": _Data("sentences with tags", ("bilstm", "char-bilstm"), of_path=load_tagged),
}

MODELS = ("child-sum", "nary", "tree-gru", *_LATTICE_MODELS, "bilstm", "char-bilstm")


def load_task(config: TaskConfig) -> Task:
    """Read the data of a task.

    Raises DataError where that fails, BaleError for an unknown data set or model, or two that do not fit.
    """
    if config.model is not None and config.model not in MODELS:
        raise BaleError(f"model {config.model!r} is unknown; known are {', '.join(MODELS)}")
    name, colon, path = config.data_name.partition(":")
    data = _DATA.get(name)
    if data is None or bool(path) != (data.of_path is not None) or bool(colon) != bool(path):
        raise BaleError(f"data {config.data_name!r} is unknown; expected {', '.join(map(_written, _DATA))}")
    model = config.model or data.models[0]
    if model not in data.models:
        fitting = [_written(other) for other in _DATA if model in _DATA[other].models]
        raise BaleError(
            f"model {model} does not fit data {config.data_name} ({data.what}): use {' or '.join(data.models)},"
            f" or data {' or '.join(fitting)}"
        )
    if data.of_path is not None:
        return data.of_path(config, model, Path(path))
    assert data.load is not None
    return data.load(config, model)


def _written(name: str) -> str:
    """A kind of data as people name it on the command line."""
    return name if _DATA[name].of_path is None else f"{name}:PATH"
