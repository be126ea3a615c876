"""Is what an array of MACs does what its loops, written out, would do?"""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hardware.made_decompositions import decompositions, made
from torch import nn

from bale.errors import ChipError, MappingError
from bale.hardware.mac_array import (
    DenseWeights,
    UniformWeights,
    booth_digits,
    compare,
    dense_weights,
    digit_counts,
    equal_byte_weights,
    mac_array_cost,
    mac_energy_pj,
    rebuild,
    smartdeal,
)
from bale.hardware.mac_array.weights import decomposed_bits
from bale.hardware.network import read_network
from bale.hardware.quantize import calibrate, integer_product, integers, run_in_integers
from bale.models import LeNet5, LSTMClassifier, ResNet20


@given(st.integers(2, 12), st.booleans())
@settings(max_examples=20)
def test_booth_digits_add_up_to_the_number(bits, signed) -> None:
    lowest = -(2 ** (bits - 1)) if signed else 0
    numbers = np.arange(lowest, lowest + 2**bits)
    digits = booth_digits(numbers, bits, signed).astype(np.int64)
    assert set(np.unique(digits)) <= {-2, -1, 0, 1, 2}
    assert (digits @ 4 ** np.arange(digits.shape[1]) == numbers).all()
    assert (digit_counts(numbers, bits, signed) == np.count_nonzero(digits, axis=1)).all()


@pytest.mark.parametrize(("number", "signed"), [(128, True), (-129, True), (256, False), (-1, False)])
def test_numbers_that_are_too_large_have_no_booth_digits(number, signed) -> None:
    with pytest.raises(MappingError, match=r"8 bits, .*signed, hold"):
        booth_digits(np.array([0, number]), 8, signed)


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 6))
@settings(max_examples=20)
def test_rebuilt_rows_are_coefficients_times_the_basis(seed, size, rows) -> None:
    rng = np.random.default_rng(seed)
    coefficients = rng.choice([-1.0, 0.0, 1.0], (rows, size)) * 2.0 ** rng.integers(-7, 4, (rows, size))
    basis = rng.integers(-128, 128, (size, size))
    got, exponent = rebuild(coefficients, basis)
    assert (got * 2.0**exponent == coefficients @ basis).all()


def small_array(**fields):
    return replace(smartdeal(), **{"slices": 3, "lines": 2, "macs": 2, "sums": 4, "engines": 1, **fields})


def by_loops(model, array, data, form):
    """Events of the only matrix of a model for one sample, position by position and row by row, in plain Python."""
    module = next(m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    network = read_network(model, (data[:1],))
    (matrix,) = network.matrices.values()
    ranges = calibrate(model, network, [(data,)])
    vectors, signed = [], []

    def multiply(integer, given_vectors, beyond):
        vectors.extend(given_vectors.tolist())
        signed.append(integer.signed)
        return integer_product(given_vectors, integer.weight, integer.highest_input)

    list(run_in_integers(model, network, integers(network, array, ranges), [(data[:1],)], multiply))
    conv = isinstance(module, nn.Conv2d) and module.kernel_size[1] > 1
    size = module.kernel_size[1] if conv else 3
    rows = [range(low, min(low + size, matrix.rows)) for low in range(0, matrix.rows, size)]
    width = network.calls[0].use.plane[1]
    alone = width == 1
    lines = array.lines * array.macs if alone else array.lines
    of_channel = module.kernel_size[0] if conv else 1
    coefficients = None if isinstance(form, DenseWeights | UniformWeights) else form.coefficients
    events: Counter[str] = Counter()
    at_once = array.sums if not alone else 1
    passes = [
        [top + place for place in range(left, min(left + at_once, width))]
        for top in range(0, len(vectors), width)
        for left in range(0, width, at_once)
    ]
    for first in range(0, matrix.width, array.slices):
        outputs = range(first, min(first + array.slices, matrix.width))
        for positions in passes:
            busy: Counter[tuple[int, int]] = Counter()
            rebuilding: Counter[tuple[int, int]] = Counter()
            read = set()
            for output in outputs:
                group = output // matrix.outputs
                for row, taps in enumerate(rows):
                    events["pairs"] += 1
                    values = [[vectors[p][group * matrix.rows + tap] for tap in taps] for p in positions]
                    nonzero = len(taps) if coefficients is None else np.count_nonzero(coefficients[output, row])
                    no_weights = array.skip_zero_weights and not nonzero
                    if no_weights or (array.skip_zero_inputs and not np.any(values)):
                        continue
                    every = None if array.skip_zero_digits else (array.input_bits + (not signed[0]) + 1) // 2
                    digits = [[every or digits_of(v, array.input_bits, signed[0]) for v in tap] for tap in values]
                    line = row // (1 if alone else of_channel) % lines
                    step = 1 if alone else array.macs
                    for low in range(0, len(positions), step):
                        some = digits[low : low + step]
                        if array.wait == "tap":
                            busy[output, line] += sum(max(max(1, d[tap]) for d in some) for tap in range(len(taps)))
                        else:
                            busy[output, line] += max(sum(max(1, d) for d in mac) for mac in some)
                    events["digits"] += sum(map(sum, digits))
                    events["weight_bits"] += nonzero * (8 if coefficients is None else form.coefficient_bits)
                    read.add((group, row))
                    events["registers"] += len(taps)
                    if coefficients is not None and nonzero:
                        events["rebuilt"] += 1
                        rebuilding[output, line] += nonzero
                        events["shift_adds"] += nonzero * size
                        events["registers"] += nonzero * size
            for _, row in read:
                many = len(positions) * len(rows[row])
                if conv:
                    stride, dilation = module.stride[1], module.dilation[1]
                    many = min(many, (len(positions) - 1) * stride + (size - 1) * dilation + 1)
                events["input_reads"] += many
            events["cycles"] += max(
                max((busy[key], math.ceil(rebuilding[key] / array.engines))) for key in [(-1, -1), *busy]
            )
    events["passes"] = len(passes)
    return events


def digits_of(value, bits, signed):
    """Booth digits that are not zero, pair of bits by pair of bits; Python's integers have signs without end."""
    before = many = 0
    for place in range(0, bits + (not signed), 2):
        low, high = value >> place & 1, value >> place + 1 & 1
        many += low + before - 2 * high != 0
        before = high
    return many


LAYERS = [
    (nn.Conv2d(3, 7, 3, padding=1), (3, 5, 6)),
    (nn.Conv2d(2, 4, (2, 3), stride=2, dilation=(1, 2)), (2, 9, 11)),
    (nn.Conv2d(4, 6, 3, padding=1, groups=2), (4, 4, 5)),
    (nn.Conv2d(4, 4, 3, groups=4), (4, 5, 5)),
    (nn.Conv2d(5, 4, 1, stride=2), (5, 5, 6)),
    (nn.Conv2d(2, 4, (4, 1)), (2, 6, 5)),
    (nn.Linear(13, 8), (13,)),
    (nn.Linear(7, 5), (6, 7)),
]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("form", ["dense", "decomposed"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"wait": "row", "engines": 4},
        {"skip_zero_inputs": False, "macs": 3},
        {"skip_zero_weights": False},
        {"skip_zero_digits": False},
    ],
    ids=["tap", "row", "all", "zero weights", "zero digits"],
)
def test_counts_are_those_of_the_loops(layer, form, fields) -> None:
    module, shape = layer
    generator = torch.Generator().manual_seed(1)
    data = torch.randn(2, *shape, generator=generator)
    kept = torch.rand(data.shape[:-1], generator=generator) < 0.6  # other rows of the input are zero
    data = (data.abs() if form == "dense" else data) * kept[..., None]
    model, array = nn.Sequential(module), small_array(**fields)
    weights = decompositions(model, data[:1])["0"] if form == "decomposed" else DenseWeights()
    cost = mac_array_cost(model, array, data, {"0": weights}, samples=1)
    counts, expected = cost.layers[0].counts, by_loops(model, array, data, weights)
    width, outputs_bits = cost.layers[0].groups * cost.layers[0].outputs, 8 * cost.layers[0].positions
    assert counts.passes == expected["passes"]
    assert counts.compute_cycles == expected["cycles"]
    assert counts.digits == expected["digits"]
    assert counts.shift_adds == expected["shift_adds"]
    assert counts.rebuilt == expected["rebuilt"]
    assert counts.registers == expected["registers"]
    assert counts.input_buffer_bits == 8 * (data[0].numel() + expected["input_reads"])
    assert counts.output_buffer_bits == 2 * width * outputs_bits
    weight_numbers = module.weight.numel()
    if form == "dense":
        stored = 8 * weight_numbers + 32 * width
        assert counts.weight_buffer_bits == stored + 32 * width + expected["weight_bits"]
    else:
        stored = decomposed_bits(weights)
        again = weights.basis_bits_total + weights.index_bits_total * counts.passes
        assert counts.weight_buffer_bits == stored + again + expected["weight_bits"]
        if array.skip_zero_weights:
            assert counts.comparisons == expected["pairs"]
    assert counts.dram_weight_bits == pytest.approx(stored)
    assert counts.dram_input_bits == 8 * data[0].numel()
    assert counts.dram_output_bits == width * outputs_bits
    assert counts.dram_cycles == pytest.approx((stored + 8 * data[0].numel() + width * outputs_bits) / 128)


def test_dense_weights_are_decomposed_ones_without_zeros() -> None:
    model, data = nn.Sequential(nn.Conv2d(3, 7, 3), nn.ReLU()), torch.rand(2, 3, 8, 8)
    array = small_array(engines=1000)  # rebuilding never takes longer
    full = decompositions(model, data[:1], nonzero=1, rows=1)
    dense, _, decomposed = compare(model, array, data, full)
    for name in ("compute_cycles", "digits", "input_buffer_bits", "line_adds", "passes"):
        assert getattr(dense.layers[0].counts, name) == getattr(decomposed.layers[0].counts, name)


def test_more_zero_rows_never_cost_more() -> None:
    model, data = LeNet5(), torch.rand(2, 1, 28, 28)
    weights = decompositions(model, data[:1], rows=1)
    rng = np.random.default_rng(0)
    before = None
    for _ in range(4):
        cost = mac_array_cost(model, smartdeal(), data, weights, samples=1)
        if before is not None:
            assert cost.cycles <= before.cycles
            assert all(cost.by_component()[name] <= pj for name, pj in before.by_component().items())
            assert cost.energy_pj < before.energy_pj
        before = cost
        weights = {
            name: replace(w, coefficients=w.coefficients * (rng.random(w.coefficients.shape[:2]) < 0.7)[..., None])
            for name, w in weights.items()
        }


@pytest.mark.parametrize("model", [LeNet5(), ResNet20(width=4), LSTMClassifier(hidden=20)])
def test_energy_adds_up_and_equal_bytes_are_equal(model) -> None:
    data = torch.rand(2, 1, 28, 28)
    weights = decompositions(model, data[:1])
    dense, uniform, decomposed = compare(model, smartdeal(), data, weights, samples=1)
    assert uniform.weight_bits == pytest.approx(decomposed.weight_bits)
    for of_uniform, of_decomposed in zip(uniform.layers, decomposed.layers, strict=True):
        assert of_uniform.weight_bits == pytest.approx(of_decomposed.weight_bits)
        assert of_uniform.counts.dram_weight_bits == pytest.approx(of_decomposed.counts.dram_weight_bits)
    for cost in (dense, uniform, decomposed):
        assert sum(cost.by_component().values()) == pytest.approx(cost.energy_pj)
        assert sum(cost.by_layer().values()) == pytest.approx(cost.energy_pj)
        assert 0 < cost.utilisation < 1
        assert cost.macs == sum(layer.macs for layer in dense.layers)
        assert cost.to_dict()["total_pj"] == cost.energy_pj
    assert dense.by_component()["MACs"] == uniform.by_component()["MACs"] > decomposed.by_component()["MACs"]


def test_what_does_not_fit_of_weights_is_fetched_in_every_pass() -> None:
    model, data = nn.Sequential(nn.Conv2d(2, 5, 3)), torch.rand(1, 2, 6, 7)
    array = small_array(weight_buffer=2 * (3 * 18 + 12))  # half of it holds three outputs' weights and scales
    fits = mac_array_cost(model, array, data).layers[0].counts
    assert fits.dram_weight_bits == 8 * 90 + 32 * 5
    tight = mac_array_cost(model, replace(array, weight_buffer=array.weight_buffer - 1), data).layers[0].counts
    # Half a byte too much, in two passes for each of four rows; the second round, of two outputs, fits.
    assert tight.passes == 8
    assert tight.dram_weight_bits == fits.dram_weight_bits + 7 * 4


def test_maps_that_do_not_fit_go_out_and_in_once_for_each_round() -> None:
    model, data = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 5, 1)), torch.rand(1, 1, 4, 4)
    fits = mac_array_cost(model, small_array(input_buffer=2 * 80), data)
    assert [layer.counts.dram_input_bits for layer in fits.layers] == [8 * 16, 0]
    assert [layer.counts.dram_output_bits for layer in fits.layers] == [0, 8 * 80]
    tight = mac_array_cost(model, small_array(input_buffer=2 * 63), data)
    assert [layer.counts.dram_input_bits for layer in tight.layers] == [8 * 16, 8 * 64 * 2]
    assert [layer.counts.dram_output_bits for layer in tight.layers] == [8 * 64, 8 * 80]


def test_a_residual_sum_waits_in_dram_where_three_maps_do_not_fit() -> None:
    model, data = ResNet20(width=4), torch.rand(1, 1, 28, 28)
    assert mac_array_cost(model, smartdeal(), data, samples=1).waiting_bits == 0
    cost = mac_array_cost(model, replace(smartdeal(), input_buffer=3 * 4 * 28 * 28 - 1), data, samples=1)
    assert cost.waiting_bits == 3 * 2 * 8 * 4 * 28 * 28  # the first stage's three sums
    assert sum(cost.by_component().values()) == pytest.approx(cost.energy_pj)


def test_states_of_an_lstm_need_all_weights_at_every_step() -> None:
    model, data = LSTMClassifier(hidden=20), torch.rand(1, 1, 28, 28)
    array = replace(smartdeal(), weight_buffer=2 * (80 * 20 + 80 * 4))
    states = mac_array_cost(model, array, data).layers[1]
    assert (states.name, states.counts.dram_weight_bits) == ("lstm.weight_hh_l0", 8 * (80 * 20 + 80 * 4))
    tight = mac_array_cost(model, replace(array, weight_buffer=array.weight_buffer - 1), data).layers[1]
    assert tight.counts.dram_weight_bits == states.counts.dram_weight_bits + 27 * 4


def test_several_bases_of_an_output_come_in_every_pass() -> None:
    model, data = nn.Sequential(nn.Conv2d(1, 2, 3)), torch.rand(1, 1, 5, 5)
    coefficients = np.ones((2, 3, 3), np.float32)
    one, many = (
        mac_array_cost(model, smartdeal(), data, {"0": made(coefficients, pieces)}).layers[0].counts
        for pieces in (2, 4)
    )
    assert one.passes == 3
    fetched = 18 * 4 + 18  # coefficients and their index
    assert one.weight_buffer_bits == fetched + 2 * 72 + 3 * fetched + 2 * 72
    assert many.weight_buffer_bits == fetched + 4 * 72 + 3 * (fetched + 4 * 72)


def test_energy_of_other_widths_is_that_of_the_table_at_8_bits() -> None:
    assert mac_energy_pj(8, 8) == pytest.approx(smartdeal().mac_pj)
    assert mac_energy_pj(4, 8) < mac_energy_pj(8, 8) < mac_energy_pj(8, 16) < mac_energy_pj(32, 32)


def test_helpers_name_every_matrix() -> None:
    network = read_network(LeNet5(), (torch.rand(1, 1, 28, 28),))
    assert list(dense_weights(network, 4)) == list(network.matrices)
    full = decompositions(LeNet5(), torch.rand(1, 1, 28, 28))
    bits = equal_byte_weights(network, {"fc1": full["fc1"]})
    assert list(bits) == ["fc1"]
    assert bits["fc1"].bits * 400 * 120 == pytest.approx(decomposed_bits(full["fc1"]))


def test_weights_that_fit_nothing_are_refused_by_name() -> None:
    model, data, array = nn.Sequential(nn.Linear(6, 2)), torch.rand(1, 6), smartdeal()
    ones = np.ones((2, 2, 3), np.float32)
    with pytest.raises(MappingError, match=r"fc: is no matrix of the network, whose are 0"):
        mac_array_cost(model, array, data, {"fc": DenseWeights()})
    with pytest.raises(MappingError, match=r"0: expected coefficients .* of \(2, 2, 3\), got \(2, 3, 3\)"):
        mac_array_cost(model, array, data, {"0": made(np.ones((2, 3, 3), np.float32))})
    for wrong in (3.0, np.nan, np.inf):
        with pytest.raises(MappingError, match="0: has coefficients that are neither 0 nor a power of two"):
            mac_array_cost(model, array, data, {"0": made(ones * wrong)})
    with pytest.raises(MappingError, match="0: expected 1 to 16 bits of a coefficient"):
        mac_array_cost(model, array, data, {"0": replace(made(ones), coefficient_bits=0)})
    with pytest.raises(MappingError, match="0: has fewer than 0 bits"):
        mac_array_cost(model, array, data, {"0": replace(made(ones), index_bits_total=-1)})
    with pytest.raises(MappingError, match="data: expected"):
        mac_array_cost(model, array, data[:0])
    with pytest.raises(MappingError, match="samples: must be at least 1"):
        mac_array_cost(model, array, data, samples=0)
    with pytest.raises(MappingError, match="bits: must be"):
        DenseWeights(0)
    with pytest.raises(MappingError, match="bits: must be"):
        UniformWeights(0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"slices": 0}, "slices: must be at least 1"),
        ({"input_bits": 1}, "input_bits: must be from 2 to 16"),
        ({"dram_pj": -1}, "dram_pj: must be at least 0"),
        ({"mac_pj": float("inf")}, "mac_pj: must be at least 0, got inf"),
        ({"clock_ghz": 0}, "clock_ghz: must be above 0"),
        ({"wait": "never"}, "wait: expected one of tap, row"),
        ({"output_buffer": 100}, "output_buffer: a pass finishes 64 x 32 outputs, 2,048 bytes, got 100"),
    ],
)
def test_an_array_that_cannot_be_is_refused(fields, message) -> None:
    with pytest.raises(ChipError, match=message):
        replace(smartdeal(), **fields)
