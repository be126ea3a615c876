"""Are the bounds those of section 5, and enough for every input?"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.hardware.made import chip_of, chips, weights

from bale.hardware import encode, lossless
from bale.hardware.bounds import a_priori_sum, converter_bits


@pytest.mark.parametrize(("nonzeros", "bits"), [(128, 9), (64, 8), (32, 7), (16, 6), (8, 5)])
def test_bits_of_section_5(nonzeros, bits) -> None:
    chip = chip_of(rows=128, columns=128)
    assert converter_bits(a_priori_sum(nonzeros, 128, chip)) == bits


def test_the_flip_saves_a_bit_of_full_columns_and_nothing_of_half_empty_ones() -> None:
    plain, flipped = (chip_of(rows=128, columns=128, flip=flip) for flip in (False, True))
    assert converter_bits(a_priori_sum(128, 128, flipped)) == 8
    for nonzeros in range(1, 65):
        assert a_priori_sum(nonzeros, 128, flipped) == a_priori_sum(nonzeros, 128, plain)


@pytest.mark.parametrize(("bits", "most"), [(4, 5), (5, 10), (6, 21), (7, 42), (8, 85)])
def test_the_largest_l_for_given_bits(bits, most) -> None:
    chip = chip_of(rows=128, columns=128)
    assert max(n for n in range(129) if converter_bits(a_priori_sum(n, 128, chip)) <= bits) == most


@given(st.data())
def test_bounds_are_those_of_every_column_by_hand(data) -> None:
    chip = data.draw(chips())
    weight = data.draw(weights(chip))
    blocks = encode(weight, chip)
    drive = 2**chip.dac_bits - 1
    exact = max(drive * int(column.sum()) for block in blocks for column in block.cells.T.astype(int))
    bounds = lossless(blocks, chip)
    assert bounds.exact == exact <= bounds.a_priori
    assert exact <= 2**bounds.exact_bits - 1
    assert bounds.exact_bits == 1 or exact > 2 ** (bounds.exact_bits - 1) - 1


def test_nonzeros_are_counted_by_sign_in_differential_columns() -> None:
    weight = np.zeros((1, 16, 1), np.int64)
    weight[0, :5] = 31
    weight[0, 5:8] = -1
    for encoding, nonzeros in (("differential", 5), ("sign-magnitude", 5), ("offset", 16)):
        assert [block.nonzeros for block in encode(weight, chip_of(encoding=encoding))] == [nonzeros]
