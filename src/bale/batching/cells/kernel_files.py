"""Kernel files: where does the source of a generated kernel lie? Compilers ask for a file, and cache beside it."""

from __future__ import annotations

import atexit
import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from types import ModuleType


def cache_folder() -> Path:
    """Where compiled kernels are kept: `bale/kernels` in XDG_CACHE_HOME, by default ~/.cache. Safe to delete."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bale" / "kernels"


def module_of(source: str, beside: str, folder: Path) -> ModuleType:
    """A source as a module, written to `folder`. `beside`: what else its name hangs on.

    Raises OSError where nothing can be written there.
    """
    name = hashlib.sha256((beside + source).encode()).hexdigest()[:32]
    path = folder / f"kernel_{name}.py"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as file:
            file.write(source)
        os.replace(file.name, path)  # whole or not at all, whoever else writes it now
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)  # compilers look for it there
    spec.loader.exec_module(module)
    return module


@lru_cache(maxsize=1)
def folder_of_process() -> Path:
    """Where kernels lie if nothing can be kept: a folder that goes with the process."""
    folder = tempfile.mkdtemp(prefix="bale-kernels-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
