"""What do the commands of the benchmarks have in common? Options that refuse what nobody knows, lines and tables."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

import matplotlib
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from bale.allocator import keep_freed_memory
from bale.errors import BaleError

Value = TypeVar("Value")
Line = dict[str, Any]


def parser(name: str, about: str | None) -> argparse.ArgumentParser:
    """For `python -m benchmarks.NAME`; `about` is what its module says of itself."""
    return argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def some_of(kind: Callable[[str], Value], known: Collection[Value] | None = None) -> Callable[[str], list[Value]]:
    """The type of an option A,B,...: a list of at least one, of those that are `known`."""

    def parse(text: str) -> list[Value]:
        chosen = [kind(each) for each in text.split(",") if each]
        unknown = [each for each in chosen if known is not None and each not in known]
        if unknown or not chosen:
            named = ", ".join(map(str, unknown)) or "nothing"
            expected = "a list" if known is None else f"some of {', '.join(map(str, known))}"
            raise argparse.ArgumentTypeError(f"{named}: expected {expected}")
        return chosen

    return parse


def at_least(least: int) -> Callable[[str], int]:
    """The type of an option that is a whole number, not below this one."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value}: expected {least} or more")
        return value

    return number


def shard(text: str) -> tuple[int, int]:
    """I/N: of N processes the I-th."""
    mine, _, all_of_them = text.partition("/")
    if not (mine.isdigit() and all_of_them.isdigit() and 1 <= int(mine) <= int(all_of_them)):
        raise argparse.ArgumentTypeError(f"{text}: expected I/N, such as 1/2")
    return int(mine), int(all_of_them)


def picture(text: str) -> Path:
    """The type of an option that names a picture, to be written at the end of what may take hours."""
    path = Path(text)
    if path.suffix not in (".svg", ".png", ".pdf"):
        raise argparse.ArgumentTypeError(f"{text}: expected a name that ends in .svg, .png or .pdf")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: there is no folder {path.parent}")
    return path


def save(figure: Figure, path: Path) -> None:
    """Write a picture; the same one is the same file every time."""
    matplotlib.rcParams["svg.hashsalt"] = "bale"
    figure.savefig(path, dpi=120, metadata={"Date": None} if path.suffix == ".svg" else {})


def add_json(options: argparse.ArgumentParser) -> None:
    """The option that `tell` reads."""
    options.add_argument("--json", metavar="FILE", help="JSON lines instead of a table; - for standard output")


def tell(lines: Sequence[Line], file: str | None, table_of: Callable[[Sequence[Line]], Table], width: int) -> None:
    """Write the lines to the file, or to standard output (`-`); without one show them as a table."""
    if file is None:
        Console(width=width).print(table_of(lines))
    else:
        write(lines, file)


def run(work: Callable[[], None], folder: Path) -> int:
    """Do `work`, which goes on from `folder` where it was stopped; return an exit code, and tell what went wrong.

    The process keeps the memory that it frees, as that of `bale` does.
    """
    keep_freed_memory()
    try:
        work()
    except BaleError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped; the same command goes on from {folder}", file=sys.stderr)
        return 130
    return 0


def write(lines: Sequence[Line], file: str) -> None:
    """Write the lines to the file, or to standard output (`-`)."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    if file == "-":
        sys.stdout.write(text)
    else:
        Path(file).write_text(text, encoding="utf-8")
