"""Does SmartDeal's array compute what PyTorch does, and do its figures say what was counted?"""

import json
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.codesign import smartdeal as benchmark
from benchmarks.codesign.networks import Networks
from benchmarks.compression.runs import Amount
from benchmarks.compression.study import Study
from torch import Tensor, nn

from bale.codesign.smartdeal import (
    DENSE_BASELINE,
    UNIFORM_BASELINE,
    dram_pj,
    inference,
    inference_figures,
    on_chip_pj,
    training,
    training_figures,
    wide_macs_figure,
)
from bale.codesign.smartdeal_exact import exactness, rebuilt_matrix, signed_bits
from bale.codesign.smartdeal_mechanisms import (
    DIGITS,
    INPUTS,
    MECHANISMS,
    NONE,
    POWERS,
    REBUILT,
    WEIGHTS,
    mechanism_figures,
    mechanisms,
)
from bale.compress import Decomposition, SmartDealConfig, bake_, compress_, decompositions, pack
from bale.data import FASHION_CLASSES, Images
from bale.errors import MappingError
from bale.hardware.mac_array import SparseRows, mac_array_cost, smartdeal
from bale.hardware.network import read_network
from bale.hardware.quantize import IntegerMatrix
from bale.models import LeNet5, LSTMClassifier


class Odd(nn.Module):
    """Convolutions with groups, strides, dilation and padding that is no zeros, and a matrix that stays dense."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, stride=2, padding=1, padding_mode="reflect")
        self.second = nn.Conv2d(4, 8, 3, padding="same", dilation=2, groups=2, bias=False)
        self.point = nn.Conv2d(8, 5, 1)
        self.fc = nn.Linear(5 * 14 * 14, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x).relu()).relu()
        return self.fc(self.point(x).tanh().flatten(1))


def some_images(many: int = 12) -> Images:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (many, 1, 28, 28), dtype=torch.uint8, generator=generator)
    pixels[:, :, :9] = 0  # rows of zeros
    return Images(pixels, torch.arange(many) % 10, FASHION_CLASSES, "noise")


def decomposed(model: nn.Module, **fields) -> tuple[nn.Module, dict[str, Decomposition]]:
    """The model, compressed and with plain layers, and what its packed file says of it."""
    compress_(model, SmartDealConfig(**{"rate": 0.1, **fields}))
    weights = decompositions(pack(model))
    return bake_(model).eval(), weights


def made(kind: type[nn.Module] = LeNet5, **sizes) -> tuple[nn.Module, nn.Module, dict[str, Decomposition]]:
    torch.manual_seed(0)
    dense = kind(**sizes).eval()
    other = kind(**sizes)
    other.load_state_dict(dense.state_dict())
    return (dense, *decomposed(other))


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [(LeNet5, {}), (LSTMClassifier, {"hidden": 12, "layers": 2}), (Odd, {})],
    ids=["conv", "lstm", "odd"],
)
def test_an_array_with_rebuilt_weights_computes_what_pytorch_does_bit_for_bit(kind, sizes) -> None:
    _, model, weights = made(kind, **sizes)
    images = some_images()
    if kind is Odd:
        del weights["point.weight"]  # is quantised to the array's 8 bits instead
    run = exactness(model, weights, smartdeal(), images[:4], images, at_a_time=5)
    assert (run.equal, run.rebuilt) == (12, run.weights)
    assert run.weights == sum(model.get_parameter(key).numel() for key in weights)
    assert run.accuracy == run.quantised_accuracy
    assert 8 < run.weight_bits <= 16 and run.array_bits == 8
    assert [figure.ours for figure in run.figures()] == [1, 1]


def test_one_wrong_number_of_a_basis_is_noticed() -> None:
    _, model, weights = made()
    form = weights["conv2.weight"]
    bases = form.bases.copy()
    bases[0, 0, 0] ^= 1
    weights["conv2.weight"] = replace(form, bases=bases)
    images = some_images(6)
    run = exactness(model, weights, smartdeal(), images, images)
    assert run.rebuilt < run.weights and run.equal < run.images


def test_a_network_that_is_not_decomposed_is_an_error() -> None:
    with pytest.raises(MappingError, match="weights: nothing is decomposed"):
        exactness(LeNet5(), {}, smartdeal(), some_images(), some_images())


def test_inputs_beyond_calibration_become_the_end_of_their_range_both_ways() -> None:
    _, model, weights = made()
    images = some_images(6)
    dark = Images(images.images // 8, images.labels, images.classes, "dark")
    run = exactness(model, weights, smartdeal(), dark, images)
    assert run.equal == run.images


def test_pieces_with_steps_of_their_own_are_shifted_to_the_least() -> None:
    coefficients = np.array([[[2, 0, 0], [0, 0.5, 0], [0, 0, 0]]], np.float32)
    bases = np.stack([np.full((3, 3), 3), np.full((3, 3), 5)]).astype(np.int8)
    form = Decomposition(coefficients, 2, 4, 160, 9, bases, np.array([-3, 2], np.int8), np.array([[0, 1, 1]]))
    matrix = next(iter(read_network(nn.Linear(8, 1), (torch.zeros(1, 8),)).matrices.values()))
    inputs = IntegerMatrix("Linear", torch.zeros(1, 8, 1), torch.ones(1), 0.5, 8, False)
    built = rebuilt_matrix(matrix, form, inputs)
    assert built.weight.flatten().tolist() == [3, 3, 3, 40, 40, 40, 0, 0] and built.weight_scale.tolist() == [0.25]
    assert signed_bits(built.weight) == 7
    for wrong, said in (
        (replace(form, exponents=np.array([-60, 60], np.int8)), "more than 32 bits"),
        (
            replace(form, coefficients=coefficients[:, :2], piece=form.piece[:, :2]),
            "expected coefficients of 1 outputs",
        ),
    ):
        with pytest.raises(MappingError, match=f"Linear: .*{said}"):
            rebuilt_matrix(matrix, wrong, inputs)


def test_dense_weights_are_those_of_the_dense_network_and_bytes_of_uniform_ones_are_equal() -> None:
    dense, model, weights = made()
    images, array = some_images().pixels(), smartdeal()
    costs = inference(dense, model, weights, array, images, samples=2)
    assert costs.dense.energy_pj == mac_array_cost(dense, array, images, samples=2).energy_pj
    assert costs.uniform.weight_bits == pytest.approx(costs.decomposed.weight_bits)
    assert dram_pj(costs.uniform) == pytest.approx(dram_pj(costs.decomposed))
    figures = {(figure.figure, figure.baseline): figure for figure in inference_figures(costs)}
    assert len(figures) == 9
    energy = figures["energy of an inference", DENSE_BASELINE]
    assert energy.claim == 2.44 and energy.ours == costs.dense.energy_pj / costs.decomposed.energy_pj > 1
    assert [key for key, figure in figures.items() if figure.claim is not None] == [(energy.figure, DENSE_BASELINE)]
    chip = figures["energy of an inference, chip alone", UNIFORM_BASELINE]
    assert chip.ours == on_chip_pj(costs.uniform) / on_chip_pj(costs.decomposed)
    assert all(0.5 < share < 1 for share in energy.conditions["dram_share"].values())
    wide = wide_macs_figure(costs, 12)
    assert wide.ours == pytest.approx(1 + 0.5 * costs.decomposed.by_component()["MACs"] / costs.decomposed.energy_pj)
    json.dumps([dict(figure.conditions) for figure in figures.values()])


def test_mechanisms_added_in_turn_are_the_whole_and_each_changes_only_its_own() -> None:
    _, model, weights = made()
    images, array = some_images().pixels(), smartdeal()
    parts = mechanisms(model, weights, array, images, samples=2)
    whole = parts.whole
    assert tuple(parts.without) == MECHANISMS and tuple(parts.added) == (NONE, *MECHANISMS)
    assert prod(parts.in_turn.values()) == pytest.approx(parts.added[NONE].energy_pj / whole.energy_pj)
    assert all(factor >= 1 for factor in parts.alone.values()) and parts.added[POWERS] is whole

    def counted(cost, what: str) -> float:
        return sum(getattr(layer.counts, what) for layer in cost.layers)

    assert counted(parts.without[REBUILT], "digits") == counted(whole, "digits")
    assert counted(parts.without[REBUILT], "rebuilt") == 0 < counted(whole, "rebuilt")
    assert counted(parts.without[POWERS], "shift_adds") == counted(whole, "shift_adds")
    assert counted(parts.without[POWERS], "dram_weight_bits") > counted(whole, "dram_weight_bits")
    for name in (DIGITS, INPUTS, WEIGHTS):
        assert counted(parts.without[name], "dram_weight_bits") == counted(whole, "dram_weight_bits")
    for name in (DIGITS, WEIGHTS):
        assert counted(parts.without[name], "digits") > counted(whole, "digits")
    assert counted(parts.without[INPUTS], "digits") == counted(whole, "digits")
    *each, together = mechanism_figures(parts)
    assert [figure.figure.removeprefix("energy saved: ") for figure in each] == list(MECHANISMS)
    assert together.ours == pytest.approx(together.conditions["product_in_turn"])
    assert together.conditions["product_of_each_by_itself"] == pytest.approx(prod(figure.ours for figure in each))


def test_rows_that_are_not_zero_are_stored_in_8_bits_and_one_more_says_which() -> None:
    model, data = nn.Sequential(nn.Linear(7, 2)), torch.ones(1, 7)
    used = np.array([[True, False, True], [False, False, False]])
    cost = mac_array_cost(model, smartdeal(), data, {"0": SparseRows(used)})
    (layer,) = cost.layers
    assert layer.weight_bits == (3 + 1) * 8 + 6 + 2 * 32 and layer.form == "sparse rows"
    assert layer.zero_rows == pytest.approx(4 / 6)
    assert layer.counts.digits == 4 * 2  # 255 is 4^4 - 1
    with pytest.raises(MappingError, match=r"0: expected used rows .* of \(2, 3\), got \(3, 2\)"):
        mac_array_cost(model, smartdeal(), data, {"0": SparseRows(used.T)})
    with pytest.raises(MappingError, match="bits: must be from 1 to 16, got 0"):
        SparseRows(used, bits=0)


def test_claims_of_training_stand_beside_float32_and_the_mini_batch_of_training() -> None:
    _, model, weights = made()
    costs = training(model, weights, smartdeal(), some_images().pixels())
    figures = {(figure.figure, figure.baseline): figure for figure in training_figures(costs)}
    assert len(figures) == 13
    claims = {key: figure.claim for key, figure in figures.items() if figure.claim is not None}
    assert claims == {
        ("storage of a training step of 64", "float32, momentum"): 10.56,
        ("energy of a training step of 64", "float32, momentum"): 4.48,
    }
    steps = [figures[f"storage of a training step of {batch}", "float32, momentum"].ours for batch in costs]
    limit = figures["storage of training, without activations", "float32, momentum"].ours
    assert limit > steps[0] > steps[1] > steps[2] > 4, "activations are a fourth, whatever the weights are"
    (alone,) = training(model, weights, smartdeal(), some_images().pixels(), [3]).values()
    assert [figure.claim for figure in training_figures({3: alone}) if figure.claim] == [10.56, 4.48]


def test_the_benchmark_has_all_figures_each_once_and_as_json(tmp_path: Path) -> None:
    images = some_images(64)
    study = Study(images, images, tmp_path, lambda what, step: None)
    networks = Networks(study, Amount(dense_epochs=1, epochs=2, images=64))
    found = list(benchmark.figures(networks, "lenet5", 0))
    keys = [(figure.figure, figure.baseline) for figure, _ in found]
    assert len(set(keys)) == len(keys) == 31
    assert {accuracy for _, accuracy in found} == {networks.compressed("lenet5", benchmark.SMARTDEAL, 0).accuracy}
    json.dumps([{**vars(figure), "conditions": dict(figure.conditions)} for figure, _ in found])
    uniform = [figure for figure, _ in found if figure.baseline == UNIFORM_BASELINE]
    assert all({"uniform_accuracy", "uniform_packed_bytes"} <= figure.conditions.keys() for figure in uniform)
    assert [figure.ours for figure, _ in found if figure.unit == "share"] == [1, 1]
