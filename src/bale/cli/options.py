"""Which options do several commands share, and what is checked before any of them begins?"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bale.errors import BaleError
from bale.train import MODELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DATA = (
    "python: functions of Python's standard library; the first word of the name, one of the 50 commonest or `other`, "
    "is to be guessed. python-named: only functions named by one of the 50. identifiers: those of the standard "
    "library, without capitals and underscores; which characters begin a word? sst:PATH, lattice:PATH, tags:PATH: "
    "bracketed trees, word lattices, tagged sentences, a file or a folder with train.txt, dev.txt and test.txt."
)
MODEL = f"The network: {', '.join(MODELS)}."
HIDDEN = "Width of the states."
LIMIT = "Read so many samples only."
PICTURES = (".svg", ".png", ".pdf")


def option(text: str, default: object, *names: str) -> Any:
    """An option without a value of its own, whose help says what happens where it is not given."""
    return typer.Option(*names, help=text, show_default=str(default))


def given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def check_writable(path: Path, expected: str) -> None:
    """Find out now, not after an hour, that a file cannot be written. Raises BaleError."""
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise BaleError(f"{path}: cannot be written; {expected} in a folder that exists")


def check_picture(path: Path) -> None:
    """Raise BaleError where a picture of that name cannot be drawn."""
    if path.suffix not in PICTURES:
        raise BaleError(f"{path}: expected a name that ends in {', '.join(PICTURES)}")
    check_writable(path, "expected a file")


def save_picture(figure: Figure, path: Path) -> None:
    """Draw a figure to a file of the type that its name ends in."""
    figure.savefig(path, dpi=120)


def check_json(path: Path | None) -> None:
    """Raise BaleError where `--json` names a file that cannot be written."""
    if path is not None and str(path) != "-":
        check_writable(path, "--json expects - or a file")


def write_json(report: Any, path: Path | None) -> None:
    """Write a report to the file that `--json` names, or to stdout for -."""
    if path is None:
        return
    as_json = json.dumps(report, indent=1, allow_nan=False)
    if str(path) == "-":
        typer.echo(as_json)
    else:
        path.write_text(as_json + "\n")
