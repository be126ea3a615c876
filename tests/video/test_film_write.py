"""Is a film whole or not there, and are boxes drawn where they are?"""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from tests.video.films import sliding

from bale.errors import VideoError
from bale.video.detections import Detections
from bale.video.film.draw import COLOURS, draw_boxes
from bale.video.film.read import film_info, read_film
from bale.video.film.write import write_film


def test_a_film_has_its_images_and_rate(tmp_path):
    path = tmp_path / "a.mp4"
    assert write_film(path, sliding(1, 1, 5), 29.97) == 5
    assert film_info(path).rate == pytest.approx(29.97)
    assert len(list(read_film(path))) == 5
    assert list(tmp_path.iterdir()) == [path]


def test_odd_sides_grow_by_a_pixel(tmp_path):
    path = tmp_path / "a.mp4"
    write_film(path, sliding(1, 0, 3, 33, 47), 10, options={"crf": "1"})
    frame = next(read_film(path))
    assert frame.size == (34, 48)
    assert np.abs(frame.image[:, 47].astype(int) - frame.image[:, 46]).mean() < 6


@pytest.mark.parametrize("rate", [0.001, 1000])
def test_the_slowest_and_the_fastest_film_lose_nothing(tmp_path, rate):
    path = tmp_path / "a.mp4"
    write_film(path, sliding(1, 1, 5), rate)
    assert film_info(path).rate == pytest.approx(rate)
    assert [frame.time for frame in read_film(path)] == pytest.approx([place / rate for place in range(5)], rel=1e-2)


@pytest.mark.parametrize("rate", [0, -5, 1e-4, 5000, float("nan"), float("inf")])
def test_a_rate_that_no_film_has_is_refused(tmp_path, rate):
    with pytest.raises(VideoError, match=r"a.mp4: rate .*: expected 0.001 to 1000 frames a second"):
        write_film(tmp_path / "a.mp4", sliding(1, 1, 2), rate)
    assert not list(tmp_path.iterdir())


def failing() -> Iterator[np.ndarray]:
    yield from sliding(1, 0, 2)
    raise RuntimeError("the camera was unplugged")


@pytest.mark.parametrize(
    "images, error, said",
    [
        (failing, RuntimeError, "unplugged"),
        (list, VideoError, "no images"),
        (lambda: [np.zeros((8, 8), np.uint8)], VideoError, "image 0 is uint8"),
        (lambda: [[0, 0, 0]], VideoError, "image 0 is a list"),
        (
            lambda: [np.zeros((32, 32, 3), np.uint8), np.zeros((32, 48, 3), np.uint8)],
            VideoError,
            "image 1 is .*one size",
        ),
    ],
)
def test_a_film_that_fails_leaves_what_was_there(tmp_path, images, error, said):
    path = tmp_path / "a.mp4"
    path.write_text("before")
    with pytest.raises(error, match=said):
        write_film(path, images(), 10)
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_a_film_that_fails_late_leaves_no_part(tmp_path):
    with pytest.raises(RuntimeError, match="unplugged"):  # this encoder writes each image at once
        write_film(tmp_path / "a.mp4", failing(), 10, options={"tune": "zerolatency"})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name, codec", [("a.mp4", "no-such-codec"), ("none/a.mp4", "h264"), ("a.unknown", "h264")])
def test_what_cannot_be_written_is_told_with_its_path(tmp_path, name, codec):
    with pytest.raises(VideoError, match=f"{name}: cannot be written as {codec}"):
        write_film(tmp_path / name, sliding(1, 0, 2), 10, codec)


@pytest.mark.parametrize("kind", ["key", "carried"])
def test_boxes_are_drawn_in_the_colour_of_their_kind(kind):
    image = np.zeros((100, 120, 3), np.uint8)
    found = Detections(torch.tensor([[30.0, 40.0, 70.0, 90.0]]), torch.tensor([0.5]), torch.tensor([1]))
    drawn = draw_boxes(image, found, kind, ["cat", "dog"])
    assert not image.any()
    for row, column in [(40, 30), (40, 69), (89, 30), (89, 69)]:
        assert drawn[row, column].tolist() == list(COLOURS[kind])
    assert not drawn[60, 50].any()
    assert not drawn[91:].any() and not drawn[41:, 71:].any()


def test_no_boxes_change_nothing():
    image = next(sliding(0, 0, 1))
    assert (draw_boxes(image, Detections.none()) == image).all()
