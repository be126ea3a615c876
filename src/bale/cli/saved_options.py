"""Is a folder's run the one that is asked for? Its options lie beside its checkpoints."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from bale.errors import CheckpointError
from bale.train.files import prepare_folder

OPTIONS = "options.json"


def keep_options(folder: Path, options: dict[str, Any]) -> None:
    """Write the options of a run, as JSON can hold them, to `folder`, or see that those that lie there are the same.

    Raises CheckpointError, which names the first option that differs, and where the folder cannot be read or written.
    """
    prepare_folder(folder)
    path = folder / OPTIONS
    if not path.exists():
        _write(path, json.dumps(options, indent=1) + "\n")
        return
    try:
        there = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is damaged ({error}); use another folder") from error
    if not isinstance(there, dict):
        raise CheckpointError(f"{path}: is damaged: it holds no options; use another folder")
    for name in {**options, **there}:
        if options.get(name) != there.get(name):
            raise CheckpointError(
                f"{folder}: is of another run: --{name} is {_said(there.get(name))} there and "
                f"{_said(options.get(name))} here; use another folder"
            )


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
