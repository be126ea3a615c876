"""Block-circulant weights: k times fewer numbers, and products by Fourier transforms (CirCNN, ReBoc)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

from bale.compress.code import Code, UnsuitableError
from bale.compress.config import WeightConfig
from bale.compress.fourier import fft_pays
from bale.compress.layout import BlockCirculant, Dense
from bale.compress.weights import Weight


@dataclass(frozen=True)
class BlockCirculantConfig(WeightConfig):
    """Cut weights into k x k blocks, and keep of each one number a wrapped diagonal: the mean, which is nearest.

    Linear, Conv1d, Conv2d (a block for each tap of the kernel, over channels), LSTM, GRU and their cells (each gate
    has blocks of its own). What k does not divide is padded with zeros. Unless a filter says otherwise, the first and
    the last layer stay dense (of two layers the last), and so do weights with fewer outputs or inputs than
    `least_blocks` x k.

    block         k
    kernel        how products are made: "fft", by Fourier transforms of the blocks; "direct", by the weight written
                  out; both agree. "auto": the faster by the layer's size, measured for up to a thousand vectors a call;
                  with many more "direct" may be. Conv1d, convolutions in groups or padded with other than zeros, LSTM
                  and GRU (which use their weight in each step) and half types are direct in any case.
    least_blocks  blocks that a weight has each way, at least: narrow layers have few numbers, and need them most

    Source: CirCNN (Ding et al., MICRO 2017), also of the projection.
    """

    block: int = 8
    kernel: Literal["auto", "fft", "direct"] = "auto"
    least_blocks: int = 1
    method: ClassVar[str] = "block-circulant"
    keeps_ends: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(self.block >= 2, "block", f"must be at least 2, got {self.block}")
        self.check(self.least_blocks >= 1, "least_blocks", f"must be at least 1, got {self.least_blocks}")

    @classmethod
    def ladder(cls) -> tuple[Self, ...]:
        return tuple(cls(block) for block in (2, 4, 8, 16, 32, 64))

    def encode(self, weight: Weight) -> None:
        code = weight.code
        code.check_not_decomposed()
        if not isinstance(code.layout, Dense):
            raise UnsuitableError("is block-circulant already")
        if code.changed:
            raise UnsuitableError("is pruned or quantised already; a block-circulant weight comes first")
        shape = weight.shape
        least = self.least_blocks * self.block
        if min(shape.outputs, shape.inputs) < least:
            each = " a part" if shape.parts > 1 else ""
            raise UnsuitableError(f"has {shape.outputs} outputs and {shape.inputs} inputs{each}, fewer than {least}")
        layout = BlockCirculant(shape, self.block)
        fft = self.kernel == "fft" or (self.kernel == "auto" and fft_pays(layout))
        code.become(replace(layout, fft=fft and weight.fourier))

    def facts(self, code: Code) -> dict[str, float]:
        return {"padded": 1} if isinstance(code.layout, BlockCirculant) and code.layout.padded else {}
