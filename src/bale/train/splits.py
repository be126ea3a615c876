"""How do the files of a corpus become training, validation and test samples?"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Entry = TypeVar("Entry")

_SHARES = (8, 1, 1)  # of a single file, and of a limit: train, valid, test


def read_splits(path: Path, read: Callable[[Path], list[Entry]], limit: int | None) -> list[list[Entry]]:
    """Read train, dev and test of a folder, or split a file: of ten entries in a row the ninth and tenth are held out.

    `limit` counts the entries of all three, of which each gets its share. Raises what `read` does.
    """
    if path.is_dir():
        splits = [read(path / f"{name}.txt") for name in ("train", "dev", "test")]
    else:
        entries = read(path)
        splits = [
            [entry for place, entry in enumerate(entries) if place % 10 in places] for places in (range(8), (8,), (9,))
        ]
    if limit is None:
        return splits
    return [split[: -(-limit * share // sum(_SHARES))] for split, share in zip(splits, _SHARES, strict=True)]
