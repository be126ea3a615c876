"""Guess the first word of a function's name from its syntax tree: a data set that every Python brings along.

The task is that of code2vec with its paths left out (Alon et al., "code2vec: Learning Distributed Representations of
Code", POPL 2019): the functions are those of the standard library, the classes the commonest first words.
"""

from collections import Counter
from dataclasses import dataclass, field
from os import PathLike

from bale.data.names import name_words
from bale.data.sources import Sources, Split, split_of
from bale.data.syntax import KINDS, Function, functions_of
from bale.data.tree import Sample
from bale.errors import DataError

OTHER = "other"

_FIRST_OF_A_FILE = 10  # of a file's functions come before any other's, where only some are asked for


@dataclass(frozen=True)
class FunctionNames:
    """Functions as (tree of syntax kinds, class of the name's first word), split by file.

    `classes` are the first words by frequency in the training split, then `other`; `kinds` name the trees' kinds.
    `files` were read, `unparsed` are those that Python could not parse, `too_large` counts functions left out.
    """

    train: list[Sample] = field(repr=False)
    valid: list[Sample] = field(repr=False)
    test: list[Sample] = field(repr=False)
    classes: tuple[str, ...] = field(repr=False)
    kinds: tuple[str, ...] = field(repr=False)
    files: int
    unparsed: tuple[str, ...]
    too_large: int

    def majority(self, split: Split = "test") -> float:
        """Return the accuracy on `split` of always answering the training split's commonest class, from 0 to 1."""
        samples: list[Sample] = getattr(self, split)
        commonest = Counter(label for _, label in self.train).most_common(1)
        if not samples or not commonest:
            return 0.0
        return sum(label == commonest[0][0] for _, label in samples) / len(samples)


def python_functions(
    max_functions: int | None = None,
    *,
    max_nodes: int = 1000,
    words: int = 50,
    library: str | PathLike[str] | None = None,
) -> FunctionNames:
    """Read the functions of Python's standard library; the same ones, in the same order, at every call.

    Dunders and the folders of tests are left out, and so are functions of more than `max_nodes` nodes (counted).
    With `max_functions`, only as many files are read as that takes, chosen by hash, ten functions of each first.
    `words` is the number of classes besides `other`. `library` is another folder of `.py` files to read instead.

    A file belongs to train, valid or test (80, 10 and 10 in a hundred) by a hash of its path below the folder, so
    that functions that resemble one another, as those of a file do, are never on both sides. CPython 3.11: 13,600
    functions, median 35 nodes, 95th percentile 243; about 8 seconds, nearly all of it in Python's own parser.

    Raises `DataError` if the folder holds no function (a Python that ships without its sources), or if a number is
    less than 1.
    """
    for name, value in (("max_functions", max_functions), ("max_nodes", max_nodes), ("words", words)):
        if value is not None and value < 1:
            raise DataError(f"{name} must be at least 1, got {value}")
    reading = _Reading(max_nodes)
    sources = Sources(library)
    for path, found in sources.parse(functions_of):
        reading.add(path, found)
        if max_functions is not None and len(reading.first) >= max_functions:
            break
    functions = sorted((reading.first + reading.rest)[:max_functions], key=lambda entry: entry[:2])
    if not functions:
        raise DataError(
            f"{sources.root}: no function in any .py file; expected the sources of Python's standard library"
        )
    return _label(functions, words, sources, reading.too_large)


_Entry = tuple[str, int, Function]  # file, position in the file, function


class _Reading:
    """The functions so far: the first few of each file, the rest of them, and how many were too large."""

    def __init__(self, max_nodes: int) -> None:
        self.max_nodes = max_nodes
        self.first: list[_Entry] = []
        self.rest: list[_Entry] = []
        self.too_large = 0

    def add(self, path: str, functions: list[Function]) -> None:
        kept = [function for function in functions if function.tree.size <= self.max_nodes]
        self.too_large += len(functions) - len(kept)
        entries = [(path, position, function) for position, function in enumerate(kept)]
        self.first += entries[:_FIRST_OF_A_FILE]
        self.rest += entries[_FIRST_OF_A_FILE:]


def _label(functions: list[_Entry], words: int, sources: Sources, too_large: int) -> FunctionNames:
    """Choose the classes from the training split and number every function's."""
    splits: dict[Split, list[_Entry]] = {"train": [], "valid": [], "test": []}
    for entry in functions:
        splits[split_of(entry[0])].append(entry)
    counts = Counter(_first_word(function) for _, _, function in splits["train"])
    counts.pop(OTHER, None)  # a function named other_... is of the class `other` in any case
    common = sorted(counts, key=lambda word: (-counts[word], word))[:words]
    classes = (*common, OTHER)
    numbers = {word: number for number, word in enumerate(classes)}

    def samples(split: Split) -> list[Sample]:
        other = numbers[OTHER]
        return [(function.tree, numbers.get(_first_word(function), other)) for _, _, function in splits[split]]

    return FunctionNames(
        train=samples("train"),
        valid=samples("valid"),
        test=samples("test"),
        classes=classes,
        kinds=KINDS,
        files=sources.files,
        unparsed=tuple(sorted(sources.unparsed)),
        too_large=too_large,
    )


def _first_word(function: Function) -> str:
    return next(iter(name_words(function.name)), OTHER)
