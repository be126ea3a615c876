"""What do these tests draw? Chips, and integer matrices for them."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from bale.hardware import Chip, Crossbar, Encoding, isaac_ce


def chip_of(
    *,
    rows: int = 16,
    columns: int = 16,
    cell_bits: int = 2,
    weight_bits: int = 6,
    input_bits: int = 4,
    dac_bits: int = 1,
    adc_bits: int = 12,
    encoding: str = "offset",
    flip: bool = False,
    **fields: object,
) -> Chip:
    """ISAAC with other crossbars; converters by a law that has figures for any bits."""
    isaac = isaac_ce()
    return replace(
        isaac,
        name="drawn",
        crossbar=Crossbar(rows, columns, 100, 0.1, 1e-5),
        cell=replace(isaac.cell, bits=cell_bits),
        adc=replace(isaac.adc, bits=adc_bits, law="exponential"),
        weight_bits=weight_bits,
        input_bits=input_bits,
        dac_bits=dac_bits,
        encoding=Encoding(encoding),
        flip=flip,
        **fields,
    )


@st.composite
def chips(draw: st.DrawFn) -> Chip:
    """Any chip on which a weight fits into a crossbar."""
    cell_bits, weight_bits = draw(st.integers(1, 4)), draw(st.integers(2, 8))
    widest = 2 * -(-weight_bits // cell_bits)
    return chip_of(
        rows=draw(st.integers(1, 20)),
        columns=draw(st.integers(widest, widest + 20)),
        cell_bits=cell_bits,
        weight_bits=weight_bits,
        input_bits=draw(st.integers(2, 6)),
        dac_bits=draw(st.integers(1, 3)),
        encoding=draw(st.sampled_from([str(encoding) for encoding in Encoding])),
        flip=draw(st.booleans()),
    )


@st.composite
def weights(draw: st.DrawFn, chip: Chip) -> np.ndarray:
    """Integers [groups, rows, outputs] that the chip's encoding holds, many of them 0 or at their bounds."""
    groups = draw(st.sampled_from([1, 1, 2, 5]))
    shape = (groups, draw(st.integers(1, 45 // groups)), draw(st.integers(1, 6)))
    most = 2 ** (chip.weight_bits - 1) - 1
    least = -most - (chip.encoding is Encoding.OFFSET)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    weight = rng.integers(least, most, shape, endpoint=True)
    kind = rng.random(shape)
    weight[kind < draw(st.sampled_from([0.0, 0.5, 0.9]))] = 0
    weight[kind > 0.95] = draw(st.sampled_from([least, most]))
    return weight


@st.composite
def inputs(draw: st.DrawFn, chip: Chip, rows: int, signed: bool) -> np.ndarray:
    """Integers [vectors, rows] of the chip's input bits."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    most = 2 ** (chip.input_bits - signed) - 1
    return rng.integers(-most - 1 if signed else 0, most, (draw(st.integers(1, 4)), rows), endpoint=True).astype(
        np.int32
    )
