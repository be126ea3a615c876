"""Are simulated integers PyTorch's, and is what is lost counted?"""

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.hardware.made import chip_of, chips, inputs, weights

from bale.hardware import CrossbarMatrix, Encoding, Noise, encode, lossless
from bale.hardware.bitserial import Digits
from bale.hardware.workers import workers


def product_by_torch(x: np.ndarray, weight: np.ndarray) -> torch.Tensor:
    """A grouped convolution of one position, in int64."""
    groups, rows, outputs = weight.shape
    kernel = torch.from_numpy(weight.transpose(0, 2, 1).reshape(groups * outputs, rows, 1).copy())
    return torch.nn.functional.conv1d(torch.from_numpy(x).long().unsqueeze(2), kernel, groups=groups).squeeze(2)


@given(st.data())
def test_sums_are_pytorchs_integers_where_bits_suffice(data) -> None:
    chip = data.draw(chips())
    weight = data.draw(weights(chip))
    signed = data.draw(st.booleans())
    x = data.draw(inputs(chip, weight.shape[0] * weight.shape[1], signed))
    blocks = encode(weight, chip)
    bounds = lossless(blocks, chip)
    assert bounds.exact <= bounds.a_priori
    chip = replace(chip, adc=replace(chip.adc, bits=bounds.exact_bits))
    matrix = CrossbarMatrix.program("m", blocks, chip, signed)
    assert matrix.lossless
    assert torch.equal(matrix.multiply(torch.from_numpy(x)), product_by_torch(x, weight))
    columns = sum(block.columns for block in blocks)
    assert matrix.converted.conversions == len(x) * chip.input_cycles(signed) * columns
    assert matrix.converted.clipped == 0 and matrix.converted.largest <= bounds.exact


@given(st.data())
def test_a_conversion_beyond_the_converter_is_clipped_and_counted(data) -> None:
    chip = data.draw(chips())
    weight = data.draw(weights(chip))
    x = data.draw(inputs(chip, weight.shape[0] * weight.shape[1], False))
    bits = data.draw(st.integers(1, 4))
    chip = replace(chip, adc=replace(chip.adc, bits=bits))
    blocks = encode(weight, chip)
    matrix = CrossbarMatrix.program("m", blocks, chip, False)
    got = matrix.multiply(torch.from_numpy(x))
    sums, clipped = sums_by_hand(x, blocks, chip, 2**bits - 1)
    assert got.tolist() == sums
    assert matrix.converted.clipped == clipped
    if not clipped:
        assert torch.equal(got, product_by_torch(x, weight))


def sums_by_hand(x: np.ndarray, blocks, chip, highest: int) -> tuple[list[list[int]], int]:
    """Unsigned inputs, digit by digit and column by column, in Python's integers."""
    outputs = max(block.first_output + len(block.input_factor) for block in blocks)
    sums = [[0] * outputs for _ in x]
    clipped = 0
    for vector, into in zip(x.tolist(), sums, strict=True):
        for block in blocks:
            mine = vector[block.first_row : block.first_row + block.rows]
            own, width = block.rows // block.groups, len(block.input_factor) // block.groups
            for j, factor in enumerate(block.input_factor.tolist()):
                group = j // width
                into[block.first_output + j] += factor * sum(mine[group * own : (group + 1) * own])
            for low in range(0, chip.input_bits, chip.dac_bits):
                wide = 2 ** min(chip.dac_bits, chip.input_bits - low)
                digits = [(value >> low) % wide for value in mine]
                for column in range(block.columns):
                    read = sum(d * c for d, c in zip(digits, block.cells[:, column].tolist(), strict=True))
                    clipped += read > highest
                    factor = int(block.factor[column]) << low
                    into[block.first_output + int(block.output[column])] += factor * min(read, highest)
    return sums, clipped


@given(st.data())
def test_one_bit_less_than_the_exact_bound_clips_for_some_input(data) -> None:
    chip = data.draw(chips())
    weight = data.draw(weights(chip))
    blocks = encode(weight, chip)
    bounds = lossless(blocks, chip)
    if bounds.exact_bits == 1:
        return
    chip = replace(chip, adc=replace(chip.adc, bits=bounds.exact_bits - 1))
    matrix = CrossbarMatrix.program("m", blocks, chip, False)
    assert not matrix.lossless
    most = np.full((1, weight.shape[0] * weight.shape[1]), 2**chip.input_bits - 1, np.int32)
    matrix.multiply(torch.from_numpy(most))
    full = chip.input_bits >= chip.dac_bits  # else no digit is as wide as the bound assumes
    assert matrix.converted.clipped > 0 or not full
    assert matrix.converted.largest == bounds.exact or not full


@given(st.integers(2, 16), st.integers(1, 8), st.booleans(), st.data())
def test_digits_add_up_to_the_input(bits, dac_bits, signed, data) -> None:
    digits = Digits.of(bits, dac_bits, signed)
    assert len(digits) == chip_of(input_bits=bits, dac_bits=dac_bits).input_cycles(signed)
    most = 2 ** (bits - signed) - 1
    x = data.draw(st.integers(-most - 1 if signed else 0, most))
    (driven,) = digits.of_inputs(torch.tensor([[x]], dtype=torch.int32)).reshape(1, -1).tolist()
    assert sum(d * w for d, w in zip(driven, digits.weight.tolist(), strict=True)) == x
    assert all(0 <= d < 2**dac_bits for d in driven)


def test_noise_is_drawn_from_the_seed_and_none_is_none() -> None:
    chip = chip_of(encoding="differential")
    rng = np.random.default_rng(0)
    weight, x = rng.integers(-31, 32, (1, 40, 5)), torch.from_numpy(rng.integers(0, 16, (20, 40)).astype(np.int32))
    blocks = encode(weight, chip)

    def run(noise: Noise, seed: int = 0) -> torch.Tensor:
        return CrossbarMatrix.program("m", blocks, chip, False, noise=noise, seed=seed).multiply(x)

    exact = run(Noise())
    for noise in (Noise(variation=0.2), Noise(stuck_on=0.1), Noise(stuck_off=0.1), Noise(read=1.0)):
        assert not torch.equal(run(noise), exact)
        assert torch.equal(run(noise), run(noise))
        assert not torch.equal(run(noise), run(noise, seed=1))
    assert torch.equal(run(Noise(stuck_off=1.0)), torch.zeros_like(exact))
    small = (run(Noise(variation=0.01)) - exact).abs().sum()
    assert small < (run(Noise(variation=0.3)) - exact).abs().sum()


def test_a_lognormal_factor_has_the_spread_that_was_asked_for() -> None:
    chip = chip_of(rows=128, columns=128, weight_bits=8, encoding=Encoding.OFFSET)
    blocks = encode(np.full((1, 128, 32), 127), chip)
    (cells,) = CrossbarMatrix.program("m", blocks, chip, False, noise=Noise(variation=0.1)).conductance
    logarithms = (cells / torch.from_numpy(blocks[0].cells)).log()
    assert abs(float(logarithms.mean())) < 0.005 and abs(float(logarithms.std()) - 0.1) < 0.005
    (stuck,) = CrossbarMatrix.program("m", blocks, chip, False, noise=Noise(stuck_off=0.2, stuck_on=0.0)).conductance
    assert abs(float((stuck == 0).float().mean()) - 0.2) < 0.02


def test_workers_share_vectors_and_change_nothing() -> None:
    chip = chip_of(adc_bits=4)
    rng = np.random.default_rng(0)
    weight, x = rng.integers(-31, 32, (1, 40, 50)), torch.from_numpy(rng.integers(0, 16, (5000, 40)).astype(np.int32))
    blocks = encode(weight, chip)
    alone, shared = (CrossbarMatrix.program("m", blocks, chip, False) for _ in range(2))
    expected = alone.multiply(x)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with workers() as pool:
            assert pool is not None and torch.get_num_threads() == 3
            assert torch.equal(shared.multiply(x, pool), expected)
            assert set(pool.map(lambda _: torch.get_num_threads(), range(9))) == {1}
    finally:
        torch.set_num_threads(threads)
    assert shared.converted == alone.converted and shared.converted.clipped > 0
    with workers() as pool:
        assert (pool is None) == (threads == 1)
