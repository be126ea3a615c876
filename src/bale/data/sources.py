"""Which source code does every Python bring along, and on which side of a split is a piece of it?"""

import hashlib
import os
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path
from typing import Literal, TypeVar

from bale.errors import DataError

Split = Literal["train", "valid", "test"]
Parsed = TypeVar("Parsed")

_SKIPPED_FOLDERS = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"})
_UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError)  # ValueError: null bytes, or not in its encoding


class Sources:
    """The `.py` files of Python's standard library, or of another folder; the folders of tests are left out.

    `files` counts what has been read so far, `unparsed` lists the paths of what Python could not parse.
    """

    def __init__(self, library: str | PathLike[str] | None = None) -> None:
        self.root = Path(sysconfig.get_path("stdlib") if library is None else library)
        self.files = 0
        self.unparsed: list[str] = []

    def parse(self, parser: Callable[[bytes], Parsed]) -> Iterator[tuple[str, Parsed]]:
        """Yield (path below the folder, `parser` of the file's content), in an order that only the paths decide.

        The order is that of a hash, so that the first few files are a fair sample of all. A path has '/' between its
        parts. Raises `DataError` for a file that cannot be read.
        """
        for path in sorted(_python_files(self.root), key=lambda path: _fraction("order:" + path)):
            self.files += 1
            try:
                parsed = _parse(self.root / path, parser)
            except _UNPARSABLE:
                self.unparsed.append(path)
                continue
            yield path, parsed


def split_of(name: str) -> Split:
    """Return the split of what `name` names, by a hash of it: 80, 10 and 10 in a hundred.

    A file is named by its path below the library's folder, with '/' between its parts.
    """
    position = _fraction(name)
    return "train" if position < 0.8 else "valid" if position < 0.9 else "test"


def _parse(path: Path, parser: Callable[[bytes], Parsed]) -> Parsed:
    try:
        source = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the parser warns of other people's escapes ("\d")
        return parser(source)


def _python_files(root: Path) -> Iterator[str]:
    """Yield the paths below `root`, with '/' between their parts; a folder of other packages is not entered."""
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in _SKIPPED_FOLDERS]
        for name in files:
            if name.endswith(".py"):
                yield (Path(folder) / name).relative_to(root).as_posix()


def _fraction(text: str) -> float:
    """Return a number in [0, 1) that looks random and is the same in every process, as that of `hash` is not."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
