"""Is a folder's run the one that is asked for? Its options lie beside its checkpoints."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from bale.errors import CheckpointError
from bale.train.files import prepare_folder

OPTIONS = "options.json"
_PACKED = "packed"  # beside the options: files that the run may replace


def keep_options(folder: Path, options: dict[str, Any]) -> None:
    """Write the options of a run, as JSON can hold them, to `folder`, or see that those that lie there are the same.

    Raises CheckpointError, which names the first option that differs, and where the folder cannot be read or written.
    """
    prepare_folder(folder)
    path = folder / OPTIONS
    if not path.exists():
        _write(path, json.dumps(options, indent=1) + "\n")
        return
    there = _read(path)
    for name in {**options, **there}:
        if name != _PACKED and options.get(name) != there.get(name):
            raise CheckpointError(
                f"{folder}: is of another run: --{name} is {_said(there.get(name))} there and "
                f"{_said(options.get(name))} here; use another folder"
            )


def keep_packed(folder: Path, packed: Path) -> None:
    """Say in a folder that has options that its run is about to write a packed file, and may write it again."""
    if not is_packed_of(folder, packed):
        path = folder / OPTIONS
        there = _read(path)
        files = [*there.get(_PACKED, []), str(packed.resolve())]
        _write(path, json.dumps({**there, _PACKED: files}, indent=1) + "\n")


def is_packed_of(folder: Path, packed: Path) -> bool:
    """Has the run of a folder, if there is one, written this packed file, or was it about to?"""
    path = folder / OPTIONS
    return path.is_file() and str(packed.resolve()) in _read(path).get(_PACKED, [])


def _read(path: Path) -> dict[str, Any]:
    try:
        there = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is damaged ({error}); use another folder") from error
    if not isinstance(there, dict):
        raise CheckpointError(f"{path}: is damaged: it holds no options; use another folder")
    return there


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    try:
        new.write_text(text, encoding="utf-8")
        os.replace(new, path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror or error}") from error


def _said(value: Any) -> str:
    return "not given" if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)
