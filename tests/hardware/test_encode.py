"""Do cells hold what section 0 of the contract says, column by column?"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.hardware.made import chip_of, chips, weights

from bale.errors import MappingError
from bale.hardware import Encoding, encode


def columns_by_hand(chip, weight: np.ndarray) -> list[tuple[int, int, list[int]]]:
    """(output, factor, cells) of one row block [rows, outputs], before any flip, written with plain loops."""
    outputs = weight.shape[1]
    magnitude_bits = chip.weight_bits if chip.encoding is Encoding.OFFSET else chip.weight_bits - 1
    found = []
    for j in range(outputs):
        column = [int(w) for w in weight[:, j]]
        if chip.encoding is Encoding.OFFSET:
            parts = [(1, [w + 2 ** (chip.weight_bits - 1) for w in column])]
        else:
            parts = [(1, [max(w, 0) for w in column]), (-1, [max(-w, 0) for w in column])]
            if chip.encoding is Encoding.SIGN_MAGNITUDE:
                parts = [(sign, numbers) for sign, numbers in parts if any(numbers)] or parts[:1]
        for low in range(0, magnitude_bits, chip.cell.bits):
            for sign, numbers in parts:
                cells = [(number >> low) % 2**chip.cell.bits for number in numbers]
                found.append((j, sign * 2**low, cells))
    return found


@given(st.data())
def test_blocks_of_rows_slices_side_by_side_and_signs_paired(data) -> None:
    chip = data.draw(chips())
    chip = chip_of(
        rows=chip.crossbar.rows,
        columns=chip.crossbar.columns,
        cell_bits=chip.cell.bits,
        weight_bits=chip.weight_bits,
        encoding=chip.encoding,
    )
    weight = data.draw(weights(chip))[:1]
    blocks = encode(weight, chip)
    assert [block.first_row for block in blocks] == list(range(0, weight.shape[1], chip.crossbar.rows))
    for block in blocks:
        part = weight[0, block.first_row : block.first_row + chip.crossbar.rows]
        expected = columns_by_hand(chip, part)
        got = zip(block.output.tolist(), block.factor.tolist(), block.cells.T.tolist(), strict=True)
        assert list(got) == expected
        offset = -(2 ** (chip.weight_bits - 1)) if chip.encoding is Encoding.OFFSET else 0
        assert block.input_factor.tolist() == [offset] * weight.shape[2]
        for index in range(block.crossbars):  # whole weights, as many as fit
            assert (block.crossbar == index).sum() <= chip.crossbar.columns
        assert all(len({*block.crossbar[block.output == j]}) == 1 for j in range(weight.shape[2]))


@given(st.data())
def test_cells_and_factors_mean_the_weights_whatever_the_encoding(data) -> None:
    chip = data.draw(chips())
    weight = data.draw(weights(chip))
    groups, rows, outputs = weight.shape
    whole = np.zeros((groups * rows, groups * outputs), np.int64)
    for block in encode(weight, chip):
        assert block.rows <= chip.crossbar.rows and block.cells.max(initial=0) <= chip.highest_level
        own, width = block.rows // block.groups, len(block.input_factor) // block.groups
        for group in range(block.groups):
            at = slice(block.first_output + group * width, block.first_output + (group + 1) * width)
            low = block.first_row + group * own
            whole[low : low + own, at] += block.input_factor[group * width : (group + 1) * width]
        for column in range(block.columns):
            into = whole[block.first_row : block.first_row + block.rows, block.first_output + block.output[column]]
            into += block.factor[column] * block.cells[:, column].astype(np.int64)
    for group in range(groups):
        mine = whole[group * rows : (group + 1) * rows, group * outputs : (group + 1) * outputs]
        assert (mine == weight[group]).all()
        whole[group * rows : (group + 1) * rows, group * outputs : (group + 1) * outputs] = 0
    assert not whole.any()


def test_groups_share_a_crossbar_along_its_diagonal() -> None:
    chip = chip_of(rows=32, columns=24, weight_bits=8, encoding="differential")
    blocks = encode(np.ones((10, 9, 1), np.int64), chip)
    assert [block.groups for block in blocks] == [3, 3, 3, 1]  # 32 // 9 rows, 24 // 8 columns
    assert [block.crossbars for block in blocks] == [1, 1, 1, 1]
    assert blocks[0].cells_used == 3 * 9 * 8


def test_sign_magnitude_takes_two_columns_only_where_signs_are_mixed() -> None:
    chip = chip_of(rows=2, weight_bits=3, cell_bits=2, encoding="sign-magnitude")
    (block,) = encode(np.array([[[1, -1, 1, 0], [3, -2, -3, 0]]]), chip)
    assert block.output.tolist() == [0, 1, 2, 2, 3]
    assert block.factor.tolist() == [1, -1, 1, -1, 1]


@pytest.mark.parametrize("encoding", list(Encoding))
def test_weights_beyond_the_bits_name_the_matrix(encoding) -> None:
    chip = chip_of(weight_bits=4, encoding=encoding)
    with pytest.raises(MappingError, match=r"fc1: weights from 0 to 8; .* holds -[78] to 7"):
        encode(np.array([[[0, 8]]]), chip, "fc1")
