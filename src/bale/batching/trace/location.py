"""Where in the user's code something happened."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import torch

_BALE = str(Path(__file__).resolve().parents[2])
_TORCH = torch.__file__.removesuffix("__init__.py"), str(Path(torch.__file__).resolve().parent)  # it may be a link
_PYTHON = str(Path(copy.__file__).resolve().parent)


def user_line() -> str:
    """`file:line` of the innermost frame that is neither bale's nor torch's nor Python's own, or an empty string."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith((_BALE, *_TORCH, "<")) and not _is_library(name):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _is_library(name: str) -> bool:
    # installed packages may lie below Python's own folder, and belong to the user
    return name.startswith(_PYTHON) and "site-packages" not in name
