"""A name on the command line means two sets of images, or says which names there are."""

import pytest
import torch

from bale.data import digits, image_data, write_idx
from bale.errors import DataError


def write_split(folder, split, labels, suffix=""):
    images = torch.arange(len(labels) * 6).byte().reshape(-1, 2, 3)
    write_idx(folder / f"{split}-images-idx3-ubyte{suffix}", images)
    write_idx(folder / f"{split}-labels-idx1-ubyte{suffix}", torch.tensor(labels, dtype=torch.uint8))


def test_digits():
    for images, split in zip(image_data("digits"), ("train", "test"), strict=True):
        assert torch.equal(images.images, digits(split, size=28).images)


def test_a_folder_of_idx_files(tmp_path):
    write_split(tmp_path, "train", [0, 1, 1])
    write_split(tmp_path, "t10k", [3, 0], suffix=".gz")
    train, test = image_data(f"idx:{tmp_path}")
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1, 1], [3, 0])
    assert train.classes == test.classes == ("0", "1", "2", "3")  # of both sides together


def test_missing_files_are_named(tmp_path):
    write_split(tmp_path, "train", [0, 1, 1])
    with pytest.raises(DataError, match=r"has no t10k-images-idx3-ubyte\[\.gz\], no t10k-labels-idx1-ubyte\[\.gz\]$"):
        image_data(f"idx:{tmp_path}")


@pytest.mark.parametrize("spec", ["mnist", "", "idx", "idx:", "Digits"])
def test_other_names_are_refused_with_those_that_there_are(spec):
    with pytest.raises(
        DataError, match=f"images '{spec}' are unknown; known are fashion-mnist, digits, and idx:FOLDER"
    ):
        image_data(spec)
