"""ADC-aware pruning: few non-zeros in each crossbar column, so that its converter needs fewer bits.

TinyADC, DATE 2021. Published: "column proportional pruning", a fixed number of non-zero weights in each crossbar
column at positions that vary, by ADMM, together with structured pruning. Our reconstruction: the projection, the
bounds, and that the rule holds for each sign where signs have columns of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from bale.compress.admm import Admm
from bale.compress.code import Code, UnsuitableError
from bale.compress.columns import ColumnBounds, column_bounds, largest_by_sign, most_nonzeros
from bale.compress.config import WeightConfig
from bale.compress.layout import BlockCirculant, Layout
from bale.compress.weights import Weight

_ADC_BITS = 5  # unless something else is said
_MOST = 1 << 20  # rows of a crossbar, and non-zeros
_UPDATES = 15  # of Z, U and rho in a training


@dataclass(frozen=True)
class ADCAwareConfig(WeightConfig):
    """Keep so few weights in each physical column that every sum fits the ADC: lossless by construction.

    A weight's positive and negative numbers stand in columns of their own: of each output and block of `rows` rows
    the l largest of each sign stay, an absolute cap in blocks that are partly filled, too. A kept weight keeps its
    sign in training, or is 0. Linear, convolutions (unfolded), LSTM, GRU and their cells. Of a weight that is
    block-circulant the rule is for its columns where each circulant block is stored once, in row blocks that hold
    whole circulant blocks: the same for every rotation. Written out, its columns may hold more.

    adc_bits     of the converter; l is the most that it holds: l (2^cell_bits - 1)(2^dac_bits - 1) <= 2^adc_bits - 1
    nonzeros     l itself, instead of `adc_bits`; neither: a converter of 5 bits
    rows         height of a crossbar
    weight_bits  of a weight, sign included, 2 to 16; weights are rounded to them, with a scale for each output
    cell_bits    of a cell
    dac_bits     of an input that is driven at a time

    It is for encodings that give signs columns of their own (differential, sign-magnitude). With an offset a weight
    of 0 is no cell of 0, and the rule buys nothing.

    The report says of each weight the most non-zeros of a column, and the bits by both bounds: a priori, and exact
    for the cells programmed.
    """

    adc_bits: int | None = None
    nonzeros: int | None = None
    rows: int = 128
    weight_bits: int = 8
    cell_bits: int = 2
    dac_bits: int = 1
    method: ClassVar[str] = "adc-aware"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adc_bits is None and self.nonzeros is None:
            object.__setattr__(self, "adc_bits", _ADC_BITS)
        for field, most in (("adc_bits", 32), ("nonzeros", _MOST), ("rows", _MOST), ("cell_bits", 8), ("dac_bits", 8)):
            number = getattr(self, field)
            self.check(number is None or 1 <= number <= most, field, f"must be from 1 to {most:,}, got {number}")
        self.check(2 <= self.weight_bits <= 16, "weight_bits", f"must be from 2 to 16, got {self.weight_bits}")
        one = self.adc_bits is None or self.nonzeros is None
        self.check(one, "nonzeros", f"is given, {self.nonzeros}, and adc_bits, {self.adc_bits}, too; give one of them")
        least = (2**self.cell_bits - 1) * (2**self.dac_bits - 1)
        self.check(
            self.most >= 1,
            "adc_bits",
            f"{self.adc_bits} bits do not hold the {least} of one cell of {self.cell_bits} bits, driven "
            f"by {self.dac_bits}; expected {least.bit_length()} or more",
        )

    @classmethod
    def ladder(cls) -> tuple[Self, ...]:
        return tuple(cls(bits) for bits in range(8, 1, -1))

    @property
    def acts_in_training(self) -> bool:
        return True

    @property
    def most(self) -> int:
        """l, the most non-zeros of a column."""
        return self.nonzeros or most_nonzeros(self.adc_bits or 0, self.cell_bits, self.dac_bits)

    def block_rows(self, layout: Layout) -> int:
        """Rows of a row block: a crossbar's, or those of the whole circulant blocks that it has room for.

        Raises UnsuitableError for circulant blocks that are higher than a crossbar.
        """
        if not isinstance(layout, BlockCirculant):
            return self.rows
        if layout.block > self.rows:
            raise UnsuitableError(f"has circulant blocks of {layout.block}, and a crossbar has {self.rows} rows")
        return self.rows // layout.block * layout.block

    def encode(self, weight: Weight) -> None:
        code = weight.code
        code.check_not_decomposed()
        rows = self.block_rows(code.layout)
        code.check_not_quantized()
        matrix = code.kept_values().flatten(1)
        code.keep_signs(largest_by_sign(matrix, self.most, rows).view_as(code.values))
        code.quantize(self.weight_bits)

    def facts(self, code: Code) -> dict[str, float]:
        bounds = self.bounds(code)
        return {
            "nonzeros": bounds.nonzeros,
            "adc_bits": bounds.a_priori_bits,
            "adc_bits_exact": bounds.exact_bits,
        }

    def bounds(self, code: Code) -> ColumnBounds:
        """Over all columns of a weight, as it is now and as it is stored."""
        return column_bounds(
            code.numbers().flatten(1),
            rows=self.block_rows(code.layout),
            weight_bits=self.weight_bits,
            cell_bits=self.cell_bits,
            dac_bits=self.dac_bits,
        )

    def compressor(self, steps: int | None = None, epochs: int | None = None) -> Admm:
        """ADMM, as the paper has it; its updates are spread over the steps."""
        return Admm(self) if steps is None else Admm(self, every=max(1, steps // _UPDATES))
