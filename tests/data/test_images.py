"""Images are bytes with labels that fit them; parts of them are images too."""

import pytest
import torch

from bale.data import Images
from bale.errors import DataError


def images(count=5, **others):
    generator = torch.Generator().manual_seed(0)
    given = {
        "images": torch.randint(256, (count, 2, 3, 4), generator=generator, dtype=torch.uint8),
        "labels": torch.arange(count) % 3,
        "classes": ("a", "b", "c"),
        "name": "made",
    }
    return Images(**{**given, **others})


def test_pixels_are_the_bytes_between_0_and_1():
    some = images()
    pixels = some.pixels()
    assert pixels.dtype == torch.float32 and pixels.shape == (5, 2, 3, 4)
    assert torch.equal((pixels * 255).round().byte(), some.images)
    ends = images(images=torch.tensor([0, 255] * 60).byte().reshape(5, 2, 3, 4)).pixels()
    assert ends.unique().tolist() == [0.0, 1.0]


@pytest.mark.parametrize("rows", [slice(3), slice(1, None, 2), slice(0), [4, 0, 0], torch.tensor([2, 1])])
def test_a_part_has_the_same_rows_of_both(rows):
    whole = images()
    part = whole[rows]
    assert torch.equal(part.images, whole.images[rows]) and torch.equal(part.labels, whole.labels[rows])
    assert len(part) == len(part.labels)
    assert (part.classes, part.name) == (whole.classes, whole.name)


def test_take_is_the_beginning_and_never_less_than_was_asked_for():
    whole = images()
    assert [len(whole.take(count)) for count in (0, 2, 5)] == [0, 2, 5]
    assert torch.equal(whole.take(2).images, whole[:2].images)
    for count in (6, -1):
        with pytest.raises(DataError, match=f"made: has 5 images, and {count} of them were asked for"):
            whole.take(count)


def test_one_number_is_no_part():
    with pytest.raises(TypeError, match=r"got 3; one is images\[i : i \+ 1\]"):
        images()[3]


def test_a_short_description():
    assert repr(images()) == "<Images made: 5 of 2 x 3 x 4, 3 classes>"


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"images": torch.zeros(5, 2, 3, 4)}, r"of uint8, got \[5, 2, 3, 4\] of float32"),
        ({"images": torch.zeros(5, 3, 4, dtype=torch.uint8)}, r"of uint8, got \[5, 3, 4\] of uint8"),
        ({"labels": torch.zeros(5, dtype=torch.int32)}, r"labels are \[n\] of int64, got \[5\] of int32"),
        ({"labels": torch.zeros(5, 1, dtype=torch.int64)}, r"labels are \[n\] of int64, got \[5, 1\] of int64"),
        ({"labels": torch.zeros(4, dtype=torch.int64)}, "5 images and 4 labels; expected one label an image"),
        ({"labels": torch.tensor([0, 1, 3, 0, 4])}, "the label of image 2 is 3; expected 0 to 2, since there are 3"),
        ({"labels": torch.tensor([0, -1, 3, 0, 4])}, "the label of image 1 is -1; expected 0 to 2"),
        ({"classes": ()}, r"classes are a tuple with at least one name, got \(\)"),
    ],
)
def test_what_does_not_fit_is_refused(wrong, problem):
    with pytest.raises(DataError, match=f"^made: .*{problem}"):
        images(**wrong)
