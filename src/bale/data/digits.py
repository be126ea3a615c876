"""Handwritten digits that need no download: those that scikit-learn brings along.

Alpaydin, Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998: 1,797 images,
8 x 8, of 13 people who are not told apart, so that everyone's hand is on both sides of the split made here.
"""

from typing import Literal

import numpy as np
import torch

from bale.data.images import Images
from bale.errors import DataError

_SIDE = 8
_TEST = 360  # of 1,797
_SEED = 1797


def digits(split: Literal["train", "test"] = "train", size: int = 28) -> Images:
    """Read 1,437 images of training or 360 of the test, `size` x `size`.

    Every digit has its share of the test; which images these are, and the order of all, is the same in every process. A
    pixel becomes a square of the largest whole side that fits into `size`, and the rest is a black margin: 8 pixels are
    24 of 28. `size=8` leaves the images as they are. Their 17 shades of gray are spread over 0 to 255.

    Raises `DataError` for a size below 8, and for another split.
    """
    if split not in ("train", "test"):
        raise DataError(f"split {split!r} is unknown; the digits have train and test")
    if size < _SIDE:
        raise DataError(f"size must be at least {_SIDE}, the side of the images, got {size}")
    from sklearn.datasets import load_digits  # here, since it takes as long as all of bale

    pixels, labels = load_digits(return_X_y=True)  # [n, 64] of 0..16, [n]
    images = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, _SIDE, _SIDE)
    chosen = _numbers(labels, split)
    return Images(
        images=torch.from_numpy(_enlarged(images[chosen], size))[:, None],
        labels=torch.from_numpy(labels[chosen]).long(),
        classes=tuple("0123456789"),
        name="digits",
    )


def _numbers(labels: np.ndarray, split: str) -> np.ndarray:
    """Return which images are on one side of the split, in an order that looks random."""
    order = np.argsort(np.random.default_rng(_SEED).random(labels.size), kind="stable")
    counts = np.bincount(labels)
    shares = _shares(counts, _TEST)
    rank = np.empty(labels.size, np.int64)  # of an image among those of its digit
    for digit, count in enumerate(counts):
        rank[order[labels[order] == digit]] = np.arange(count)
    in_test = rank < shares[labels]
    return order[in_test[order] == (split == "test")]


def _shares(counts: np.ndarray, total: int) -> np.ndarray:
    """Divide `total` in proportion to `counts`: whole parts first, then the largest remainders."""
    whole, remainder = np.divmod(counts * total, counts.sum())
    largest = np.argsort(-remainder, kind="stable")[: total - whole.sum()]
    whole[largest] += 1
    return whole


def _enlarged(images: np.ndarray, size: int) -> np.ndarray:
    """Enlarge images [n, 8, 8] to [n, size, size]: every pixel a square, the rest a black margin."""
    side = size // _SIDE
    before = (size - side * _SIDE) // 2
    after = size - side * _SIDE - before
    squares = images.repeat(side, axis=1).repeat(side, axis=2)
    return np.pad(squares, ((0, 0), (before, after), (before, after)))
