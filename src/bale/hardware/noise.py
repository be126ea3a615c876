"""What do real devices do to the numbers in their cells, and to a reading? Everything drawn from a seed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from bale.errors import BaleError


@dataclass(frozen=True)
class Noise:
    """Imperfections of devices.

    `variation`: the sigma of a lognormal factor on each cell's conductance, drawn once (FORMS: .1; a cell at level 0
    stays there). `stuck_off`, `stuck_on`: shares of cells that hold level 0, or the highest, whatever was written.
    `read`: the sigma of what is added to each column's sum at each reading, in units of one level of the converter.
    """

    variation: float = 0.0
    stuck_off: float = 0.0
    stuck_on: float = 0.0
    read: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            number = getattr(self, field.name)
            most = 1 if field.name.startswith("stuck") else float("inf")
            if not 0 <= number <= most or number == float("inf"):
                raise BaleError(f"noise.{field.name}: must be from 0 to {most:g}, got {number}")
        if self.stuck_off + self.stuck_on > 1:
            raise BaleError(f"noise: stuck_off + stuck_on is {self.stuck_off + self.stuck_on:g}, more than all cells")

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))

    def __str__(self) -> str:
        return ", ".join(f"{field.name}={getattr(self, field.name):g}" for field in fields(self)) if self else "none"


def parse_noise(text: str) -> Noise:
    """Read `variation=0.1,stuck_off=0.001`; raises `BaleError` for a name that does not exist or what is no number."""
    values: dict[str, float] = {}
    known = [field.name for field in fields(Noise)]
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = part.partition("=")
        if name not in known or name in values:
            raise BaleError(f"noise: expected each of {', '.join(known)} once at most, as name=number; got {part!r}")
        try:
            values[name] = float(number)
        except ValueError:
            raise BaleError(f"noise.{name}: expected a number, got {number!r}") from None
    return Noise(**values)


def generator(seed: int, *names: object) -> torch.Generator:
    """A generator that depends on the seed and what it is for, not on what was drawn before."""
    digest = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def programmed(cells: np.ndarray, highest: int, noise: Noise, draws: torch.Generator) -> Tensor:
    """The conductances float32 [rows, columns], in levels, of cells that were to hold `cells`."""
    levels = torch.from_numpy(cells).float()
    if noise.stuck_off or noise.stuck_on:
        at = torch.rand(levels.shape, generator=draws)
        levels = levels.masked_fill(at < noise.stuck_off, 0).masked_fill(at >= 1 - noise.stuck_on, float(highest))
    if noise.variation:
        levels = levels * torch.exp(noise.variation * torch.randn(levels.shape, generator=draws))
    return levels
