"""Do compressed models do what torch and its users ask of modules, and refuse what they cannot mean?"""

import copy

import pytest
import torch
from torch import nn

from bale.compress import (
    ADCAwareConfig,
    Admm,
    BlockCirculantConfig,
    MagnitudeConfig,
    StructuredConfig,
    UniformQuantConfig,
    bake_,
    compress_,
    load_packed_,
    pack,
    save_packed,
    unpack,
)
from bale.compress.weights import coded_weights
from bale.errors import CompressionError
from bale.models import LeNet5


def test_memory_formats_do_not_meet_what_is_stored_of_blocks() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 8))
    compress_(model, BlockCirculantConfig(4, "fft"), lambda module, name: True)
    maps = torch.randn(2, 4, 8, 8)
    before = model(maps)
    after = model.to(memory_format=torch.channels_last)(maps.to(memory_format=torch.channels_last))
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize("kernel", ["fft", "direct"])
def test_shapes_without_numbers(kernel) -> None:
    layer = nn.Linear(12, 8)
    compress_(layer, BlockCirculantConfig(4, kernel))
    assert copy.deepcopy(layer).to("meta")(torch.empty(5, 12, device="meta")).shape == (5, 8)


def test_a_weight_without_its_padding_is_contiguous_as_cudnn_wants_it() -> None:
    layer = nn.LSTM(28, 16)
    compress_(layer, BlockCirculantConfig(8), lambda module, name: True)
    assert all(weight.code().is_contiguous() for weight in coded_weights(layer))


def test_recurrent_layers_are_replicated_as_torchs_are() -> None:
    layer = nn.LSTM(8, 8)
    compress_(layer, UniformQuantConfig(4))
    assert type(layer._replicate_for_data_parallel()) is type(layer)


@pytest.mark.parametrize(
    "layer", [nn.LSTM(16, 16), nn.GRU(16, 16), nn.Conv1d(16, 16, 3), nn.Conv2d(32, 32, 1, groups=2)], ids=repr
)
def test_products_by_the_weight_written_out_are_counted_as_such(layer) -> None:
    report = compress_(layer, BlockCirculantConfig(4, "fft"))
    assert all(line.macs == line.macs_before for line in report.weights)


def test_half_types_count_products_by_the_weight_written_out() -> None:
    layer = nn.Linear(16, 16).bfloat16()
    report = compress_(layer, BlockCirculantConfig(4, "fft"))
    assert report.weights[0].macs == 256


@pytest.mark.parametrize("second", [UniformQuantConfig(8), ADCAwareConfig(), MagnitudeConfig(0.5)])
@pytest.mark.parametrize("first", [UniformQuantConfig(2), ADCAwareConfig(weight_bits=4), MagnitudeConfig(0.5, 3)])
def test_a_grid_is_not_made_anew_by_another_method(first, second) -> None:
    layer = nn.Linear(9, 5)
    compress_(layer, first)
    before = layer.weight.detach().clone()
    with pytest.raises(CompressionError, match=r"is quantised to \d bits already; quantisation comes last"):
        compress_(layer, second)
    assert torch.equal(layer.weight, before)
    compress_(layer, MagnitudeConfig(0.5, None))  # leaves the grid as it is
    assert torch.equal(layer.weight[layer.weight != 0], before[layer.weight != 0])


def test_kept_is_what_is_stored() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(200, 6)
    report = compress_(layer, ADCAwareConfig(adc_bits=4))
    layer.code("weight").values.data *= torch.randint(0, 2, (6, 200)) * 2 - 1  # half of them of the other sign: 0 now
    assert int(layer.weight.count_nonzero()) == layer.code("weight").kept < report.weights[0].kept
    entry = unpack(pack(layer)).state["weight"]
    assert int(entry.count_nonzero()) == layer.code("weight").kept


class Told(nn.Module):
    """Has a state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def get_extra_state(self) -> dict[str, int]:
        return {"steps": 3}

    def set_extra_state(self, state: dict[str, int]) -> None:
        pass


class Sparse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.register_buffer("graph", torch.eye(3).to_sparse())


@pytest.mark.parametrize("make, key", [(Told, "_extra_state"), (Sparse, "graph")])
def test_what_no_file_can_hold_is_refused_before_anything_is_changed(make, key) -> None:
    model = make()
    with pytest.raises(CompressionError, match=f"^{key}: "):
        compress_(model, UniformQuantConfig(4))
    assert type(model.layer) is nn.Linear


def test_buffers_that_are_views_of_others_numbers_are_packed_by_value() -> None:
    model = nn.Linear(2, 2)
    numbers = torch.tensor([1 + 2j, 3 - 4j])
    model.register_buffer("plain", numbers)
    model.register_buffer("mirrored", numbers.conj())
    state = unpack(pack(model)).state
    assert torch.equal(state["plain"], numbers) and torch.equal(state["mirrored"], numbers.conj())


def test_keys_that_a_hook_has_changed_are_refused() -> None:
    model = nn.Sequential(nn.Linear(8, 8))
    compress_(model, UniformQuantConfig(4))

    def renamed(module, state, prefix, local) -> None:
        for key in list(state):
            state[f"net.{key}"] = state.pop(key)

    model.register_state_dict_post_hook(renamed)
    with pytest.raises(CompressionError, match=r"^0\.weight: is not in the model's state_dict; a hook"):
        pack(model)


def test_weights_that_are_computed_are_not_drawn_anew() -> None:
    model = LeNet5()
    compress_(model, UniformQuantConfig(4))
    with pytest.raises(CompressionError, match=r"bale\.bake_ the model first"):
        model.fc1.reset_parameters()
    bake_(model)
    model.fc1.reset_parameters()


def test_gradients_of_before_are_not_those_of_what_is_stored() -> None:
    layer = nn.Linear(4, 4)
    layer(torch.ones(1, 4)).sum().backward()
    compress_(layer, MagnitudeConfig(0.5))
    assert layer.code("weight").values.grad is None and layer.bias.grad is not None


def test_a_file_of_another_type_is_refused(tmp_path) -> None:
    save_packed(nn.Linear(3, 3), tmp_path / "net.bale")
    with pytest.raises(CompressionError, match=r"weight is float32, and the model's is float16; model\.to\(float32\)"):
        load_packed_(nn.Linear(3, 3).half(), tmp_path / "net.bale")


def test_files_that_cannot_be_written_leave_nothing(tmp_path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(CompressionError, match="cannot be written"):
        save_packed(nn.Linear(3, 3), tmp_path / "folder")
    with pytest.raises(CompressionError, match="facts: expected what JSON can hold"):
        save_packed(nn.Linear(3, 3), tmp_path / "net.bale", facts={"weights": torch.ones(2)})
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_admm_is_over_when_it_has_squashed() -> None:
    model = nn.Linear(40, 4)
    compressor = Admm(ADCAwareConfig(nonzeros=2)).prepare(model)
    compressor.squash()
    for again in (compressor.penalty, compressor.step, compressor.squash):
        with pytest.raises(CompressionError, match=r"prepare\(model\) comes first"):
            again()
    with pytest.raises(CompressionError, match="config: expected a method that stores weights in another way"):
        Admm(StructuredConfig())  # type: ignore[arg-type]


def test_structured_pruning_that_removes_nothing_says_so() -> None:
    with pytest.raises(CompressionError, match="conv1 keeps all of its 6 outputs, rounded up"):
        compress_(LeNet5(), StructuredConfig(1.0))


def test_a_filter_that_leaves_all_out_fits_no_layer() -> None:
    with pytest.raises(CompressionError, match="magnitude: fits no layer of LeNet5: conv1 filter_fn leaves it out"):
        compress_(LeNet5(), MagnitudeConfig(), lambda module, name: False)


def test_narrow_layers_can_be_left_dense() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 32), nn.Linear(32, 32), nn.Linear(32, 4))
    report = compress_(model, BlockCirculantConfig(4, least_blocks=5))
    assert [line.name for line in report.weights] == ["2"]
    assert report.skipped["1"] == "has 32 outputs and 16 inputs, fewer than 20"
