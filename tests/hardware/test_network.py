"""Is what a model computes on one sample written down as it is?"""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_sequence

from bale.errors import MappingError
from bale.hardware.network import read_network


def producers(model: nn.Module, *sample: Tensor) -> list[tuple[str, list[str]]]:
    network = read_network(model, sample)
    return [(call.matrix, [network.calls[edge.producer].matrix for edge in call.inputs]) for call in network.calls]


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(2, 2, 3, padding=1) for _ in range(3))
        self.out = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu_()
        y = functional.relu(self.b(x))
        y += x
        y[:, 0] = self.c(x)[:, 1]
        return self.out(functional.adaptive_avg_pool2d(y, 1).flatten(1))


def test_residuals_views_and_what_is_written_in_place_are_followed() -> None:
    assert producers(Residual(), torch.rand(1, 2, 6, 6)) == [
        ("a", []),
        ("b", ["a"]),
        ("c", ["a"]),
        ("out", ["a", "b", "c"]),
    ]
    network = read_network(Residual(), (torch.rand(1, 2, 6, 6),))
    assert [edge.elements for edge in network.calls[1].inputs] == [72]
    assert [edge.elements for edge in network.calls[3].inputs] == [2, 2, 1]
    assert network.inputs == 72 and network.outputs == 3
    assert network.macs == 3 * 36 * 2 * 18 + 6


def test_a_position_waits_for_its_window_through_a_pool_and_for_all_through_a_flatten() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(1, 1, 3, padding=1), nn.Flatten())
    model.append(nn.Linear(9, 2))
    network = read_network(model, (torch.rand(1, 1, 6, 6),))
    (edge,) = network.calls[1].inputs
    # the first position needs rows and columns 0 and 1 of the pooled plane, and so 0 to 3 of the one before
    assert edge.last[0] == 3 * 6 + 3
    assert edge.last[-1] == 35
    assert np.all(np.diff(edge.last.reshape(3, 3)) >= 0)
    assert network.calls[2].inputs[0].last.tolist() == [8]


def test_an_lstm_waits_for_itself_and_runs_both_ways() -> None:
    lstm = nn.LSTM(3, 4, 2, bidirectional=True)
    network = read_network(lstm, (torch.rand(5, 1, 3),))
    names = [call.matrix.removeprefix("LSTM.weight_") for call in network.calls]
    assert names == [f"{kind}_l{layer}{way}" for layer in (0, 1) for way in ("", "_reverse") for kind in ("ih", "hh")]
    assert [call.use.in_turn for call in network.calls] == [0, 1] * 4
    below = [network.calls[edge.producer].matrix for edge in network.calls[4].inputs]
    assert below == ["LSTM.weight_hh_l0", "LSTM.weight_hh_l0_reverse"]
    assert network.calls[4].inputs[0].last.tolist() == [0, 1, 2, 3, 4]
    assert network.calls[4].inputs[1].last.tolist() == [4] * 5  # the other way's are waited for to their end


def test_a_cell_in_a_loop_is_called_each_time() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(1, 3)
            for step in x:
                h = self.cell(step, h)
            return h

    network = read_network(Loop(), (torch.rand(3, 1, 2),))
    assert len(network.matrices) == 2 and len(network.calls) == 6
    assert [sorted({edge.producer for edge in call.inputs}) for call in network.calls[2:4]] == [[], [0, 1]]


def test_what_is_digital_is_listed_with_its_module() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.norm = nn.LayerNorm(4)
            self.act = nn.GELU()

        def forward(self, x: Tensor) -> Tensor:
            x = self.act(self.norm(self.first(x)))
            return functional.softmax(x @ x.transpose(1, 2), -1).reshape(1, -1)

    network = read_network(Model(), (torch.rand(1, 5, 4),))
    found = {(op.layer, op.function): (op.kind, op.elements) for op in network.digital}
    assert found == {
        ("norm", "layer_norm"): ("other", 20),
        ("act", "gelu"): ("activation", 20),
        ("Model", "matmul"): ("product", 25),
        ("Model", "softmax"): ("other", 25),
    }


def test_reading_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.BatchNorm1d(2))
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    read_network(model, (torch.rand(1, 2),))
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_bad_models_and_inputs_name_the_layer() -> None:
    with pytest.raises(MappingError, match="Sequential: nothing of it is a matrix"):
        read_network(nn.Sequential(nn.ReLU()), (torch.rand(1, 2),))
    with pytest.raises(MappingError, match="LSTM: takes a PackedSequence"):
        read_network(nn.LSTM(2, 2), (pack_sequence([torch.rand(3, 2)]),))
    for name in ("weight", "bias"):
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        with torch.no_grad():
            model[1].get_parameter(name)[0] = float("nan")
        with pytest.raises(MappingError, match=rf"^1.{name}: has numbers that are NaN"):
            read_network(model, (torch.rand(1, 2),))


def test_the_gates_of_recurrent_layers_are_digital() -> None:
    for model, gates in ((nn.LSTM(3, 4, 2), 5 * 4 * 2), (nn.GRU(3, 4), 3 * 4)):
        digital = read_network(model, (torch.rand(6, 1, 3),)).digital
        assert [(op.function, op.kind) for op in digital] == [
            ("gates", "activation"),
            ("sums and products of gates", "other"),
        ]
        assert sum(op.elements for op in digital if op.kind == "activation") == 6 * gates
    (cell,) = (op for op in read_network(nn.LSTMCell(3, 4), (torch.rand(1, 3),)).digital if op.kind == "activation")
    assert cell.elements == 20


class Around(nn.Module):
    """Something between two layers on the same places."""

    def __init__(self, between) -> None:
        super().__init__()
        self.a, self.between, self.b = nn.Conv2d(1, 2, 1), between, nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.between(self.a(x)))


KEPT = {
    "relu": torch.relu,
    "sum": lambda x: 2 * x + x.sigmoid(),
    "batch norm": nn.BatchNorm2d(2),
    "dropout": nn.Dropout(),
    "in place": lambda x: x.mul_(2),
    "features behind features": lambda x: torch.cat((x,), 1),
}
MIXED = {
    "attention": lambda x: x * torch.softmax(x.flatten(2), -1).unflatten(2, x.shape[2:]),
    "squeeze and excite": lambda x: x * x.mean((2, 3), keepdim=True),
    "group norm": nn.GroupNorm(1, 2),
    "flip": lambda x: x.flip(2),
    "transpose": lambda x: x.transpose(2, 3),
    "roll": lambda x: x.roll(1, 2),
    "crop": lambda x: x[:, :, -3:],
    "places behind places": lambda x: torch.cat((x, x), 2)[:, :, 2:8],
}


@pytest.mark.parametrize("between", KEPT.values(), ids=KEPT)
def test_places_are_kept_by_what_keeps_them(between) -> None:
    (edge,) = read_network(Around(between), (torch.rand(1, 1, 6, 6),)).calls[1].inputs
    assert edge.last.tolist() == list(range(36)) and edge.elements == 72


@pytest.mark.parametrize("between", MIXED.values(), ids=MIXED)
def test_everything_is_waited_for_where_places_are_mixed(between) -> None:
    (edge,) = read_network(Around(between), (torch.rand(1, 1, 6, 6),)).calls[1].inputs
    assert set(edge.last.tolist()) == {35}


def test_what_is_put_together_sends_its_own_part() -> None:
    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 4, 1), nn.Conv2d(6, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            return self.c(functional.max_pool2d(torch.cat((x, self.b(x)), 1), 2))

    network = read_network(Dense(), (torch.rand(1, 1, 8, 8),))
    assert [(edge.producer, edge.elements) for edge in network.calls[2].inputs] == [(0, 2 * 16), (1, 4 * 16)]
    assert network.calls[2].inputs[0].last[0] == 9  # the pool's first block ends in the second row and column


def test_states_that_are_given_come_from_where_they_were_made() -> None:
    class Encoded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.start, self.lstm, self.cell = nn.Linear(3, 4), nn.LSTM(3, 4), nn.GRUCell(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.start(x[0]).unsqueeze(0)
            out, _ = self.lstm(input=x, hx=(h, h))
            return self.cell(input=out[-1], hx=h[0])

    network = read_network(Encoded(), (torch.rand(5, 1, 3),))
    found = {call.matrix: [network.calls[edge.producer].matrix for edge in call.inputs] for call in network.calls}
    assert found == {
        "start": [],
        "lstm.weight_ih_l0": [],
        "lstm.weight_hh_l0": ["lstm.weight_ih_l0", "start"],
        "cell.weight_ih": ["lstm.weight_hh_l0"],
        "cell.weight_hh": ["start"],
    }


def test_a_convolution_with_another_forward_of_its_own_is_no_matrix() -> None:
    class Standardised(nn.Conv2d):
        def _conv_forward(self, input, weight, bias):
            return super()._conv_forward(input, weight - weight.mean(), bias)

    with pytest.raises(MappingError, match="nothing of it is a matrix"):
        read_network(Standardised(1, 1, 1), (torch.rand(1, 1, 2, 2),))
