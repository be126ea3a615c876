"""Which options do several commands share, and what is checked before any of them begins?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import typer

from bale.errors import BaleError
from bale.train import MODELS

DATA = (
    "python: functions of Python's standard library; the first word of the name, one of the 50 commonest or `other`, "
    "is to be guessed. python-named: only functions named by one of the 50. identifiers: those of the standard "
    "library, without capitals and underscores; which characters begin a word? sst:PATH, lattice:PATH, tags:PATH: "
    "bracketed trees, word lattices, tagged sentences, a file or a folder with train.txt, dev.txt and test.txt."
)
MODEL = f"The network: {', '.join(MODELS)}."
HIDDEN = "Width of the states."
LIMIT = "Read so many samples only."


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
