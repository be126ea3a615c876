"""What a person reads of an array of MACs: all components and matrices, forms and schemes side by side."""

import json

import pytest
import torch
from rich.console import Console
from tests.hardware.made_decompositions import decompositions
from torch import nn

from bale.hardware.mac_array import compare, mac_array_cost, smartdeal, training_cost
from bale.models import LeNet5
from bale.report import mac_array_dict, mac_array_table, training_tensor_table


def printed(renderable, width=100):
    console = Console(width=width)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


@pytest.fixture(scope="module")
def found():
    model, data = LeNet5(), torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    weights = decompositions(model, data[:1])
    return compare(model, smartdeal(), data, weights, samples=1), training_cost(model, smartdeal(), data, weights)


def test_components_matrices_and_schemes_are_there(found) -> None:
    costs, training = found
    lines = printed(mac_array_table(costs, training, [("weights", "made up")], ["random weights"])).splitlines()
    for name in (*costs[0].by_component(), *(layer.name for layer in costs[0].layers), "all"):
        assert any(line.startswith(name) for line in lines), name
    text = " ".join(" ".join(lines).split())
    assert "dense uniform decomposed" in text
    assert "weights made up" in text
    assert "WARNING random weights" in text
    assert "10.56x less storage, 4.48x less energy" in text
    assert "relu 6.51k, max_pool2d 6.30k" in text
    assert "SmartDeal" in printed(training_tensor_table(training))


def test_nothing_is_cut_off_at_80_columns(found) -> None:
    costs, training = found
    wide, narrow = (printed(mac_array_table(costs, training), width) for width in (200, 80))
    assert "…" not in narrow
    assert sorted("".join(wide.split())) == sorted("".join(narrow.split()))


def test_one_form_stands_alone() -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 2)

        def forward(self, x):
            return self.fc(x @ torch.eye(6))

    text = printed(mac_array_table([mac_array_cost(Product(), smartdeal(), torch.rand(1, 6), form="dense")]))
    assert "less than" not in text
    assert "step of training" not in text
    assert "WARNING" in text


def test_the_dict_is_json_with_every_figure(found) -> None:
    costs, training = found
    plain = json.loads(json.dumps(mac_array_dict(costs, training), allow_nan=False))
    assert list(plain["forms"]) == ["dense", "uniform", "decomposed"]
    assert plain["forms"]["dense"]["total_pj"] == costs[0].energy_pj
    assert plain["forms"]["decomposed"]["layers"][0]["counts"]["digits"] == costs[2].layers[0].counts.digits
    assert list(plain["training"]) == [cost.scheme for cost in training]
    assert plain["training"]["SmartDeal"]["bytes"] == training[3].bytes
    assert plain["claims"] == {"storage": 10.56, "energy": 4.48}
