"""How are several files of a folder replaced as one, so that no interrupt leaves a mixture of old and new?

The index names the SHA-256 of every other file. New contents are first written beside the old ones (`name.new`);
replacing the index, one atomic rename, is the moment at which they count; only then do they take their names. Whoever
reads takes, of `name` and `name.new`, the one that the index names, so a run that dies anywhere in between is harmless.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bale.errors import CheckpointError

_NEW = ".new"


def prepare_folder(folder: Path) -> None:
    """Make `folder` and try to write into it; raises CheckpointError where that fails. Many processes may at once."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / f"writable{_NEW}"
        trial.touch()
        trial.unlink(missing_ok=True)  # another process that prepares the same folder may have been faster
    except OSError as error:
        raise _cannot_write(folder, error) from error


def write_together(folder: Path, index_name: str, index: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Replace the index (written as JSON, with the digests under "files") and `files` in `folder`, all or none.

    Raises CheckpointError where the folder cannot be written; what it held stays readable.
    """
    try:
        _settle(folder, index_name)
        for name, content in files.items():
            _write(folder / (name + _NEW), content)
        digests = {name: _digest(content) for name, content in files.items()}
        new_index = folder / (index_name + _NEW)
        _write(new_index, json.dumps({**index, "files": digests}, indent=1).encode())
        os.replace(new_index, folder / index_name)
        _settle(folder, index_name)
    except OSError as error:
        raise _cannot_write(folder, error) from error


def read_index(folder: Path, index_name: str) -> dict[str, Any]:
    """Read the index; raises CheckpointError where it is missing or damaged."""
    path = folder / index_name
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder; expected one that `--save` has written")
    try:
        index = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{folder}: has no {index_name}; expected a folder that `--save` has written") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # neither UTF-8 nor JSON
        raise CheckpointError(f"{path}: is damaged ({error}); use another checkpoint") from error
    digests = index.get("files") if isinstance(index, dict) else None
    if not isinstance(digests, dict):
        raise CheckpointError(f"{path}: is damaged: it names no files; use another checkpoint")
    return index


def read_file(folder: Path, index: Mapping[str, Any], name: str) -> bytes:
    """Read the content of `name` that `index` names; raises CheckpointError where there is no such content."""
    found = False
    for path in (folder / name, folder / (name + _NEW)):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
        if _digest(content) == index["files"].get(name):
            return content
        found = True
    problem = "is damaged: its content is not what was saved" if found else "is missing"
    raise CheckpointError(f"{folder / name}: {problem}; use another checkpoint")


def _settle(folder: Path, index_name: str) -> None:
    """Let contents that count already take their names, the last step of a save, perhaps of one that was cut off."""
    if not (folder / index_name).exists():
        return
    try:
        digests = read_index(folder, index_name)["files"]
    except CheckpointError:
        return  # there is nothing to rescue, and a save is about to replace it
    for name, digest in digests.items():
        new = folder / (name + _NEW)
        if new.exists() and _digest(new.read_bytes()) == digest:
            os.replace(new, folder / name)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # a rename that outlives a power cut must not name contents that did not


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _cannot_write(folder: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"{error.filename or folder}: cannot be written: {error.strerror or error}")
