"""Does a whole network compute on the chip what it computes in PyTorch's integers, and is anything else said?"""

import pickle
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from tests.hardware.made import chip_of
from torch import Tensor, nn
from torch.nn import functional

from bale.errors import BaleError, MappingError
from bale.hardware import Noise, isaac_ce, parse_noise, put_on_chip, run_on_chip, simulate, small_tiles
from bale.hardware.bitserial import CrossbarMatrix
from bale.hardware.quantize import run_in_integers
from bale.hardware.simulate import _exactly
from bale.models import LeNet5, LSTMClassifier, ResNet20

IMAGES = torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(6) % 10


def in_pytorchs_integers(model: nn.Module, matrices, x: Tensor) -> Tensor:
    """The quantised network, written again: torch's own convolutions and products of integers held in float64."""
    model = deepcopy(model).eval()
    for name, module in list(model.named_modules()):
        if not isinstance(module, nn.Linear | nn.Conv2d):
            continue
        matrix = matrices[name]
        step = module.weight.detach().flatten(1).abs().amax(1).double() / (2 ** (WEIGHT_BITS - 1) - 1)
        integer = (module.weight.double() / step.reshape(-1, *[1] * (module.weight.dim() - 1))).round()

        def forward(x, module=module, matrix=matrix, step=step, integer=integer):
            most = 2 ** (INPUT_BITS - matrix.signed) - 1
            whole = (x / matrix.input_scale).round().clamp(-most if matrix.signed else 0, most).double()
            if isinstance(module, nn.Linear):
                sums = functional.linear(whole, integer)
            else:
                options = (module.stride, module.padding, module.dilation, module.groups)
                sums = functional.conv2d(whole, integer, None, *options)  # type: ignore[arg-type]
            shape = (-1, 1, 1) if isinstance(module, nn.Conv2d) else (-1,)
            scaled = (sums * (step * matrix.input_scale).reshape(shape)).float()
            return scaled if module.bias is None else scaled + module.bias.reshape(shape)

        module.forward = forward
    with torch.no_grad():
        return model(x)


WEIGHT_BITS, INPUT_BITS = 6, 5


@pytest.mark.parametrize("encoding", ["offset", "differential", "sign-magnitude"])
@pytest.mark.parametrize("model", [LeNet5(), ResNet20(width=4)], ids=["lenet5", "resnet20"])
def test_every_conversion_of_a_network_gives_pytorchs_integers(model, encoding) -> None:
    torch.manual_seed(0)
    chip = chip_of(rows=40, columns=48, weight_bits=WEIGHT_BITS, input_bits=INPUT_BITS, encoding=encoding, flip=True)
    chip = replace(chip, tiles=1000)
    on_chip = put_on_chip(model, chip, IMAGES)
    crossbars = {
        name: CrossbarMatrix.program(name, mapped.blocks, chip, mapped.signed)
        for name, mapped in on_chip.placement.matrices.items()
    }
    (got,) = run_in_integers(
        model, on_chip.network, on_chip.integers, [(IMAGES,)], lambda matrix, x, _: crossbars[matrix.name].multiply(x)
    )
    torch.testing.assert_close(got, in_pytorchs_integers(model, on_chip.integers, IMAGES), rtol=0, atol=0)


def test_what_is_proved_lossless_is_a_product_and_a_sample_runs_both_ways() -> None:
    report = simulate(LeNet5(), small_tiles(), IMAGES, LABELS).run
    assert all(layer.stood_in and layer.both_ways for layer in report.layers)
    every = simulate(LeNet5(), small_tiles(), IMAGES, LABELS, every_conversion=True).run
    assert not any(layer.stood_in for layer in every.layers)
    assert every.exact and every.clipped == 0 and every.agreement == 1 and every.output_error == 0
    assert every.accuracy == every.accuracy_quantised
    for layer, some in zip(every.layers, report.layers, strict=True):
        assert layer.converted.conversions >= some.converted.conversions > 0


def test_too_few_bits_are_counted_and_the_error_reported() -> None:
    chip = replace(small_tiles(), adc=replace(small_tiles().adc, bits=4))
    run = simulate(LeNet5(), chip, IMAGES, LABELS).run
    clipped = [layer for layer in run.layers if layer.converted.clipped]
    assert clipped and not run.exact
    for layer in clipped:
        assert not layer.stood_in and layer.wrong and layer.largest_error > 0 and layer.relative_error > 0
    assert run.output_error > 0


def test_an_lstm_at_many_bits_is_nearly_the_float_one() -> None:
    model = LSTMClassifier(hidden=20)
    chip = replace(isaac_ce(), adc=replace(isaac_ce().adc, bits=9))
    on_chip = put_on_chip(model, chip, IMAGES)
    run = run_on_chip(on_chip, model, IMAGES, every_conversion=True)
    assert run.exact and run.accuracy is None
    (result,) = run_in_integers(
        model,
        on_chip.network,
        on_chip.integers,
        [(IMAGES,)],
        lambda matrix, x, _: CrossbarMatrix.program(
            matrix.name, on_chip.placement.matrices[matrix.name].blocks, chip, matrix.signed
        ).multiply(x),
    )
    with torch.no_grad():
        torch.testing.assert_close(result, model(IMAGES), rtol=1e-3, atol=1e-3)


def test_samples_may_be_given_one_by_one() -> None:
    model = nn.GRU(3, 4, batch_first=True)

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.out = model, nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.gru(x)[0][-1])

    sentences = [torch.randn(steps, 3) for steps in (4, 2, 5)]
    run = simulate(Last(), "isaac_ce", sentences, torch.tensor([0, 1, 1]), every_conversion=True).run
    assert run.samples == 3 and run.exact and run.accuracy == run.accuracy_quantised


def test_noise_is_seeded_and_trials_are_drawn_anew() -> None:
    def run(**options):
        return simulate(LeNet5(), small_tiles(), IMAGES, LABELS, noise=Noise(variation=0.3), **options).run

    torch.manual_seed(0)
    model_state = torch.get_rng_state()
    torch.manual_seed(0)
    first = run(trials=3)
    torch.set_rng_state(model_state)
    again = run(trials=3)
    assert first.accuracies == again.accuracies and len(first.accuracies) == 3
    assert first.output_error == again.output_error > 0
    assert not any(layer.stood_in for layer in first.layers)


def test_the_model_is_left_as_it_was() -> None:
    model = ResNet20(width=4).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    simulate(model, small_tiles(), IMAGES)
    assert all(module.training for module in model.modules())
    assert not any("forward" in vars(module) for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    broken = nn.Sequential(nn.Linear(2, 2), nn.Flatten(5))
    with pytest.raises(IndexError):
        simulate(broken, small_tiles(), torch.rand(3, 2))
    assert not any("forward" in vars(module) for module in broken.modules())


def test_bad_inputs_name_the_layer_or_the_argument() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)
            self.head = nn.Bilinear(4, 4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.fc(x), x)

    x = torch.rand(3, 4)
    assert simulate(Functional(), "isaac_ce", x).cost.digital[0].layer == "head"
    with pytest.raises(MappingError, match="head: calls bilinear, which is no module for crossbars"):
        simulate(Functional(), "isaac_ce", x, strict=True)
    with pytest.raises(MappingError, match="fc: gets inputs that are NaN"):
        simulate(Functional(), "isaac_ce", x / 0)
    with pytest.raises(MappingError, match=r"labels: expected one class for each of 3 samples, got shape \(2,\)"):
        simulate(Functional(), "isaac_ce", x, torch.zeros(2))
    with pytest.raises(MappingError, match="calibration: must be at least 1 sample"):
        simulate(Functional(), "isaac_ce", x, calibration=0)
    with pytest.raises(MappingError, match="trials: must be at least 1"):
        simulate(Functional(), "isaac_ce", x, trials=0)
    with pytest.raises(MappingError, match="LSTM: gives a tuple; wrap it"):
        simulate(nn.LSTM(4, 4), "isaac_ce", x)
    with pytest.raises(BaleError, match="weight_bits: must be 2 to 16, got 1"):
        simulate(Functional(), "isaac_ce", x, weight_bits=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("variaton=1", "expected each of variation, stuck_off, stuck_on, read once"),
        ("read=1,read=2", "once at most"),
        ("read=x", "noise.read: expected a number, got 'x'"),
        ("read=-1", "noise.read: must be from 0"),
        ("stuck_on=0.6,stuck_off=0.6", "more than all cells"),
        ("variation=nan", "noise.variation: must be from 0"),
    ],
)
def test_bad_noise(text, message) -> None:
    with pytest.raises(BaleError, match=message):
        parse_noise(text)


def test_noise_round_trips() -> None:
    noise = Noise(variation=0.1, stuck_on=0.002)
    assert parse_noise(str(noise)) == noise and parse_noise("") == Noise() and not Noise() and noise


def test_a_trial_whose_cells_are_all_sound_does_not_speak_for_the_next() -> None:
    """A cell in a million is stuck: hardly one of these is, and every conversion is made all the same."""
    noise = Noise(stuck_off=1e-6)
    run = simulate(LeNet5(), small_tiles(), IMAGES[:1], noise=noise, trials=2).run
    assert not any(layer.stood_in for layer in run.layers)
    assert all(layer.sums and layer.converted.conversions for layer in run.layers)


def test_models_in_half_precision_and_double() -> None:
    for kind in (torch.bfloat16, torch.float64):
        model = LeNet5().to(kind)
        run = simulate(model, small_tiles(), IMAGES.to(kind), every_conversion=True).run
        assert run.exact and run.agreement == 1


def test_one_bit_holds_no_sign() -> None:
    with pytest.raises(MappingError, match="Linear: has inputs below 0, and one bit holds no sign"):
        simulate(nn.Linear(4, 2), "isaac_ce", torch.randn(5, 4), input_bits=1)
    assert simulate(nn.Linear(4, 2), "isaac_ce", torch.rand(5, 4), input_bits=1, every_conversion=True).run.exact


def test_a_transformer_takes_no_fast_path_past_its_layers() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.Sequential(layer, nn.Flatten(), nn.Linear(40, 3))
    run = simulate(model, "isaac_ce", torch.rand(4, 5, 8), every_conversion=True).run
    assert [layer.name for layer in run.layers] == ["0.linear1", "0.linear2", "2"] and run.exact
    assert torch.backends.mha.get_fastpath_enabled()


def test_inputs_beyond_the_calibrated_range_are_counted() -> None:
    x = torch.rand(200, 16)
    x[100:] *= 10
    (layer,) = simulate(nn.Linear(16, 4), "isaac_ce", x).run.layers
    assert layer.inputs == 3200
    assert abs(layer.beyond - int((x > x[:64].max()).sum())) <= 3  # those that round to the end are not beyond it


def test_a_layer_that_only_a_later_sample_meets_is_an_error() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) if x.sum() < 100 else self.b(x)

    with pytest.raises(MappingError, match="b: is met by a later sample and not by the first"):
        simulate(Branches(), "isaac_ce", [torch.rand(4), torch.rand(4) + 100])


def test_vectors_that_run_both_ways_are_not_all_alike() -> None:
    images = torch.zeros(20, 1, 28, 28)
    images[:, :, 10:18, 10:18] = 1  # within a black border
    run = simulate(LeNet5(), small_tiles(), images).run
    assert all(layer.stood_in and layer.converted.largest > 0 for layer in run.layers)


def test_scales_survive_half_precision() -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(2000, 4, bias=False).half(), torch.rand(8, 2000).half()
    linear.weight.data *= 1e-3
    run = simulate(linear, "isaac_ce", x).run
    assert run.exact
    on_chip = put_on_chip(linear, "isaac_ce", x)
    (result,) = run_in_integers(linear, on_chip.network, on_chip.integers, [(x,)], _exactly)
    with torch.no_grad():
        torch.testing.assert_close(result, linear(x), rtol=1e-2, atol=1e-4)


def test_autocast_changes_no_integer() -> None:
    class Cast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(30, 5)

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return self.fc(x).float()

    with torch.autocast("cpu", torch.bfloat16):
        assert simulate(Cast(), "isaac_ce", torch.rand(20, 30), every_conversion=True).run.exact


@pytest.mark.parametrize("every", [False, True])
def test_numbers_that_are_none_name_the_layer_whenever_they_come(every) -> None:
    x = torch.rand(100, 4)
    x[80, 1] = float("nan")
    with pytest.raises(MappingError, match="Linear: gets inputs that are NaN"):
        simulate(nn.Linear(4, 3), "isaac_ce", x, every_conversion=every)


def test_labels_and_results_must_fit_each_other() -> None:
    x = torch.rand(4, 6)
    fit = nn.Linear(6, 3)
    assert simulate(fit, "isaac_ce", x, [0, 1, 2, 0]).run.accuracy is not None  # type: ignore[arg-type]
    with pytest.raises(MappingError, match=r"labels: expected one class for each of 4 samples, got shape \(4, 1\)"):
        simulate(fit, "isaac_ce", x, torch.zeros(4, 1))
    for model in (nn.Linear(6, 1), nn.Sequential(nn.Linear(6, 1), nn.Flatten(0))):
        with pytest.raises(MappingError, match="results are not"):
            simulate(model, "isaac_ce", x, torch.zeros(4))
        run = simulate(model, "isaac_ce", x).run
        assert run.agreement is None and run.accuracy is None and run.output_error == 0
    with pytest.raises(MappingError, match=r"data: expected a tensor .* got a generator"):
        simulate(fit, "isaac_ce", (row for row in x))  # type: ignore[arg-type]


def test_two_threads_may_simulate_one_model() -> None:
    model = LeNet5()
    expected = simulate(model, small_tiles(), IMAGES, LABELS).run
    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(lambda _: simulate(model, small_tiles(), IMAGES, LABELS).run, range(6)))
    assert all(run.accuracies == expected.accuracies and run.exact for run in runs)


def test_reports_can_be_pickled_and_copied() -> None:
    report = simulate(LeNet5(), small_tiles(), IMAGES)
    again = pickle.loads(pickle.dumps(report))
    assert again.cost.energy == report.cost.energy == deepcopy(report).cost.energy
    assert again.run == report.run and again.cost.latency_ns == report.cost.latency_ns


def test_large_images_take_a_few_at_a_time(monkeypatch) -> None:
    monkeypatch.setattr("bale.hardware.layers._WINDOWS", 30_000)  # the windows of one image of LeNet-5's first layer
    run = simulate(LeNet5(), small_tiles(), IMAGES, every_conversion=True).run
    assert run.exact and run.layers[0].sums == 6 * 784 * 6
