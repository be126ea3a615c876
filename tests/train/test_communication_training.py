"""Connections that go while a network is trained again: exact where it was stopped, and found for an accuracy."""

import copy

import pytest
import torch
from tests.compress.traffic_made import on_a_line
from torch import nn

from bale.compress import CommunicationAwareConfig, all_weights, communication_cost
from bale.data import Images
from bale.errors import CheckpointError
from bale.train import Retraining, compress_and_train, find_for_accuracy, setting_for_ratio, train_images
from bale.train.compression_target import varied_field

HOW = Retraining(epochs=4, batch_size=8, seed=2)
EPOCH = 3  # steps: 24 images in mini-batches of 8


@pytest.fixture(scope="module")
def images():
    """Three classes: the bright third of an image."""
    pixels = torch.randint(0, 120, (24, 1, 6, 6), generator=torch.Generator().manual_seed(5))
    labels = torch.arange(24) % 3
    for row, label in enumerate(labels.tolist()):
        pixels[row, 0, 2 * label : 2 * label + 2] += 120
    return Images(pixels.byte(), labels, ("top", "middle", "bottom"), "thirds")


@pytest.fixture(scope="module")
def dense(images):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 16), nn.ReLU(), nn.Linear(16, 3))
    train_images(model, images, epochs=8, batch_size=8, lr=0.01)
    return model


def same(one, other):
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize(
    ("start", "after"),
    [("trained", 1), ("trained", 2 * EPOCH), ("trained", 2 * EPOCH + 1), ("distance", EPOCH + 1)],
)
def test_what_was_stopped_goes_on_exactly(dense, images, tmp_path, start, after):
    traffic = on_a_line(dense)
    configs = [CommunicationAwareConfig(0.3, start, rewire=0.5).on(traffic)]
    whole, first, second = (copy.deepcopy(dense) for _ in range(3))
    report = compress_and_train(whole, images, configs, HOW)
    told = []

    def on_step(step):
        told.append(step)
        if len(told) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress_and_train(first, images, configs, HOW, on_step=on_step, save=tmp_path)
    assert compress_and_train(second, images, configs, HOW, save=tmp_path) == report
    assert same(second, whole)
    weights = all_weights(whole)
    assert set(weights) == {row.name for row in report.weights}
    ones = {name: torch.ones_like(weight) for name, weight in weights.items()}
    assert communication_cost(traffic, weights) <= 0.3 * communication_cost(traffic, ones)


def test_a_folder_of_another_chip_is_refused(dense, images, tmp_path):
    def stop(step):
        raise KeyboardInterrupt

    config = CommunicationAwareConfig(0.3)
    with pytest.raises(KeyboardInterrupt):
        compress_and_train(
            copy.deepcopy(dense), images, [config.on(on_a_line(dense))], HOW, on_step=stop, save=tmp_path
        )
    other = config.on(on_a_line(dense, rows=10))
    with pytest.raises(CheckpointError, match="another"):
        compress_and_train(copy.deepcopy(dense), images, [other], HOW, save=tmp_path)


def test_a_share_is_found_for_an_accuracy_or_a_ratio(dense, images):
    config = CommunicationAwareConfig().on(on_a_line(dense))
    assert varied_field(config) == "cost"
    found = find_for_accuracy(dense, images, images, [config], 0.9, HOW)
    assert found.setting.configs[-1].traffic is config.traffic
    assert any(each.holds for each in found.tries) and found.setting.configs[-1].cost < 0.9
    assert 0 < setting_for_ratio(dense, [config], 4.5).configs[-1].cost < 0.9
