"""Uniform quantisation: every number on a grid of few bits, with a scale for each output. A baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from bale.compress.config import WeightConfig
from bale.compress.weights import Weight

_BITS = (2, 3, 4, 8)


@dataclass(frozen=True)
class UniformQuantConfig(WeightConfig):
    """Round weights to 2, 3, 4 or 8 bits, symmetrically around 0, with a scale for each output (each block row).

    Scales begin at the least squared error, and are trained with the weights (LSQ; Esser et al., ICLR 2020). On a
    weight that is block-circulant or pruned already, what is stored of it is rounded.
    """

    bits: int = 8
    method: ClassVar[str] = "uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(self.bits in _BITS, "bits", f"must be one of {', '.join(map(str, _BITS))}, got {self.bits}")

    @classmethod
    def ladder(cls) -> tuple[Self, ...]:
        return tuple(cls(bits) for bits in reversed(_BITS))

    def encode(self, weight: Weight) -> None:
        weight.code.quantize(self.bits)
