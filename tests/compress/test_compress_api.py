"""Does the verb compress what it may, say why not where it may not, and report what it did?"""

import json
from collections.abc import Callable
from copy import deepcopy
from math import ceil
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.compress.made import Tagger, convolutional
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from bale.compress import (
    METHODS,
    ADCAwareConfig,
    BlockCirculantConfig,
    Config,
    MagnitudeConfig,
    StructuredConfig,
    UniformQuantConfig,
    bake_,
    compress_,
    config_from_dict,
)
from bale.compress.packing import pack_code
from bale.compress.weights import all_weights, coded_weights, compressed_layers
from bale.errors import BaleError, CompressionError

# Configs.

CONFIGS = st.one_of(
    st.builds(BlockCirculantConfig, st.integers(2, 64), st.sampled_from(["auto", "fft", "direct"])),
    st.builds(
        ADCAwareConfig,
        adc_bits=st.one_of(st.none(), st.integers(8, 12)),
        rows=st.integers(1, 512),
        weight_bits=st.integers(2, 16),
        cell_bits=st.integers(1, 2),
        dac_bits=st.integers(1, 2),
    ),
    st.builds(ADCAwareConfig, nonzeros=st.integers(1, 9), cell_bits=st.integers(1, 8)),
    st.builds(StructuredConfig, st.floats(0.01, 1), st.sampled_from(["filters", "channels"])),
    st.builds(MagnitudeConfig, st.floats(0.01, 1), st.one_of(st.none(), st.integers(2, 8))),
    st.builds(UniformQuantConfig, st.sampled_from([2, 3, 4, 8])),
)


@given(CONFIGS)
def test_a_config_goes_to_json_and_back(config) -> None:
    written = json.loads(json.dumps(config.to_dict()))
    assert written["method"] == config.method
    assert config_from_dict(written) == config == type(config).from_dict(written)
    assert METHODS[config.method] is type(config)


@pytest.mark.parametrize(
    "make,field",
    [
        (lambda: BlockCirculantConfig(8, least_blocks=0), "block-circulant.least_blocks"),
        (lambda: BlockCirculantConfig(1), "block-circulant.block"),
        (lambda: BlockCirculantConfig(8, least_blocks=0), "block-circulant.least_blocks"),
        (lambda: BlockCirculantConfig(2.5), "block-circulant.block"),  # type: ignore[arg-type]
        (lambda: BlockCirculantConfig(8, least_blocks=0), "block-circulant.least_blocks"),
        (lambda: BlockCirculantConfig("8"), "block-circulant.block"),  # type: ignore[arg-type]
        (lambda: BlockCirculantConfig(8, least_blocks=0), "block-circulant.least_blocks"),
        (lambda: BlockCirculantConfig(8, "quick"), "block-circulant.kernel"),  # type: ignore[arg-type]
        (lambda: ADCAwareConfig(adc_bits=0), "adc-aware.adc_bits"),
        (lambda: ADCAwareConfig(nonzeros=0), "adc-aware.nonzeros"),
        (lambda: ADCAwareConfig(nonzeros=1.5), "adc-aware.nonzeros"),  # type: ignore[arg-type]
        (lambda: ADCAwareConfig(rows=0), "adc-aware.rows"),
        (lambda: ADCAwareConfig(rows=12.5), "adc-aware.rows"),  # type: ignore[arg-type]
        (lambda: ADCAwareConfig(weight_bits=1), "adc-aware.weight_bits"),
        (lambda: ADCAwareConfig(weight_bits=17), "adc-aware.weight_bits"),
        (lambda: ADCAwareConfig(cell_bits=0), "adc-aware.cell_bits"),
        (lambda: ADCAwareConfig(dac_bits=0), "adc-aware.dac_bits"),
        (lambda: ADCAwareConfig(cell_bits=60000), "adc-aware.cell_bits"),
        (lambda: StructuredConfig(0.0), "structured.keep"),
        (lambda: StructuredConfig(1.5), "structured.keep"),
        (lambda: StructuredConfig("half"), "structured.keep"),  # type: ignore[arg-type]
        (lambda: StructuredConfig(0.5, "rows"), "structured.by"),  # type: ignore[arg-type]
        (lambda: MagnitudeConfig(0), "magnitude.density"),
        (lambda: MagnitudeConfig(float("nan")), "magnitude.density"),
        (lambda: MagnitudeConfig(0.5, 9), "magnitude.bits"),
        (lambda: MagnitudeConfig(0.5, 2.5), "magnitude.bits"),  # type: ignore[arg-type]
        (lambda: UniformQuantConfig(5), "uniform.bits"),
        (lambda: UniformQuantConfig(True), "uniform.bits"),
        (lambda: UniformQuantConfig.from_dict({"method": "uniform", "bit": 4}), "uniform.bit"),
        (lambda: config_from_dict({"method": "uniform", "bits": 7}), "uniform.bits"),
        (lambda: config_from_dict({"method": "svd"}), "method"),
        (lambda: config_from_dict({}), "method"),
        (lambda: UniformQuantConfig.from_dict({"method": "magnitude"}), "method"),
    ],
)
def test_what_does_not_fit_a_field_is_refused_by_its_name(make, field) -> None:
    with pytest.raises(CompressionError, match=f"^{field.replace('.', '[.]')}: "):
        make()


# Which layers.


def as_it_is(model: nn.Module) -> tuple[Any, ...]:
    """Whatever must be the same of a model that was left as it is."""
    return (
        [(name, type(module), id(module), module.training) for name, module in model.named_modules()],
        [(name, id(p), p.requires_grad) for name, p in model.named_parameters(remove_duplicate=False)],
        {key: tensor.clone() for key, tensor in model.state_dict().items()},
    )


def assert_as_it_was(model: nn.Module, before: tuple[Any, ...]) -> None:
    modules, parameters, state = as_it_is(model)
    assert modules == before[0] and parameters == before[1] and list(state) == list(before[2])
    for key, tensor in before[2].items():
        torch.testing.assert_close(state[key], tensor, rtol=0, atol=0, equal_nan=True)


class Own(nn.Linear):
    """A layer of the user's."""


class Shares(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(5, 4), nn.Linear(4, 5)
        self.out.weight = self.embed.weight
        self.one = self.two = nn.Linear(4, 4)


def weight_normed() -> nn.Module:
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4)))


UNSUITABLE: list[tuple[Callable[[], nn.Module], dict[str, str]]] = [
    (
        Shares,
        {
            "embed": "no method is for Embedding",
            "out": "shares its weight with embed.weight",
            "one": "shares its weight with two.weight",
        },
    ),
    (lambda: nn.Sequential(Own(4, 4)), {"0": "no method is for Own, a kind of Linear of its own"}),
    (lambda: nn.Sequential(nn.LSTM(4, 4, proj_size=2)), {"0": "projects its states"}),
    (weight_normed, {"0": "is parametrized by torch.nn.utils.parametrize"}),
    (lambda: nn.Sequential(nn.Linear(4, 4, dtype=torch.complex64)), {"0": "its weight is of complex64"}),
    (lambda: nn.Bilinear(2, 2, 2), {"Bilinear": "no method is for Bilinear"}),
]


@pytest.mark.parametrize("make,reasons", UNSUITABLE)
def test_layers_that_no_method_fits_are_skipped_with_the_reason(make, reasons) -> None:
    model = make()
    before = as_it_is(model)
    with pytest.raises(CompressionError, match=f"^uniform: fits no layer of {type(model).__name__}: ") as raised:
        compress_(model, UniformQuantConfig(4))
    for name, reason in reasons.items():
        assert f"{name} {reason}" in str(raised.value)
    assert_as_it_was(model, before)
    both = nn.ModuleDict({"net": model, "other": nn.Linear(4, 4)})
    report = compress_(both, UniformQuantConfig(4))
    assert [weight.name for weight in report.weights] == ["other"]
    for name, reason in reasons.items():
        where = "net" if name == type(model).__name__ else f"net.{name}"
        assert report.skipped[where] == reason.replace("with ", "with net.")
    assert_as_it_was(model, before)


def test_the_first_and_the_last_layer_stay_dense_unless_chosen() -> None:
    def names(model: nn.Module, *given: Any) -> list[str]:
        return [weight.name for weight in compress_(model, BlockCirculantConfig(2), *given).weights]

    def layers(many: int) -> nn.Module:
        return nn.Sequential(*[nn.Linear(4, 4) for _ in range(many)])

    assert names(layers(4)) == ["1", "2"] and names(layers(2)) == ["0"] and names(layers(1)) == ["0"]
    assert names(nn.Linear(4, 4)) == ["weight"]
    assert names(layers(4), lambda module, name: name in ("0", "3")) == ["0", "3"]
    # Of a tagger the embedding is first, and the head last.
    assert {name.split(".")[0] for name in names(Tagger())} == {"lstm", "gru", "lstm_cell", "gru_cell", "spread"}


@pytest.mark.parametrize("config", [UniformQuantConfig(4), MagnitudeConfig(0.5), BlockCirculantConfig(2)])
def test_a_filter_meets_each_layer_as_it_was_and_others_stay(config) -> None:
    model = convolutional()
    left = [model[8].weight, model[0].weight]
    met: list[tuple[str, type[nn.Module]]] = []

    def choose(module: nn.Module, name: str) -> bool:
        met.append((name, type(module)))
        return type(module) is nn.Conv2d and name == "3"

    report = compress_(model, config, choose)
    assert met == [("0", nn.Conv2d), ("3", nn.Conv2d), ("6", nn.Linear), ("8", nn.Linear)]
    assert [weight.name for weight in report.weights] == ["3"]
    assert report.skipped == dict.fromkeys(["0", "6", "8"], "filter_fn leaves it out")
    assert model[8].weight is left[0] and model[0].weight is left[1]


@pytest.mark.parametrize("config", [UniformQuantConfig(4), StructuredConfig(0.5)])
def test_a_filter_that_raises_leaves_the_model_as_it_was(config) -> None:
    model = convolutional()
    before = as_it_is(model)

    def choose(module: nn.Module, name: str) -> bool:
        if name == "6":
            raise KeyError("mine")
        return True

    with pytest.raises(KeyError, match="mine"):
        compress_(model, config, choose)
    assert_as_it_was(model, before)


def left_alone() -> list[tuple[nn.Module, Config, Any]]:
    return [
        (nn.Sequential(nn.ReLU()), UniformQuantConfig(), None),
        (convolutional(), UniformQuantConfig(), lambda module, name: False),
        (convolutional(), BlockCirculantConfig(64), None),
        (nn.LSTM(3, 3, 2), BlockCirculantConfig(8), None),
        (convolutional(), StructuredConfig(1.0), None),
        (nn.Sequential(nn.Linear(3, 3)), StructuredConfig(0.5), None),
    ]


@pytest.mark.parametrize("case", range(len(left_alone())))
def test_where_nothing_fits_the_model_is_as_it_was(case) -> None:
    model, config, choose = left_alone()[case]
    before = as_it_is(model)
    with pytest.raises(CompressionError, match=f"^{config.method}: fits no layer of {type(model).__name__}: "):
        compress_(model, config, choose)
    assert_as_it_was(model, before)


def test_of_many_reasons_some_are_named() -> None:
    model = nn.Sequential(*[nn.Linear(2, 2) for _ in range(12)])
    with pytest.raises(CompressionError, match=r": 0 has 2 outputs and 2 inputs, fewer than 8; .* and 4 more$"):
        compress_(model, BlockCirculantConfig(8), lambda module, name: True)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("config", [UniformQuantConfig(), StructuredConfig()])
def test_weights_that_are_no_numbers_are_refused(config, value) -> None:
    model = convolutional()
    with torch.no_grad():
        model[6].weight[1, 2] = value
    before = as_it_is(model)
    with pytest.raises(CompressionError, match=r"^6: has weights that are NaN or infinite"):
        compress_(model, config)
    assert_as_it_was(model, before)


def test_what_is_no_config_is_refused() -> None:
    with pytest.raises(CompressionError, match=r"config: expected a config such as .*, got 'uniform'"):
        compress_(nn.Linear(2, 2), "uniform")  # type: ignore[arg-type]


# Stacks.


@pytest.mark.parametrize(
    "first,second,reason",
    [
        (BlockCirculantConfig(2), BlockCirculantConfig(2), "is block-circulant already"),
        (BlockCirculantConfig(2), ADCAwareConfig(rows=1), "has circulant blocks of 2, and a crossbar has 1 rows"),
        (
            MagnitudeConfig(0.5),
            BlockCirculantConfig(2),
            "is pruned or quantised already; a block-circulant weight come",
        ),
        (UniformQuantConfig(4), BlockCirculantConfig(2), "is pruned or quantised already"),
        (ADCAwareConfig(), BlockCirculantConfig(2), "is pruned or quantised already"),
        (BlockCirculantConfig(2), StructuredConfig(0.5), "is a CompressedConv2d, not a plain Conv2d"),
        (BlockCirculantConfig(2, "fft"), StructuredConfig(0.5), "is a CompressedConv2d, not a plain Conv2d"),
    ],
)
def test_orders_that_do_not_fit_are_refused_and_change_nothing(first, second, reason) -> None:
    model = convolutional()
    compress_(model, first, lambda module, name: name != "8")
    before = as_it_is(model)
    with pytest.raises(BaleError, match=f"^{second.method}: fits no layer of Sequential: .*{reason}"):
        compress_(model, second, lambda module, name: name in ("0", "3", "6"))
    assert_as_it_was(model, before)


def test_methods_stack_in_their_order() -> None:
    torch.manual_seed(0)
    model = convolutional()
    compress_(model, StructuredConfig(0.5))
    assert not compressed_layers(model) and model[0].out_channels == 4
    compress_(model, BlockCirculantConfig(2))
    values = {weight.name: weight.code.values.detach().clone() for weight in coded_weights(model)}
    assert set(values) == {"3", "6"}
    compress_(model, MagnitudeConfig(0.5, None, "layer"))
    compress_(model, UniformQuantConfig(8))
    for weight in coded_weights(model):
        if weight.name in values:
            mask = weight.code.mask
            assert mask is not None and mask.shape == values[weight.name].shape
            assert int(mask.count_nonzero()) == ceil(mask.numel() / 2)
            assert bool(values[weight.name][mask].abs().min() >= values[weight.name][~mask].abs().max())
            assert weight.code.bits == 8


@pytest.mark.parametrize("second", [MagnitudeConfig(0.8, None), ADCAwareConfig(nonzeros=3, rows=20)])
def test_what_one_pruning_leaves_out_no_other_brings_back(second) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(40, 6)
    compress_(layer, MagnitudeConfig(0.5, None))
    mask = coded_weights(layer)[0].code.mask
    report = compress_(layer, second)
    code = coded_weights(layer)[0].code
    assert mask is not None and code.mask is not None and not (code.mask & ~mask).any()
    assert report.weights[0].kept == int(code.mask.count_nonzero()) <= 120


# Reports.


def test_a_report_says_what_was_done() -> None:
    torch.manual_seed(0)
    model = convolutional()
    plain = {name: weight.detach().clone() for name, weight in all_weights(model).items()}
    report = compress_(model, MagnitudeConfig(0.25, 4, "layer"))
    assert report.parameters == sum(p.numel() for p in convolutional().parameters())
    assert report.dense_bytes == 4 * report.parameters
    assert report.ratio == report.dense_bytes / report.packed_bytes
    assert [weight.name for weight in report.weights] == ["0", "3", "6", "8"] and not report.skipped
    for line, stored in zip(report.weights, coded_weights(model), strict=True):
        was, now = plain[line.name], stored.code().detach()
        assert line.shape == tuple(was.shape) == tuple(now.shape) and line.parameters == was.numel()
        assert line.kept == ceil(was.numel() / 4) and line.bits == 4
        assert line.macs == line.kept and line.macs_before == was.numel()
        assert line.packed_bytes == len(pack_code(stored.code)[1])
        many = int(now.count_nonzero())
        assert line.packed_bytes == ceil(was.numel() / 8) + 4 * len(was) + ceil(4 * many / 8)
        assert line.error == pytest.approx(float((now - was).norm() / was.norm()))
        assert line.ratio == 4 * line.parameters / line.packed_bytes


def test_what_a_report_says_of_blocks() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(9, 10), nn.LSTMCell(6, 5))
    plain = {name: weight.detach().clone() for name, weight in all_weights(model).items()}
    report = compress_(model, BlockCirculantConfig(5, "direct"), lambda module, name: True)
    assert [(w.name, w.kept, w.bits, w.packed_bytes, w.macs, w.facts) for w in report.weights] == [
        ("0", 2 * 2 * 5, 32, 80, 90, {"padded": 1}),
        ("1.weight_ih", 4 * 1 * 2 * 5, 32, 160, 120, {"padded": 1}),
        ("1.weight_hh", 4 * 1 * 1 * 5, 32, 80, 100, {}),
    ]
    for line, (name, weight) in zip(report.weights, all_weights(model).items(), strict=True):
        assert line.error == pytest.approx(float((weight - plain[name]).detach().norm() / plain[name].norm()))


def test_a_second_report_compares_with_the_first_and_a_structured_one_counts_what_is_gone() -> None:
    torch.manual_seed(0)
    model = convolutional()
    report = compress_(model, StructuredConfig(0.5))
    lines = {line.name: line for line in report.weights}
    assert lines["3"].shape == (3, 4, 3, 3) and lines["3"].parameters == 6 * 8 * 9 and lines["3"].kept == 3 * 4 * 9
    assert lines["3"].error is None and "-" in str(report)
    assert lines["3"].bits == 32 and lines["3"].packed_bytes == 4 * 108 and lines["3"].macs == 108
    assert "its outputs are the network's results" in report.skipped["8"]
    narrow = sum(p.numel() for p in model.parameters())
    before = {name: weight.detach().clone() for name, weight in all_weights(model).items()}
    second = compress_(model, UniformQuantConfig(2))
    assert second.parameters == narrow
    for line in second.weights:
        now = all_weights(model)[line.name].detach()
        assert line.error == pytest.approx(float((now - before[line.name]).norm() / before[line.name].norm()), rel=1e-5)
    third = compress_(model, MagnitudeConfig(1.0, None))
    assert third.parameters == narrow and all(line.error == 0 for line in third.weights)


@pytest.mark.parametrize(
    "config",
    [UniformQuantConfig(4), StructuredConfig(), ADCAwareConfig(), BlockCirculantConfig(2, "fft"), MagnitudeConfig()],
)
def test_a_report_is_a_line_for_each_weight_and_json(config) -> None:
    report = compress_(convolutional(), config)
    lines = str(report).splitlines()
    assert lines[0].startswith(f"{config.method} (")
    rows = [line.split()[0] for line in lines[3 : 3 + len(report.weights)]]
    assert rows == [weight.name for weight in report.weights]
    assert all(len(line) == len(line.rstrip()) for line in lines)
    assert len([line for line in lines if line.startswith("left as it is: ")]) == len(report.skipped)
    assert f"{report.dense_bytes:,} bytes -> {report.packed_bytes:,} packed" in str(report)
    written = json.loads(json.dumps(report.to_dict()))
    assert written["configs"] == [config.to_dict()] and written["packed_bytes"] == report.packed_bytes
    assert [w["name"] for w in written["weights"]] == rows and written["skipped"] == dict(report.skipped)
    for line, weight in zip(written["weights"], report.weights, strict=True):
        assert line["error"] == weight.error and line["shape"] == list(weight.shape)
        assert all(line[name] == fact for name, fact in weight.facts.items())


@given(st.floats(0.001, 1), st.integers(1, 6), st.integers(1, 9), st.integers(0, 1 << 20))
def test_the_largest_stay_as_many_as_the_density_says(density, outputs, inputs, seed) -> None:
    torch.manual_seed(seed)
    layer = nn.Linear(inputs, outputs)
    weight: Tensor = layer.weight.detach().clone()
    compress_(layer, MagnitudeConfig(density, None))
    kept = layer.weight.detach() != 0
    assert int(kept.count_nonzero()) == ceil(density * weight.numel())
    assert torch.equal(layer.weight.detach()[kept], weight[kept])
    assert kept.all() or weight[kept].abs().min() >= weight[~kept].abs().max()


@given(st.floats(0.01, 1), st.integers(0, 1 << 20))
def test_of_a_network_the_largest_stay_wherever_they_are_and_one_of_each_layer(density, seed) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight *= 10 ** float(torch.rand(()) * 4 - 2)
    before = torch.cat([layer.weight.detach().flatten().abs() for layer in model])
    report = compress_(model, MagnitudeConfig(density, None))
    kept = torch.cat([layer.weight.detach().flatten() for layer in model]) != 0
    many = ceil(density * 20)
    assert int(kept.count_nonzero()) - many in (0, 1) and all(line.kept >= 1 for line in report.weights)
    largest = torch.zeros(20, dtype=torch.bool)
    largest[before.topk(many).indices] = True
    assert kept[largest].all()


def test_baking_a_plain_model_changes_nothing() -> None:
    model = convolutional()
    before = as_it_is(model)
    assert bake_(model) is model
    assert_as_it_was(model, before)


def test_only_one_weight_of_a_layer_may_be_compressed() -> None:
    cell = nn.LSTMCell(3, 8)
    weight = cell.weight_ih
    report = compress_(cell, BlockCirculantConfig(4))
    assert [line.name for line in report.weights] == ["weight_hh"]
    assert report.skipped == {"weight_ih": "has 8 outputs and 3 inputs a part, fewer than 4"}
    want = [tensor.detach() for tensor in cell(torch.ones(1, 3))]
    assert bake_(deepcopy(cell)).weight_ih is not weight and bake_(cell).weight_ih is weight
    for a, b in zip(cell(torch.ones(1, 3)), want, strict=True):
        torch.testing.assert_close(a.detach(), b)
