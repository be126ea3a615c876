"""Magnitude pruning: the smallest weights go (Han et al., NeurIPS 2015). A baseline."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import ClassVar, Self

import torch

from bale.compress.code import Code
from bale.compress.config import WeightConfig
from bale.compress.weights import Weight


@dataclass(frozen=True)
class MagnitudeConfig(WeightConfig):
    """Keep the largest weights of each layer, and round them to a few bits.

    density   the share of a layer's weights that stays, ceil(density x weights) of them; of equal ones the first
    bits      of a kept weight, 2 to 8, with a scale for each output; None: as they are

    In a packed file they are a bitmap and the kept weights' codes.
    """

    density: float = 0.1
    bits: int | None = 8
    method: ClassVar[str] = "magnitude"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(0 < self.density <= 1, "density", f"must be above 0 and at most 1, got {self.density}")
        self.check(self.bits is None or 2 <= self.bits <= 8, "bits", f"must be from 2 to 8, or None, got {self.bits}")

    @classmethod
    def ladder(cls) -> tuple[Self, ...]:
        return tuple(
            cls(density) for density in (0.9, 0.7, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01)
        )

    def encode(self, code: Code, weight: Weight) -> None:
        magnitudes = code.kept_values().abs().flatten()
        order = torch.sort(magnitudes, descending=True, stable=True).indices
        mask = torch.zeros_like(magnitudes, dtype=torch.bool)
        mask[order[: ceil(self.density * len(order))]] = True
        code.keep_only(mask.view_as(code.values))
        if self.bits is not None:
            code.quantize(self.bits)
