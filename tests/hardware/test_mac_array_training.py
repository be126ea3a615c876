"""Does a step of training store and spend what a two-layer network needs by hand?"""

import numpy as np
import pytest
import torch
from tests.hardware.made_decompositions import decompositions, made
from torch import nn

from bale.errors import MappingError
from bale.hardware.mac_array import SCHEMES, mac_energy_pj, smartdeal, training_cost
from bale.models import LeNet5, LSTMClassifier, ResNet20

BATCH = 5


def two_layers():
    """6 -> 4 -> 2, of which 3 + 2 coefficients in 2 + 1 rows are not zero."""
    first, second = np.zeros((4, 2, 3), np.float32), np.zeros((2, 2, 3), np.float32)
    first[0, 0, 0], first[0, 0, 2], first[3, 1, 1], second[1, 0, 0], second[1, 0, 1] = 1, -0.5, 2, 1, 4
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    return model, torch.rand(1, 6), {"0": made(first), "2": made(second)}


def costs(model, data, weights, **options):
    return {cost.scheme: cost for cost in training_cost(model, smartdeal(), data, weights, **options)}


def test_tensors_of_two_layers_by_hand() -> None:
    found = costs(*two_layers(), batch=BATCH)
    weights, inputs = 6 * 4 + 4 * 2, BATCH * (6 + 4)
    for scheme, moments, each in (
        ("float32, momentum", 1, 4),
        ("float32, Adam", 2, 4),
        ("8 bit, momentum", 1, 1),
    ):
        assert found[scheme].by_kind() == {
            "weights": each * weights,
            "gradients": each * weights,
            "optimiser": each * moments * weights,
            "activations": each * inputs,
        }
    smart = found["SmartDeal"]
    bases, index = (4 + 2) * 9, 4 * 6 + 2 * 6
    assert smart.by_kind() == {
        "weights": (5 * 4 + index) / 8 + bases,
        "gradients": 5 + bases,
        "optimiser": 5 + bases,  # a counter of 8 bits, a moment of 8 bits
        "activations": inputs,
    }
    assert [tensor.name for tensor in smart.tensors if tensor.layer == "2"] == [
        "coefficients",
        "index",
        "gradients of coefficients",
        "counters of buckets",
        "bases",
        "gradients of bases",
        "moment 1 of bases",
        "inputs",
    ]


def test_energy_of_two_layers_by_hand() -> None:
    found, array = costs(*two_layers(), batch=BATCH), smartdeal()
    dense = found["float32, momentum"]
    one = mac_energy_pj(32, 32)
    parts = dense.energy_pj
    assert parts["forward"] == parts["backward to weights"] == pytest.approx(32 * BATCH * one)
    assert parts["backward to inputs"] == pytest.approx(8 * BATCH * one)  # the first layer's are nobody's
    assert parts["update"] == pytest.approx(32 * 2 * one)
    moved = 4 * (32 * (4 + 2 + 2) + 2 * BATCH * 10)  # bytes
    assert parts["DRAM"] == pytest.approx(moved * array.dram_pj)
    # 4 bytes each: a weight for every MAC forward and backward, and an error; results, in and out; what DRAM moves
    small = (32 + 8 + 32) * BATCH + 2 * BATCH * (4 + 2 + 4)
    # inputs serve 4 outputs, then 2: input and error of gradients and outputs, errors of inputs
    large = (24 * 2 / 4 + (8 * 2 + 8) / 2) * BATCH
    expected = (4 * small + moved) * array.buffer_pj + 4 * large * array.input_buffer_pj
    assert parts["buffers"] == pytest.approx(expected)
    smart, one = found["SmartDeal"].energy_pj, mac_energy_pj(8, 8)
    assert smart["forward"] == smart["backward to weights"] == pytest.approx((2 * 3 + 3) * BATCH * one)
    assert smart["backward to inputs"] == pytest.approx(3 * BATCH * one)
    assert smart["rebuild engines"] == pytest.approx((3 + 2 * 2) * 3 * BATCH * array.add_pj)
    assert smart["gradients of Ce and B"] == pytest.approx(5 * 3 * (one + array.add_pj))
    assert smart["update"] == pytest.approx(54 * 2 * one + 5 * array.add_pj)


@pytest.mark.parametrize("model", [LeNet5(), ResNet20(width=4), LSTMClassifier(hidden=20)])
def test_parts_add_up_and_fewer_bits_never_cost_more(model) -> None:
    data = torch.rand(1, 1, 28, 28)
    found = costs(model, data, decompositions(model, data), batch=2)
    for cost in found.values():
        assert sum(tensor.total_bits for tensor in cost.tensors) / 8 == pytest.approx(cost.bytes)
        assert cost.to_dict()["total_pj"] == pytest.approx(sum(cost.energy_pj.values()))
    order = [found[scheme.name] for scheme in SCHEMES]
    assert order[1].bytes > order[0].bytes > order[2].bytes
    assert order[1].total_pj > order[0].total_pj > order[2].total_pj


def test_norms_and_gates_keep_what_they_need() -> None:
    data = torch.rand(1, 1, 28, 28)
    norm = costs(ResNet20(width=4), data, {}, batch=1)["8 bit, momentum"]
    assert sum(tensor.numbers for tensor in norm.tensors if tensor.layer == "norm") == 4 * 28 * 28
    gates = costs(LSTMClassifier(hidden=20), data, {}, batch=3)["8 bit, momentum"]
    assert [tensor.numbers for tensor in gates.tensors if tensor.name == "gates"] == [3 * 28 * 5 * 20]


def test_matrices_that_are_not_decomposed_train_densely_in_8_bits() -> None:
    model, data, weights = two_layers()
    found = costs(model, data, {"0": weights["0"]}, batch=1)["SmartDeal"]
    (dense,) = (tensor for tensor in found.tensors if tensor.layer == "2" and tensor.kind == "weights")
    assert (dense.name, dense.numbers, dense.bits) == ("weights", 8, 8)


def test_wrong_arguments_are_refused_by_name() -> None:
    model, data, weights = two_layers()
    with pytest.raises(MappingError, match="batch: must be at least 1, got 0"):
        training_cost(model, smartdeal(), data, weights, batch=0)
    with pytest.raises(MappingError, match="1: is no matrix of the network"):
        training_cost(model, smartdeal(), data, {"1": weights["0"]})
