"""On what was it measured? The processor's name."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """The processor's name; Linux alone knows it in words."""
    try:
        described = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in described.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()
