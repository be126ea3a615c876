"""Digits are scikit-learn's, every one on one side of the split, and every class has its share of both."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from bale.data import digits
from bale.data.digits import _shares
from bale.errors import DataError


@pytest.fixture(scope="module")
def original():
    pixels, labels = load_digits(return_X_y=True)
    return torch.from_numpy(pixels).reshape(-1, 1, 8, 8), torch.from_numpy(labels)


def keys(pixels, labels):
    return sorted((int(label), bytes(image.flatten().tolist())) for image, label in zip(pixels, labels, strict=True))


def test_both_sides_together_are_all_of_them(original):
    train, test = digits("train", size=8), digits("test", size=8)
    assert (len(train), len(test)) == (1437, 360)
    pixels = torch.cat([train.images, test.images]).double() * 16 / 255
    assert (pixels - pixels.round()).abs().max() < 0.04  # half a shade of 255
    assert keys(pixels.round().byte(), torch.cat([train.labels, test.labels])) == keys(original[0].byte(), original[1])


def test_every_digit_has_its_share(original):
    for split, size in (("train", 1437), ("test", 360)):
        counts = digits(split, size=8).labels.bincount()
        assert (counts - original[1].bincount() * size / 1797).abs().max() < 1


def test_shares_are_of_the_total():
    assert _shares(np.array([1, 1, 1]), 2).tolist() == [1, 1, 0]
    assert _shares(np.array([10, 0, 30]), 4).tolist() == [1, 0, 3]
    assert _shares(np.array([5, 6]), 11).tolist() == [5, 6]


def test_every_call_returns_the_same_and_any_beginning_has_all_digits():
    one, other = digits("train"), digits("train")
    assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)
    assert one.take(100).labels.unique().numel() == 10


@pytest.mark.parametrize(
    ("size", "side", "before"), [(8, 1, 0), (9, 1, 0), (15, 1, 3), (16, 2, 0), (28, 3, 2), (32, 4, 0)]
)
def test_a_pixel_becomes_a_square_amid_a_margin(size, side, before):
    small, large = digits("test", size=8).images[:20], digits("test", size=size).images[:20]
    assert large.shape == (20, 1, size, size)
    expected = torch.zeros_like(large)
    for row in range(8 * side):
        for column in range(8 * side):
            expected[:, :, before + row, before + column] = small[:, :, row // side, column // side]
    assert torch.equal(large, expected)


def test_shades_reach_from_black_to_white():
    some = digits("train", size=8)
    assert (int(some.images.min()), int(some.images.max()), some.images.unique().numel()) == (0, 255, 17)
    assert (some.classes, some.name) == (tuple("0123456789"), "digits")


def test_other_splits_and_sizes_are_refused():
    with pytest.raises(DataError, match="split 'valid' is unknown; the digits have train and test"):
        digits("valid")
    with pytest.raises(DataError, match="size must be at least 8, the side of the images, got 7"):
        digits(size=7)
