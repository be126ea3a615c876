"""Where in the user's code something happened."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

_BALE = str(Path(__file__).resolve().parents[2])
_TORCH = str(Path(torch.__file__).resolve().parent)


def user_line() -> str:
    """`file:line` of the innermost frame that is neither bale's nor torch's, or an empty string."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith((_BALE, _TORCH, "<")):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
