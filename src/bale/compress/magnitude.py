"""Magnitude pruning: the smallest weights go (Han et al., NeurIPS 2015). A baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from bale.compress.config import WeightConfig
from bale.compress.weights import Weight


@dataclass(frozen=True)
class MagnitudeConfig(WeightConfig):
    """Keep the largest weights, and round them to a few bits.

    density   the share of weights that stays, ceil(density x weights) of them; of equal ones the first
    bits      of a kept weight, 2 to 8, with a scale for each output; None: as they are
    scope     "network": the largest of all layers, and of each at least one, the stronger baseline (Blalock et al.,
              MLSys 2020); "layer": the same share of each layer

    In a packed file they are a bitmap and the kept weights' codes.
    """

    density: float = 0.1
    bits: int | None = 8
    scope: Literal["network", "layer"] = "network"
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

    def encode(self, weight: Weight) -> None:
        self._keep(weight, _largest([weight], self.density)[weight.name])

    def encoder(self, weights: Sequence[Weight]) -> Callable[[Weight], None]:
        if self.scope == "layer":
            return self.encode
        masks = _largest(weights, self.density)
        return lambda weight: self._keep(weight, masks[weight.name])

    def _keep(self, weight: Weight, mask: Tensor) -> None:
        if self.bits is not None:
            weight.code.check_not_quantized()
        weight.code.keep_only(mask)
        if self.bits is not None:
            weight.code.quantize(self.bits)


def _largest(weights: Sequence[Weight], density: float) -> dict[str, Tensor]:
    """Where the largest of all these weights are, of each its own largest at least."""
    magnitudes = [weight.code.kept_values().abs().flatten() for weight in weights]
    together = torch.cat([each.cpu().float() for each in magnitudes])
    chosen = torch.zeros_like(together, dtype=torch.bool)
    chosen[torch.sort(together, descending=True, stable=True).indices[: ceil(density * len(together))]] = True
    masks: dict[str, Tensor] = {}
    for weight, own, mask in zip(weights, magnitudes, chosen.split([len(each) for each in magnitudes]), strict=True):
        mask[own.argmax()] = True
        masks[weight.name] = mask.view(weight.code.values.shape).to(own.device)
    return masks
