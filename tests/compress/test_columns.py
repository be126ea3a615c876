"""Is what ADC-aware pruning keeps the nearest that it may keep, and are its columns as it says, after training?"""

from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bale.compress import ADCAwareConfig, BlockCirculantConfig, compress_
from bale.compress.code import Code
from bale.compress.columns import column_bounds, converter_bits, largest_by_sign, most_nonzeros
from bale.compress.weights import coded_weights
from bale.errors import CompressionError


@st.composite
def matrices(draw: st.DrawFn, outputs: int = 4, inputs: int = 9) -> Tensor:
    """Numbers of both signs, of which some are equal and some 0."""
    shape = (draw(st.integers(1, outputs)), draw(st.integers(1, inputs)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1 << 20)))
    if draw(st.booleans()):
        return torch.randint(-3, 4, shape, generator=generator).double()
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def nearest(block: list[float], most: int) -> float:
    """The least squared distance to `block` of what has at most `most` numbers of each sign: over all subsets."""
    places = range(len(block))
    kept = [set(some) for many in range(len(block) + 1) for some in combinations(places, many)]
    allowed = [
        some
        for some in kept
        if sum(block[place] > 0 for place in some) <= most and sum(block[place] < 0 for place in some) <= most
    ]
    return min(sum(block[place] ** 2 for place in places if place not in some) for some in allowed)


@given(matrices(3, 7), st.integers(1, 4), st.integers(1, 5))
def test_nothing_that_fits_the_columns_is_nearer(matrix, most, rows) -> None:
    signs = largest_by_sign(matrix, most, rows)
    assert signs.dtype == torch.int8 and signs.shape == matrix.shape
    assert torch.equal(signs.double(), torch.where(signs != 0, matrix.sign(), 0))
    for output in range(len(matrix)):
        for low in range(0, matrix.shape[1], rows):
            block, kept = matrix[output, low : low + rows], signs[output, low : low + rows]
            assert int((kept > 0).sum()) <= most and int((kept < 0).sum()) <= most
            assert float(block[kept == 0].square().sum()) == pytest.approx(nearest(block.tolist(), most), abs=1e-12)


def test_of_equal_numbers_the_first_stay() -> None:
    matrix = torch.tensor([[2.0, 2, -1, 2, -1, 0, 2, -1]])
    assert largest_by_sign(matrix, 1, 4).tolist() == [[1, 0, -1, 0, -1, 0, 1, 0]]


def largest_column(matrix: Tensor, rows: int, weight_bits: int, cell_bits: int) -> tuple[int, int]:
    """The most cells of a column that are not 0 by the weight, and the largest sum of a column's cells: one by one."""
    highest = 2 ** (weight_bits - 1) - 1
    most = largest = 0
    for output in matrix.double().tolist():
        scale = max(map(abs, output)) / highest or 1.0
        whole = torch.tensor([number / scale for number in output], dtype=torch.float64).round().long().tolist()
        for low in range(0, len(whole), rows):
            for sign in (1, -1):
                column = [max(0, sign * number) for number in whole[low : low + rows]]
                most = max(most, sum(number > 0 for number in column))
                for shift in range(0, weight_bits - 1, cell_bits):
                    largest = max(largest, sum((number >> shift) % 2**cell_bits for number in column))
    return most, largest


@given(matrices(), st.integers(1, 10), st.integers(2, 12), st.integers(1, 4), st.integers(1, 3))
def test_bounds_are_those_of_columns_that_are_counted(matrix, rows, weight_bits, cell_bits, dac_bits) -> None:
    bounds = column_bounds(matrix, rows=rows, weight_bits=weight_bits, cell_bits=cell_bits, dac_bits=dac_bits)
    most, largest = largest_column(matrix, rows, weight_bits, cell_bits)
    drive = 2**dac_bits - 1
    assert bounds.nonzeros == most
    assert bounds.a_priori == most * (2**cell_bits - 1) * drive and bounds.exact == largest * drive
    assert bounds.exact <= bounds.a_priori
    for bits, held in ((bounds.a_priori_bits, bounds.a_priori), (bounds.exact_bits, bounds.exact)):
        assert held <= 2**bits - 1 and (bits == 1 or held > 2 ** (bits - 1) - 1)


@given(st.integers(1, 14), st.integers(1, 4), st.integers(1, 4))
def test_no_more_non_zeros_fit_a_converter(adc_bits, cell_bits, dac_bits) -> None:
    most, each = most_nonzeros(adc_bits, cell_bits, dac_bits), (2**cell_bits - 1) * (2**dac_bits - 1)
    assert most == 0 or converter_bits(most * each) <= adc_bits
    assert converter_bits((most + 1) * each) > adc_bits


LAYERS = [
    (lambda: nn.Linear(30, 5), (4, 30)),
    (lambda: nn.Conv1d(6, 4, 5, groups=2), (2, 6, 9)),
    (lambda: nn.Conv2d(3, 4, 3), (2, 3, 5, 5)),
    (lambda: nn.LSTM(9, 7), (3, 2, 9)),
    (lambda: nn.GRU(9, 7, bidirectional=True), (3, 2, 9)),
    (lambda: nn.LSTMCell(9, 7), (2, 9)),
    (lambda: nn.GRUCell(9, 7), (2, 9)),
]


def trained(layer: nn.Module, x: Tensor, steps: int) -> None:
    """Steps so long that weights would change their signs."""
    optimizer = torch.optim.SGD(layer.parameters(), 0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        result = layer(x)
        result = result[0] if isinstance(result, tuple) else result
        (result - 3 * torch.randn(result.shape)).square().sum().backward()
        optimizer.step()


def columns_of(code: Code, rows: int) -> list[Tensor]:
    matrix = code().detach().flatten(1)
    return [matrix[:, low : low + rows] for low in range(0, matrix.shape[1], rows)]


@pytest.mark.parametrize("make,shape", LAYERS, ids=[make().__class__.__name__ for make, _ in LAYERS])
def test_training_keeps_the_columns_and_the_signs(make, shape) -> None:
    torch.manual_seed(0)
    layer, config = make(), ADCAwareConfig(adc_bits=3, rows=8, cell_bits=1)
    report = compress_(layer, config)
    before = [weight.code().detach().sign() for weight in coded_weights(layer)]
    crossed = 0
    for _ in range(3):
        trained(layer, torch.randn(shape), 3)
        for was, weight, line in zip(before, coded_weights(layer), report.weights, strict=True):
            now = weight.code().detach().sign()
            assert bool(((now == 0) | (now == weight.code.signs)).all())
            assert bool((was[now != 0] * now[now != 0] >= 0).all())
            crossed += int((weight.code.values.sign() == -weight.code.signs).sum())  # type: ignore[operator]
            for column in columns_of(weight.code, config.rows):
                assert int((column > 0).sum(1).max()) <= config.most and int((column < 0).sum(1).max()) <= config.most
            assert line.facts["nonzeros"] <= config.most == 7
            bounds = config.bounds(weight.code)
            assert bounds.exact <= bounds.a_priori <= 2**config.adc_bits - 1
    assert crossed > 0  # or nothing was shown


def test_what_the_report_says_of_columns() -> None:
    layer = nn.Linear(6, 2)
    weights = [[1.0, -2, 3, -4, 5, -6], [1, 2, 3, 4, 5, 6]]
    layer.weight.data = torch.tensor(weights)
    config = ADCAwareConfig(nonzeros=2, rows=4, weight_bits=4, cell_bits=3)
    report = compress_(layer, config)
    # Of rows of four: 1 and 3, -2 and -4 stay, and 5 and -6; of the second 3 and 4, and 5 and 6.
    assert report.weights[0].kept == 10
    assert torch.equal(layer.weight.sign(), torch.tensor([[1.0, -1, 1, -1, 1, -1], [0, 0, 1, 1, 1, 1]]))
    matrix = layer.weight.detach()
    most, largest = largest_column(matrix, 4, 4, 3)
    assert (most, largest) == (2, 13)  # 6 and 7 of 7, where 6 of 6 is 7
    assert report.weights[0].facts == {"nonzeros": 2, "adc_bits": 4, "adc_bits_exact": 4}


def test_more_than_an_adc_holds_is_refused_with_what_to_do() -> None:
    with pytest.raises(CompressionError, match=r"adc-aware\.adc_bits: 2 bits do not hold the 21 .* expected 5"):
        ADCAwareConfig(adc_bits=2, cell_bits=3, dac_bits=2)
    with pytest.raises(CompressionError, match=r"adc-aware\.nonzeros: is given, 10, and adc_bits, 5, too"):
        ADCAwareConfig(adc_bits=5, nonzeros=10)
    assert ADCAwareConfig().most == ADCAwareConfig(adc_bits=5).most == 10


@pytest.mark.parametrize("weight_bits", [3, 8])
def test_of_circulant_blocks_the_rule_is_for_what_is_stored(weight_bits) -> None:
    """In crossbars of 20 rows, which hold two whole blocks of 8, each block stored once."""
    torch.manual_seed(0)
    layer = nn.Conv2d(20, 12, (2, 1))
    model = nn.Sequential(layer)
    compress_(model, BlockCirculantConfig(8), lambda module, name: True)
    config = ADCAwareConfig(nonzeros=3, rows=20, weight_bits=weight_bits)
    report = compress_(model, config)
    (weight,) = coded_weights(model)
    # [block rows, block columns x taps x 8]: a row is a column of cells.
    stored = weight.code.numbers().flatten(1)
    assert stored.shape == (2, 3 * 2 * 8)
    blocks = stored.unflatten(1, (-1, 16))
    assert int((blocks > 0).sum(-1).max()) <= 3 and int((blocks < 0).sum(-1).max()) <= 3
    expected = largest_column(stored, 16, weight_bits, 2)
    assert (report.weights[0].facts["nonzeros"], config.bounds(weight.code).exact) == expected
    # A rotation of all blocks by the same step is another column of the same bounds.
    turned = blocks.unflatten(2, (2, 8)).roll(3, -1).flatten(1)
    assert largest_column(turned, 16, weight_bits, 2) == expected
