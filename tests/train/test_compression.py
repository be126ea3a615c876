"""Compressing and training again: its parts, that it goes on exactly where it was stopped, and targets that are met."""

import copy
from math import log2

import pytest
import torch
from torch import nn

from bale.compress import (
    ADCAwareConfig,
    BlockCirculantConfig,
    MagnitudeConfig,
    SmartDealConfig,
    StructuredConfig,
    UniformQuantConfig,
    compress_,
    pack,
)
from bale.data import Images
from bale.errors import BaleError, CheckpointError, CompressionError
from bale.train import (
    Retraining,
    Target,
    compress_and_train,
    find_for_accuracy,
    image_accuracy,
    parse_target,
    parts_of,
    setting_for_ratio,
    train_images,
    with_adc_bits,
    write_and_test,
)
from bale.train.compression_target import most_tries, settings_of, varied_field

EPOCH = 3  # steps: 24 images in mini-batches of 8
HOW = Retraining(epochs=4, batch_size=8, seed=2)


@pytest.fixture(scope="module")
def images():
    """Three classes that a small network learns: the bright third of an image."""
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randint(0, 120, (24, 1, 6, 6), generator=generator)
    labels = torch.arange(24) % 3
    for row, label in enumerate(labels.tolist()):
        pixels[row, 0, 2 * label : 2 * label + 2] += 120
    return Images(pixels.byte(), labels, ("top", "middle", "bottom"), "thirds")


@pytest.fixture(scope="module")
def dense(images):
    """A trained network, which draws (dropout) and counts (batch norm)."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(128, 16), nn.ReLU()
    )
    model.append(nn.Linear(16, 3))
    train_images(model, images, epochs=8, batch_size=8, lr=0.01)
    return model


def stopped(model, images, configs, folder, after):
    """Compress and train, and press Ctrl-C after so many steps of all parts; return the steps that were told."""
    told = []

    def on_step(step):
        told.append(step)
        if len(told) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress_and_train(model, images, configs, HOW, on_step=on_step, save=folder)
    return told


def _forget(module):
    """Nothing of the plain network's own numbers is to matter."""
    for parameter in module.parameters(recurse=False):
        nn.init.constant_(parameter, 7.0)


def _forget_little(module):
    """As a network of another seed is: the same shapes, other numbers."""
    for parameter in module.parameters(recurse=False):
        nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(3))


def same(one, other):
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_parts_share_the_epochs():
    adc, circulant, keep = ADCAwareConfig(), BlockCirculantConfig(), StructuredConfig()

    def of(configs, epochs):
        return [[(part.name, part.epochs, part.pulled) for part in parts] for parts in parts_of(configs, epochs)]

    assert of([adc], 5) == [[("adc-aware, pulled", 2, True), ("adc-aware", 3, False)]]
    assert of([adc], 1) == [[("adc-aware", 1, False)]]
    assert of([keep, circulant], 5) == [[("structured", 2, False)], [("block-circulant", 3, False)]]
    assert of([keep, adc], 1) == [[], [("adc-aware", 1, False)]]
    assert of([keep, adc], 0) == [[], []]


@pytest.mark.parametrize("configs", [[ADCAwareConfig(2)], [StructuredConfig(0.7), ADCAwareConfig(3)]])
def test_parts_are_told_before_their_steps(dense, images, configs):
    told = []
    compress_and_train(
        copy.deepcopy(dense),
        images,
        configs,
        HOW,
        on_part=lambda place, part: told.append((place, part)),
        on_step=lambda step: told.append(step.step),
    )
    expected = []
    for place, part in enumerate(part for parts in parts_of(configs, HOW.epochs) for part in parts):
        expected += [(place, part), *range(1, part.epochs * EPOCH + 1)]
    assert told == expected


STACKS = {
    "adc-aware": [ADCAwareConfig(2)],  # two epochs pulled by ADMM, two afterwards
    "structured, adc-aware": [StructuredConfig(0.7), ADCAwareConfig(3)],
    "smartdeal, projection": [SmartDealConfig(training="projection")],
    "smartdeal, buckets": [SmartDealConfig(training="buckets")],
    "structured, smartdeal, bases": [StructuredConfig(0.7), SmartDealConfig(trained="basis")],
    "circulant, uniform": [BlockCirculantConfig(4), UniformQuantConfig(4)],
}


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("after", [1, EPOCH + 1, 2 * EPOCH, 2 * EPOCH + 1, 4 * EPOCH])
def test_what_was_stopped_goes_on_exactly(dense, images, tmp_path, stack, after):
    configs = STACKS[stack]
    whole, first, second = (copy.deepcopy(dense) for _ in range(3))
    steps = []
    report = compress_and_train(whole, images, configs, HOW, on_step=steps.append)
    told = stopped(first, images, configs, tmp_path, after)
    again = compress_and_train(second, images, configs, HOW, on_step=told.append, save=tmp_path)
    assert told == steps and len(steps) == 4 * EPOCH
    assert same(second, whole)
    assert again == report
    finished = copy.deepcopy(dense)
    assert compress_and_train(finished, images, configs, HOW, on_step=told.append, save=tmp_path) == report
    assert len(told) == 4 * EPOCH and same(finished, whole)


@pytest.mark.parametrize(
    ("configs", "after", "problem"),
    [
        ([StructuredConfig(0.7), MagnitudeConfig(0.5, 4)], 3 * EPOCH, "magnitude"),
        ([StructuredConfig(0.7), UniformQuantConfig(3)], 3 * EPOCH, "'bits': 4"),
        ([StructuredConfig(0.75), UniformQuantConfig(4)], EPOCH, "'keep': 0.7"),
        ([MagnitudeConfig(), UniformQuantConfig(4)], EPOCH, "magnitude"),
    ],
)
def test_a_folder_of_other_methods_is_refused(dense, images, tmp_path, configs, after, problem):
    stopped(copy.deepcopy(dense), images, [StructuredConfig(0.7), UniformQuantConfig(4)], tmp_path, after)
    with pytest.raises(CheckpointError, match="is of another run: methods") as error:
        compress_and_train(copy.deepcopy(dense), images, configs, HOW, save=tmp_path)
    assert problem in str(error.value)


def test_a_folder_of_another_model_is_refused(dense, images, tmp_path):
    stopped(copy.deepcopy(dense), images, [UniformQuantConfig(4)], tmp_path, EPOCH)
    other = copy.deepcopy(dense).apply(_forget_little)
    with pytest.raises(CheckpointError, match="is of another run: model before, SHA-256 '"):
        compress_and_train(other, images, [UniformQuantConfig(4)], HOW, save=tmp_path)


def test_a_search_does_not_take_tries_of_another_model_or_method(dense, images, tmp_path):
    how = Retraining(epochs=1, batch_size=8)

    def search(model, *configs):
        find_for_accuracy(model, images, images, configs, 0.1, how, save=tmp_path)

    search(dense, MagnitudeConfig(bits=4))
    search(dense, MagnitudeConfig(bits=4))
    with pytest.raises(CheckpointError, match="is of another run: methods"):
        search(dense, MagnitudeConfig(bits=8))
    with pytest.raises(CheckpointError, match="is of another run: model before"):
        search(copy.deepcopy(dense).apply(_forget_little), MagnitudeConfig(bits=4))


def test_a_report_compares_with_the_model_that_was_given(dense, images):
    model = copy.deepcopy(dense)
    configs = [StructuredConfig(0.5), UniformQuantConfig(4)]
    report = compress_and_train(model, images, configs, HOW)
    parameters = sum(parameter.numel() for parameter in dense.parameters())
    rows = {row.name: row for row in report.weights}
    assert report.configs == tuple(configs) and report.parameters == parameters
    assert report.packed_bytes == len(pack(model, tuple(configs)))
    assert (rows["5"].parameters, rows["5"].kept, rows["5"].shape) == (2048, 8 * 64, (8, 64))
    assert rows["5"].error is None and {row.bits for row in report.weights} == {4}
    assert "7" not in report.skipped  # its outputs had to stay, its numbers have fewer bits


class Tagger(nn.Module):
    """A layer of several weights, one of a kind of its own with a known one inside, and a last one."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 8, batch_first=True)
        self.mix = Mix()
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.mix(self.lstm(x.squeeze(1))[0][:, -1]))


class Mix(nn.Module):
    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.eye(8))
        self.inner = nn.Linear(8, 8)

    def forward(self, x):
        return self.inner(x) @ self.matrix


def test_what_any_method_changed_was_not_left(images):
    torch.manual_seed(0)
    model = Tagger()
    alone = compress_(copy.deepcopy(model), BlockCirculantConfig(4)).skipped
    configs = [BlockCirculantConfig(4), UniformQuantConfig(4)]

    def but_last(module, name):
        return name != "last"

    whole = compress_and_train(copy.deepcopy(model), images, configs, Retraining(epochs=0))
    assert {"lstm", "last", "mix"} <= alone.keys()
    assert whole.skipped == {"mix": "block-circulant: no method is for Mix; uniform: no method is for Mix"}
    part = compress_and_train(copy.deepcopy(model), images, configs, Retraining(epochs=0), filter_fn=but_last)
    assert part.skipped.keys() == {"mix", "last"}
    assert part.skipped["last"] == "block-circulant: filter_fn leaves it out; uniform: filter_fn leaves it out"


def test_errors_are_those_of_the_weights_after_training(dense, images):
    model = copy.deepcopy(dense)
    (row,) = compress_and_train(model, images, [BlockCirculantConfig(4)], HOW).weights
    now, was = model[5].weight.detach(), dense[5].weight.detach()
    assert row.error == pytest.approx(float((now - was).norm() / was.norm()))


def test_without_epochs_it_only_compresses(dense, images):
    model, other = copy.deepcopy(dense), copy.deepcopy(dense)
    report = compress_and_train(model, images, [ADCAwareConfig(2)], Retraining(epochs=0))
    assert report == compress_(other, ADCAwareConfig(2))
    assert same(model, other)


def test_what_a_run_does_not_take(dense, images):
    with pytest.raises(BaleError, match="configs: expected at least one method"):
        compress_and_train(copy.deepcopy(dense), images, [])
    with pytest.raises(BaleError, match="epochs must be at least 0, got -1"):
        compress_and_train(copy.deepcopy(dense), images, [UniformQuantConfig()], Retraining(epochs=-1))
    model = copy.deepcopy(dense)
    with pytest.raises(CompressionError, match="block-circulant: fits no layer"):
        compress_and_train(model, images, [BlockCirculantConfig(512)])
    assert same(model, dense)


def test_a_packed_file_is_as_right_as_what_was_written(dense, images, tmp_path):
    model, configs = copy.deepcopy(dense), [StructuredConfig(0.5), MagnitudeConfig(0.3)]
    report = compress_and_train(model, images, configs, HOW)
    file = write_and_test(model, dense, tmp_path / "net.bale", configs, images)
    assert file.size == (tmp_path / "net.bale").stat().st_size == report.packed_bytes
    assert file.same and file.accuracy == image_accuracy(model, images)
    other = write_and_test(model, copy.deepcopy(dense).apply(_forget), tmp_path / "net.bale", configs, images)
    assert other == file


# ---- targets


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("ratio=6", Target("ratio", 6)),
        ("ratio = 2.5", Target("ratio", 2.5)),
        ("accuracy=0.9", Target("accuracy", 0.9)),
        ("accuracy=90%", Target("accuracy", 0.9)),
        ("accuracy=-0.01", Target("accuracy", -0.01)),
        ("accuracy=-1%", Target("accuracy", -0.01)),
        ("adc_bits=4", Target("adc_bits", 4)),
    ],
)
def test_targets_are_understood(text, target):
    assert parse_target(text) == target


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("small", "'small' is not understood; expected ratio=8"),
        ("size=3", "'size=3' is not understood"),
        ("ratio=", "expected a number after ratio=, got ''"),
        ("ratio=6%", "expected a number after ratio=, got '6%'"),
        ("ratio=1", "ratio=1: expected more than 1"),
        ("ratio=inf", "expected more than 1"),
        ("accuracy=1.1", "accuracy=1.1: expected above 0 and up to 1"),
        ("accuracy=0", "expected above 0"),
        ("accuracy=nan", "expected above 0"),
        ("accuracy=-100%", "expected above 0"),
        ("adc_bits=2.5", "expected a whole number from 1"),
        ("adc_bits=0", "expected a whole number from 1"),
        ("adc_bits=nan", "expected a whole number from 1"),
    ],
)
def test_targets_that_cannot_be(text, problem):
    with pytest.raises(BaleError, match="target: ") as error:
        parse_target(text)
    assert problem in str(error.value)


def test_drops_are_below_the_accuracy_before():
    assert Target("accuracy", -0.25).least(0.75) == 0.5
    assert Target("accuracy", 0.9).least(0.75) == 0.9


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (ADCAwareConfig(), "adc_bits"),
        (BlockCirculantConfig(), "block"),
        (MagnitudeConfig(), "density"),
        (SmartDealConfig(), "rate"),
        (StructuredConfig(), "keep"),
        (UniformQuantConfig(), "bits"),
    ],
)
def test_a_ladder_varies_one_field(dense, config, field):
    assert varied_field(config) == field
    settings = settings_of(dense, [config])
    sizes = [setting.packed_bytes for setting in settings]
    assert sizes == sorted(set(sizes), reverse=True)
    ladder = [getattr(rung, field) for rung in config.ladder()]
    places = [ladder.index(getattr(setting.configs[-1], field)) for setting in settings]
    assert places == sorted(places)


def test_given_fields_stay_as_they_are(dense):
    settings = settings_of(dense, [StructuredConfig(0.7), MagnitudeConfig(bits=3)])
    assert {setting.configs[0] for setting in settings} == {StructuredConfig(0.7)}
    assert {setting.configs[1].bits for setting in settings} == {3}
    wide = settings_of(dense, [ADCAwareConfig(rows=64, cell_bits=4)])
    assert [setting.configs[0].adc_bits for setting in wide][-1] == 4  # 3 bits do not hold one cell of 4
    assert {setting.configs[0].rows for setting in wide} == {64}


@pytest.mark.parametrize(
    "config", [MagnitudeConfig(), StructuredConfig(), UniformQuantConfig(), ADCAwareConfig(), SmartDealConfig()]
)
@pytest.mark.parametrize("ratio", [2.5, 3.5])
def test_the_mildest_setting_for_a_ratio(dense, config, ratio):
    before = copy.deepcopy(dense)
    setting = setting_for_ratio(dense, [config], ratio)
    enough = []
    for rung in config.ladder():
        trial = copy.deepcopy(dense)
        enough.append((compress_(trial, rung).ratio >= ratio, rung))
    assert setting.configs == (next(rung for holds, rung in enough if holds),)
    assert same(dense, before)


def test_a_ratio_that_is_out_of_reach_names_the_smallest_file(dense):
    with pytest.raises(BaleError, match=r"ratio=1000 is out of reach; uniform bits 2 reaches \d+\.\d\d"):
        setting_for_ratio(dense, [UniformQuantConfig()], 1000)


def test_no_setting_that_fits_is_the_methods_own_error():
    with pytest.raises(CompressionError, match="block-circulant: fits no layer of Linear"):
        settings_of(nn.Linear(5, 1), [BlockCirculantConfig()])


def test_bits_of_a_converter(dense):
    stacked = with_adc_bits([StructuredConfig(), ADCAwareConfig(rows=64)], 3)
    assert stacked == (StructuredConfig(), ADCAwareConfig(3, rows=64))
    with pytest.raises(CompressionError, match="adc_bits is for adc-aware as the last method, which is uniform"):
        with_adc_bits([UniformQuantConfig()], 3)
    with pytest.raises(CompressionError, match=r"adc-aware\.nonzeros: is given, and a target chooses adc_bits"):
        with_adc_bits([ADCAwareConfig(nonzeros=2)], 3)
    with pytest.raises(CompressionError, match=r"adc-aware\.nonzeros: is given"):
        setting_for_ratio(dense, [ADCAwareConfig(nonzeros=2)], 3)
    with pytest.raises(CompressionError, match=r'smartdeal\.choice: is "nearest", which has no rate'):
        setting_for_ratio(dense, [SmartDealConfig(choice="nearest")], 3)


def test_bisection_finds_the_strongest_that_holds(dense, images, monkeypatch):
    """Accuracy falls along the ladder as it is taken to: all thresholds, against a look at every setting."""
    settings = settings_of(dense, [MagnitudeConfig()])
    falling = {setting.configs: 0.9 - place / 20 for place, setting in enumerate(settings)}
    trained = []

    def compress_only(model, images, configs, *arguments, **options):
        trained.append(tuple(configs))

    monkeypatch.setattr("bale.train.compression_target.settings_of", lambda *arguments: settings)  # once, not 13 times
    monkeypatch.setattr("bale.train.compression_target.compress_and_train", compress_only)
    monkeypatch.setattr("bale.train.compression_target.plain_accuracy", lambda model, images: falling[trained[-1]])
    for place, setting in enumerate(settings):
        found = find_for_accuracy(dense, images, images, [MagnitudeConfig()], 0.9 - place / 20)
        assert found.setting == setting
        assert len(found.tries) <= most_tries(settings) == int(log2(len(settings))) + 1
        assert [each.holds for each in found.tries] == [each.accuracy >= 0.9 - place / 20 for each in found.tries]
    with pytest.raises(BaleError, match=r"no setting keeps an accuracy of 95\.00%; the best of 4 was 90\.00% by magni"):
        find_for_accuracy(dense, images, images, [MagnitudeConfig()], 0.95)


def test_a_search_trains_each_try_from_the_same_weights(dense, images, tmp_path):
    before, told, most = copy.deepcopy(dense), [], []
    how = Retraining(epochs=1, batch_size=8)
    config = MagnitudeConfig(bits=4)

    def search(on_step=None):
        def on_try(number, many, setting):
            told.append((number, setting))
            most.append(many)

        return find_for_accuracy(
            dense, images, images, [config], 0.6, how, on_try=on_try, on_step=on_step, save=tmp_path
        )

    def stop(step):
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(stop)
    told.clear()
    found = search()
    assert same(dense, before)
    assert [number for number, _ in told] == list(range(1, len(found.tries) + 1))
    assert [setting for _, setting in told] == [each.setting for each in found.tries]
    assert max(most) >= len(found.tries)
    alone = copy.deepcopy(dense)
    assert compress_and_train(alone, images, found.setting.configs, how) == found.report
    assert same(found.model, alone)
    accuracies = {each.setting: each.accuracy for each in found.tries}
    assert accuracies[found.setting] == image_accuracy(found.model, images) >= 0.6
