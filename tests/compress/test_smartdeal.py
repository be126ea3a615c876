"""Are coefficients powers of two of few bits, is the split a good one, and are its file and its gradients exact?"""

import json
import zlib
from copy import deepcopy
from hashlib import sha256
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.compress.made import convolutional
from torch import Tensor, nn

import bale
from bale.compress import (
    ADCAwareConfig,
    BlockCirculantConfig,
    MagnitudeConfig,
    SmartDealConfig,
    StructuredConfig,
    UniformQuantConfig,
    bake_,
    compress_,
    config_from_dict,
    decompositions,
    pack,
    parse_config,
    save_packed,
    stored_coefficients,
    unpack,
)
from bale.compress.code import Code
from bale.compress.decompose import ROUNDS, nearest, rate_distortion
from bale.compress.layout import Pieces
from bale.compress.packing import pack_code
from bale.compress.powers import (
    PowerOfTwoQuantizer,
    basis_multiples,
    best_highest,
    eight_bits,
    nearest_powers,
    powers_up_to,
)
from bale.compress.weights import coded_weights
from bale.errors import CompressionError
from bale.models import LeNet5

BITS = st.sampled_from([3, 4])
SHAPES = st.one_of(
    st.tuples(st.integers(1, 9), st.integers(1, 30)),  # Linear
    st.tuples(st.integers(1, 9), st.integers(1, 5), st.integers(1, 5)),  # Conv1d
    st.tuples(st.integers(1, 9), st.integers(1, 5), st.integers(1, 3), st.integers(1, 5)),  # Conv2d
)


def drawn(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def code_of(layer: nn.Module, **fields) -> Code:
    """A layer of one weight, compressed."""
    compress_(layer, SmartDealConfig(**fields))
    return coded_weights(layer)[0].code


def within(numbers: Tensor, highest: int, bits: int) -> bool:
    """Are all of them 0 or of the set?"""
    allowed = [0.0, *(2.0**p for p in range(highest - 2 ** (bits - 1) + 1, highest + 1))]
    return bool(torch.isin(numbers.abs(), torch.tensor(allowed)).all())


# ---- pieces


@given(SHAPES, st.integers(1, 40), st.integers(0, 1 << 20))
def test_pieces_hold_a_weight_once(shape, rows, seed) -> None:
    layout, weight = Pieces(shape, rows), drawn(shape, seed)
    values = layout.project(weight)
    assert values.shape == layout.values_shape and values.shape[1] <= rows
    assert torch.equal(layout.expand(values), weight)
    there = layout.project(torch.ones(shape))
    others = drawn(layout.values_shape, seed + 1)
    assert torch.equal(layout.project(layout.expand(others)), torch.where(there > 0, others, 0.0))
    assert int(there.sum()) == weight.numel()
    by_output = layout.by_output(values)
    assert by_output.shape == (shape[0], layout.output_rows, layout.size)
    assert torch.equal(layout.by_piece(by_output), values)


@pytest.mark.parametrize(
    ("shape", "values_shape"),
    [
        ((64, 16, 3, 3), (16, 192, 3)),  # 48 rows an output, 4 of them a piece
        ((10, 100, 3, 3), (20, 150, 3)),  # 300 rows, cut in two
        ((6, 1, 5, 5), (1, 30, 5)),
        ((120, 400), (120, 134, 3)),
        ((8, 64, 1, 1), (1, 176, 3)),
        ((8, 4, 3, 1), (1, 32, 3)),  # a kernel of width 1 is as none
    ],
)
def test_pieces_are_those_of_the_authors(shape, values_shape) -> None:
    assert Pieces(shape).values_shape == values_shape


# ---- grids


@given(BITS, st.integers(-30, 20), st.integers(0, 1 << 20))
def test_coefficients_are_the_nearest_of_a_bounded_set(bits, highest, seed) -> None:
    values = drawn((40,), seed) * 2.0**highest
    powers = powers_up_to(highest, bits)
    assert powers.tolist() == [2.0**p for p in range(highest - 2 ** (bits - 1) + 1, highest + 1)]
    got = nearest_powers(values, highest, bits)
    assert within(got, highest, bits)
    grid = torch.cat((-powers, torch.zeros(1), powers))
    assert torch.equal((got - values).abs(), (grid - values[:, None]).abs().amin(1))
    quantizer = PowerOfTwoQuantizer(highest, bits)
    assert torch.equal(quantizer(values), got)
    codes = quantizer.codes(values)
    assert torch.equal(torch.cat((torch.zeros(1), powers))[codes.abs()] * codes.sign(), got)


@given(st.integers(-20, 20), BITS, st.integers(0, 1 << 20))
def test_the_set_is_that_of_least_error(scale, bits, seed) -> None:
    values = drawn((50,), seed) * 2.0**scale

    def error(highest: int) -> float:
        return float((nearest_powers(values, highest, bits) - values).square().sum())

    assert error(best_highest(values, bits)) <= min(error(highest) for highest in range(scale - 6, scale + 7))


@given(st.integers(-60, 60), st.integers(1, 5), st.integers(0, 1 << 20))
def test_a_basis_of_8_bits_stays_what_it_is(scale, size, seed) -> None:
    basis = drawn((3, size, size), seed) * 2.0**scale
    rounded = eight_bits(basis)
    multiples, step = basis_multiples(basis)
    assert float(multiples.abs().max()) <= 127 and bool((step.frexp().mantissa == 0.5).all())
    assert torch.equal(multiples * step, rounded) and torch.equal(eight_bits(rounded), rounded)
    assert bool(((rounded - basis).abs() <= basis.abs().amax((1, 2), keepdim=True) / 127).all())


# ---- the two algorithms


@given(st.integers(1, 4), st.integers(1, 30), st.integers(1, 5), BITS, st.floats(0, 0.3), st.integers(0, 1 << 20))
def test_no_round_increases_the_objective(many, rows, size, bits, rate, seed) -> None:
    pieces = drawn((many, rows, size), seed) * 10.0 ** (seed % 5 - 2)
    pieces[drawn((many, rows), seed + 1) > 1] = 0
    price = rate * float(pieces.square().mean())
    split = rate_distortion(pieces, bits, price)
    told = split.objectives
    assert len(told) == ROUNDS + 1
    assert all(after <= before * (1 + 1e-12) for before, after in pairwise(told))
    assert within(split.coefficients, split.highest, bits)
    assert torch.equal(eight_bits(split.basis), split.basis)
    kept = split.coefficients != 0
    off = float((split.coefficients @ split.basis - pieces).double().square().sum())
    spent = price * (bits * int(kept.sum()) + size * int(kept.any(-1).sum()))
    assert off + spent == pytest.approx(told[-1], rel=1e-4, abs=1e-9)


@given(st.integers(1, 3), st.integers(1, 20), st.integers(1, 4), BITS, st.integers(0, 1 << 20))
def test_the_authors_algorithm_stays_within_the_set(many, rows, size, bits, seed) -> None:
    pieces = drawn((many, rows, size), seed)
    split = nearest(pieces, bits, threshold=0.3, vectors=0.8)
    assert within(split.coefficients, split.highest, bits)
    assert torch.equal(eight_bits(split.basis), split.basis)
    thin = pieces.norm(dim=-1) < 0.8
    assert not split.coefficients[thin].any()


def test_what_is_of_this_form_is_found() -> None:
    """Powers of two with the unit basis are their own decomposition, by either algorithm."""
    generator = torch.Generator().manual_seed(3)
    powers = 2.0 ** torch.randint(-3, 1, (2, 60, 3), generator=generator)
    weights = powers * (torch.randint(0, 3, powers.shape, generator=generator) - 1)
    for split in (rate_distortion(weights, 3, 0.0), nearest(weights, 3, 1e-3)):
        torch.testing.assert_close(split.coefficients @ split.basis, weights, rtol=0, atol=1e-2)


def test_a_larger_rate_is_fewer_bits_and_more_error() -> None:
    sizes, errors = [], []
    for rate in (0.0, 0.05, 0.2, 1.0):
        torch.manual_seed(0)
        (line,) = compress_(nn.Linear(60, 40), SmartDealConfig(rate)).weights
        sizes.append(line.packed_bytes)
        errors.append(line.error)
    assert sizes == sorted(set(sizes), reverse=True) and errors == sorted(set(errors))


def test_a_rate_is_that_of_the_whole_network_or_of_a_layer() -> None:
    def densities(**fields) -> list[float]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(60, 60), nn.Linear(60, 60))
        with torch.no_grad():
            model[1].weight *= 0.5
        return [line.facts["density"] for line in compress_(model, SmartDealConfig(0.1, **fields)).weights]

    large, small = densities()
    assert small < 0.7 * large
    large, small = densities(relative_to="layer")
    assert small == pytest.approx(large, abs=0.05)


def test_a_layer_that_is_small_beside_others_does_not_vanish() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 30), nn.Linear(30, 30))
    with torch.no_grad():
        model[1].weight *= 1e-3
    report = compress_(model, SmartDealConfig(0.1))
    assert all(line.facts["density"] > 0.3 for line in report.weights)


# ---- a code


def test_gradients_pass_straight_through() -> None:
    torch.manual_seed(0)
    code = code_of(nn.Linear(7, 5))
    with torch.no_grad():  # as after some training: beyond the set, and near 0
        code.values.mul_(torch.rand_like(code.values) * 3)
        assert code.basis is not None and code.mask is not None
        code.basis.add_(0.1 * torch.randn_like(code.basis))
    sent = torch.randn(5, 7)
    of_values, of_basis = torch.autograd.grad(code(), [code.values, code.basis], sent)
    layout = code.layout
    assert isinstance(layout, Pieces)
    sent_pieces = layout.project(sent)
    basis = eight_bits(code.basis.detach())
    torch.testing.assert_close(of_values, torch.where(code.mask, sent_pieces @ basis.mT, 0.0))
    torch.testing.assert_close(of_basis, code.numbers().detach().mT @ sent_pieces)


@pytest.mark.parametrize(("trained", "moving"), [("all", ["values", "basis"]), ("basis", ["basis"]), ("none", [])])
def test_what_is_trained(trained, moving) -> None:
    torch.manual_seed(0)
    model = LeNet5(size=16)
    compress_(model, SmartDealConfig(trained=trained))
    code = coded_weights(model)[0].code
    assert [name for name, parameter in code.named_parameters() if parameter.requires_grad] == moving
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(2, 1, 16, 16)).square().sum().backward()
    before = deepcopy(code.state_dict())
    optimizer.step()
    assert [name for name, now in code.state_dict().items() if not torch.equal(now, before[name])] == moving
    assert bake_(model).conv1.weight.requires_grad == (trained != "none")


LAYERS = [
    nn.Linear(9, 4),
    nn.Conv1d(4, 6, 3, groups=2),
    nn.Conv2d(4, 6, (3, 2)),
    nn.Conv2d(8, 8, 3, groups=8),
    nn.Conv2d(6, 5, 1),
    nn.LSTM(5, 4, bidirectional=True),
    nn.GRU(5, 4),
    nn.LSTMCell(5, 4),
    nn.GRUCell(5, 4),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("choice", ["rate-distortion", "nearest"])
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_every_layer_and_type_comes_back_exactly(layer, choice, dtype) -> None:
    torch.manual_seed(0)
    layer = deepcopy(layer).to(dtype)
    names = list(layer.state_dict())
    report = compress_(layer, SmartDealConfig(0.02, choice=choice, rows=7))
    assert not report.skipped and all(line.error < 0.9 for line in report.weights)
    content = pack(layer, report.configs)
    described = decompositions(content)
    for weight in coded_weights(layer):
        of = stored_coefficients(weight.code)
        assert np.array_equal(of.coefficients, described[weight.key].coefficients)
        assert np.count_nonzero(of.coefficients) == weight.code.kept
    other = deepcopy(layer)
    other.load_state_dict(layer.state_dict())
    assert pack(other, report.configs) == content
    state = bake_(layer).state_dict()
    assert list(state) == names
    assert all(torch.equal(tensor, unpack(content).state[name]) for name, tensor in state.items())


@pytest.mark.parametrize(("dtype", "small"), [(torch.float16, 2.0**-21), (torch.float32, 1e-38)])
def test_powers_that_a_type_does_not_hold_are_refused(dtype, small) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(9, 4).to(dtype)
    with torch.no_grad():
        layer.weight.mul_(small)
    named = str(dtype).removeprefix("torch.")
    with pytest.raises(CompressionError, match=rf"needs powers 2\^-\d+ to 2\^-\d+, which {named} does not hold"):
        compress_(layer, SmartDealConfig())


def test_a_kernel_beyond_exact_sums_is_refused() -> None:
    with pytest.raises(CompressionError, match="has a kernel of width 33; bases of up to 32 are exact"):
        compress_(nn.Conv1d(2, 2, 33), SmartDealConfig())


# ---- the file


def test_a_decomposition_is_what_an_accelerator_meets(tmp_path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(20, 4))
    plain = model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight[1:4] *= 1e-4
    compress_(model, SmartDealConfig(0.05, bits=4), lambda module, name: name == "0")
    save_packed(model, tmp_path / "net.bale")
    of = decompositions(tmp_path / "net.bale")
    assert list(of) == ["0.weight"]
    found = of["0.weight"]
    assert found.coefficients.shape == (5, 9, 3) and found.coefficients.dtype == np.float32
    assert (found.pieces, found.basis_size, found.coefficient_bits, found.basis_bits_total) == (1, 3, 4, 80)
    rows = found.coefficients.reshape(-1, 3)
    kept = int((rows != 0).any(1).sum())
    assert kept < 20 and found.index_bits_total == 45 + 3 * kept  # a bitmap of rows pays here
    code = model[0].code("weight")  # type: ignore[union-attr]
    assert code.basis is not None
    rebuilt = found.coefficients @ eight_bits(code.basis).detach().numpy()[0]
    assert np.array_equal(rebuilt.reshape(plain.shape), model[0].weight.detach().numpy())
    size = -(-45 // 8) + -(-3 * kept // 8) + 10 + -(-4 * np.count_nonzero(rows) // 8)
    assert len(pack_code(code)[1]) == size


def test_only_what_was_decomposed_has_coefficients() -> None:
    layer = nn.Linear(4, 4)
    assert decompositions(pack(layer)) == {}
    compress_(layer, UniformQuantConfig(4))
    assert decompositions(pack(layer)) == {}
    with pytest.raises(CompressionError, match="is no weight of coefficients and bases"):
        stored_coefficients(coded_weights(layer)[0].code)


def changed_header(content: bytes, **changes) -> bytes:
    """The file with other facts of its first entry."""
    length = int.from_bytes(content[5:9], "little")
    header = json.loads(zlib.decompress(content[9 : 9 + length]))
    entry = header["entries"]["weight"]
    for name, value in changes.items():
        (entry["layout"] if name in entry["layout"] else entry)[name] = value
    written = zlib.compress(json.dumps(header).encode())
    whole = content[:5] + len(written).to_bytes(4, "little") + written + content[9 + length : -8]
    return whole + sha256(whole).digest()[:8]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"bits": 5}, "has coefficients of 5 bits; expected 3 or 4"),
        ({"highest": 400}, r"has powers up to 2\^400, beyond float32"),
        ({"highest": "x"}, "has powers up to"),
        ({"kept": 3}, r"says kept 3, and has \d+"),
        ({"kept": -1}, "says kept -1"),
        ({"pieces": 0}, "has pieces of 0 rows"),
        ({"pieces": 1 << 40, "shape": [1 << 40, 9]}, "ends .* bytes early"),
        ({"shape": [0, 9]}, r"has a weight of shape \[0, 9\]"),
        ({"shape": 7}, "not iterable"),
        ({"dtype": "nothing"}, "names no type of numbers"),
        ({"kept_rows": 2}, "kept_rows"),
    ],
)
def test_damaged_headers_are_named(changes, problem) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(9, 6)
    compress_(layer, SmartDealConfig())
    content = pack(layer)
    assert torch.equal(unpack(changed_header(content)).state["weight"], layer.weight)
    for read in (unpack, decompositions):
        with pytest.raises(CompressionError, match=f"packed file: is damaged: .*{problem}"):
            read(changed_header(content, **changes))


# ---- with other methods, and without outputs


@pytest.mark.parametrize(
    "first", [BlockCirculantConfig(2), MagnitudeConfig(0.5, None), UniformQuantConfig(4), ADCAwareConfig()]
)
def test_it_comes_after_no_other_method_of_weights(first) -> None:
    layer = nn.Linear(8, 8)
    compress_(layer, first)
    with pytest.raises(CompressionError, match=r"smartdeal (is for weights that are stored as|does both by)"):
        compress_(layer, SmartDealConfig())


@pytest.mark.parametrize(
    "second",
    [BlockCirculantConfig(2), MagnitudeConfig(0.5, None), UniformQuantConfig(4), ADCAwareConfig(), SmartDealConfig()],
)
def test_no_other_method_comes_after_it(second) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(8, 8)
    compress_(layer, SmartDealConfig())
    before = layer.weight.detach().clone()
    with pytest.raises(CompressionError, match="is decomposed by smartdeal already; no other method stacks on that"):
        compress_(layer, second)
    assert torch.equal(layer.weight, before)


def test_it_stacks_on_structured_pruning() -> None:
    model = LeNet5()
    compress_(model, StructuredConfig(0.5))
    assert compress_(model, SmartDealConfig()).weights[0].shape == (3, 1, 5, 5)


def test_channels_with_small_scales_go() -> None:
    torch.manual_seed(0)
    model = convolutional()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([1.0, -0.1, 0.8, 0.2, 0.0, 3.0, -2.0, 0.3]))
    report = compress_(model, SmartDealConfig(0.0, channels=0.5))
    silent = model[0].weight.flatten(1).abs().sum(1) == 0
    assert silent.tolist() == [False, True, False, True, True, False, False, True]
    assert report.weights[0].facts["zero_rows"] >= 0.5
    assert not bool((model[3].weight.flatten(1).abs().sum(1) == 0).any())  # no batch norm after it
    model(torch.randn(2, 2, 4, 4)).sum().backward()


def test_channels_of_what_cannot_be_traced_all_stay() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) if x.sum() > 0 else x

    model = Branching()
    compress_(model, SmartDealConfig(0.0, channels=0.5))
    assert bool((model.layer.weight.abs().sum(1) > 0).all())


# ---- the config


def test_configs_go_to_json_and_back() -> None:
    config = SmartDealConfig(0.1, 4, "nearest", vectors=0.2, relative_to="absolute", trained="basis")
    assert config_from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert parse_config("smartdeal:rate=0.1,bits=4,trained=none") == SmartDealConfig(0.1, 4, trained="none")
    assert bale.SmartDealConfig is SmartDealConfig


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"bits": 5}, "smartdeal.bits: must be 3 or 4, got 5"),
        ({"rate": -0.1}, "smartdeal.rate: must be at least 0 and finite"),
        ({"rate": float("inf")}, "smartdeal.rate: must be at least 0 and finite"),
        ({"threshold": float("nan")}, "smartdeal.threshold: must be"),
        ({"rows": 0}, "smartdeal.rows: must be from 1"),
        ({"channels": 0.0}, "smartdeal.channels: must be above 0"),
        ({"choice": "best"}, "smartdeal.choice: must be 'rate-distortion' or 'nearest'"),
        ({"training": "buckets", "trained": "basis"}, 'smartdeal.trained: must be "all" where training is'),
    ],
)
def test_numbers_out_of_range_are_named(fields, problem) -> None:
    with pytest.raises(CompressionError) as error:
        SmartDealConfig(**fields)
    assert problem in str(error.value)
