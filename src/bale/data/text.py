"""How do the readers get the lines of a text file, and how do they say where one is wrong?"""

import codecs
from os import PathLike
from pathlib import Path

from bale.errors import DataError


def problem_at(path: str | PathLike[str], line: int, column: int, problem: str) -> DataError:
    """Return (for `raise`) an error at a line and column of a file, both counted from 1, columns in characters."""
    return DataError(f"{path}:{line}:{column}: {problem}")


def read_lines(path: str | PathLike[str], expected: str) -> list[tuple[int, str]]:
    """Read the lines of a UTF-8 file that hold anything, each with its number (from 1).

    Only newlines (with or without a carriage return) separate lines: corpora do contain Unicode's other line
    separators inside words. A byte-order mark is dropped.

    Raises `DataError` where the file is missing, is a directory, cannot be read, is not UTF-8, or holds no line;
    `expected` says in the last message what was looked for ("one tree a line").
    """
    raw = _read_bytes(path).removeprefix(codecs.BOM_UTF8)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line_start = raw.rfind(b"\n", 0, error.start) + 1
        line = raw.count(b"\n", 0, error.start) + 1
        column = len(raw[line_start : error.start].decode("utf-8")) + 1
        problem = f"byte 0x{raw[error.start]:02x} is not UTF-8; expected {expected}, in UTF-8"
        raise problem_at(path, line, column, problem) from None
    lines = [(number, line.removesuffix("\r")) for number, line in enumerate(text.split("\n"), 1)]
    lines = [(number, line) for number, line in lines if line.strip(" \t")]
    if not lines:
        raise problem_at(path, 1, 1, f"the file is empty; expected {expected}")
    return lines


def _read_bytes(path: str | PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a directory; expected a text file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
