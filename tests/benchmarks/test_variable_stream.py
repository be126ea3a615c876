"""Does a stream cut out of a film show what its plan says, with boxes where the film has them?"""

import itertools
from pathlib import Path

import numpy as np
import pytest
from benchmarks.video import streams
from benchmarks.video.streams import Look, plan, seen_boxes, variable_stream
from hypothesis import given
from hypothesis import strategies as st

from bale.errors import VideoError
from bale.video.film.read import read_film
from bale.video.film.write import write_film

SIZE, WINDOW = (96, 128), (48, 64)


@given(st.integers(0, 30), st.integers(1, 400), st.integers(0, 9))
def test_a_plan_walks_once_through_its_frames_and_stays_in_the_film(start, length, seed):
    sources = range(start, start + length)
    looks = plan(sources, SIZE, WINDOW, seed)
    assert looks == plan(sources, SIZE, WINDOW, seed)
    assert looks[0].source == start and all(look.source in sources for look in looks)
    for before, after in itertools.pairwise(looks):
        assert after.source - before.source == before.stride
        assert np.hypot(after.left - before.left, after.top - before.top) <= before.pan + 2**0.5
        assert before.pan or (after.left, after.top) == (before.left, before.top)
    assert all(0 <= look.left <= 64 and 0 <= look.top <= 48 for look in looks)


def test_a_long_plan_has_every_stride_with_every_pan():
    looks = plan(range(2000), SIZE, WINDOW, seed=0)
    assert len({(look.stride, look.pan) for look in looks}) == 9


def test_boxes_move_with_the_window_and_go_when_less_than_half_is_seen():
    boxes = np.array([[20, 30, 40, 50], [0, 30, 21, 50], [-2, 30, 22, 50], [90, 70, 130, 90]], np.float32)
    seen = seen_boxes(boxes, Look(0, 10, 20, 1, 0.0), WINDOW)
    assert seen.tolist() == [[10, 10, 30, 30], [0, 10, 11, 30], [0, 10, 12, 30]]
    assert seen.dtype == np.float32
    assert seen_boxes(np.zeros((0, 4), np.float32), Look(0, 0, 0, 1, 0.0), WINDOW).shape == (0, 4)


@pytest.fixture
def film(tmp_path, monkeypatch) -> Path:
    """100 frames; frame i has a square of 16 pixels, of level 100 + i, at (3 + i / 2, 40)."""
    monkeypatch.setattr(streams, "WINDOW", WINDOW)
    path = tmp_path / "film.mkv"
    write_film(path, [_marked(frame) for frame in range(100)], 10, options={"crf": "1"})
    return path


def _marked(frame: int) -> np.ndarray:
    image = np.zeros((*SIZE, 3), np.uint8)
    left = 3 + frame // 2
    image[40:56, left : left + 16] = 100 + frame
    return image


def test_a_stream_shows_its_boxes_and_is_made_once(film, tmp_path):
    truth = {i: np.array([[3 + i // 2, 40, 19 + i // 2, 56]], np.float32) for i in range(100)}
    stream = variable_stream(truth, range(20, 100), tmp_path / "cache", seed=1, film=film)
    frames = list(read_film(stream.path, motion=True))
    assert len(frames) == len(stream.boxes) == len(stream.looks)
    shown = 0
    for frame, boxes, look in zip(frames, stream.boxes, stream.looks, strict=True):
        for left, top, right, bottom in boxes.astype(int):
            inside = frame.image[top + 2 : bottom - 2, left + 2 : right - 2]
            if inside.size:
                assert abs(inside.mean() - (100 + look.source)) < 8
                shown += 1
    assert shown > 5
    written = stream.path.stat().st_mtime_ns
    again = variable_stream(truth, range(20, 100), tmp_path / "cache", seed=1, film=film)
    assert again.looks == stream.looks and again.path.stat().st_mtime_ns == written
    assert variable_stream(truth, range(20, 100), tmp_path / "cache", seed=2, film=film).path != stream.path


def test_a_film_that_is_missing_or_too_short_is_an_error(film, tmp_path):
    with pytest.raises(VideoError, match="opencv-doc"):
        variable_stream({}, range(10), tmp_path, 0, tmp_path / "none.avi")
    with pytest.raises(VideoError, match="has no frame"):
        variable_stream({}, range(50, 150), tmp_path, 0, film)
    assert not list(tmp_path.glob("variable-*"))
