"""Do masks hold what moved, what was found before, and a margin around both?"""

import numba
import numpy as np
import pytest
import torch

from bale.errors import VideoError
from bale.video import moving
from bale.video.detections import Detections
from bale.video.frame import BlockMotion, Frame
from bale.video.sparse.where import MovingBlocks

NOTHING = Detections.none()
STILL = np.zeros((64, 96, 3), np.uint8)


def motion(*blocks: tuple[int, int, float]) -> BlockMotion:
    """Blocks of 16 x 16 pixels at a row and column of such, that moved so far to the right."""
    places = np.array([(16 * column, 16 * row, 16, 16) for row, column, _ in blocks], np.int32).reshape(-1, 4)
    displacement = np.array([(right, 0) for *_, right in blocks], np.float32).reshape(-1, 2)
    return BlockMotion((64, 96), places, displacement, np.zeros(len(blocks), bool))


def with_change(row: int, column: int) -> np.ndarray:
    image = STILL.copy()
    image[16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = 9
    return image


def set_blocks(mask: np.ndarray) -> list:
    return [list(map(int, place)) for place in np.argwhere(mask)]


def test_frames_do_not_wait_for_a_compiler(monkeypatch):
    met = []
    loop = moving._changed
    monkeypatch.setattr(moving, "_changed", lambda *given: met.append(tuple(map(numba.typeof, given))) or loop(*given))
    moved = MovingBlocks(source="pixels").start()
    at_start = set(met)
    assert at_start
    for index in range(3):
        moved(Frame(index, index / 10, with_change(0, index)), NOTHING)
    assert len(met) == 3 and set(met) == at_start


def test_of_the_first_frame_and_after_a_lost_one_nothing_is_known():
    moved = MovingBlocks().start()
    assert moved(Frame(0, 0.0, STILL, motion((1, 1, 2.0))), NOTHING) is None
    assert moved(Frame(1, 0.1, None), NOTHING) is None
    assert moved(Frame(2, 0.2, STILL), NOTHING) is None
    assert moved(Frame(3, 0.3, STILL), NOTHING) is not None
    assert moved(Frame(4, 0.4, STILL[:32]), NOTHING) is None


def test_blocks_that_the_codec_moved_are_set_and_of_an_i_frame_those_that_changed():
    moved = MovingBlocks(dilate=0).start()
    moved(Frame(0, 0.0, STILL), NOTHING)
    # The codec is believed, though pixels elsewhere changed.
    assert set_blocks(moved(Frame(1, 0.1, with_change(0, 0), motion((1, 2, 3.0), (2, 2, 0.1))), NOTHING)) == [[1, 2]]
    assert set_blocks(moved(Frame(2, 0.2, STILL), NOTHING)) == [[0, 0]]
    by_pixels = MovingBlocks(dilate=0, source="pixels").start()
    by_pixels(Frame(0, 0.0, STILL), NOTHING)
    assert set_blocks(by_pixels(Frame(1, 0.1, with_change(3, 5), motion((1, 2, 3.0))), NOTHING)) == [[3, 5]]


def test_thresholds_are_grey_levels_and_pixels():
    moved = MovingBlocks(dilate=0, threshold=9.0, motion=4.0).start()
    moved(Frame(0, 0.0, STILL), NOTHING)
    assert not moved(Frame(1, 0.1, with_change(3, 5)), NOTHING).any()
    assert not moved(Frame(2, 0.2, STILL, motion((1, 2, 3.0))), NOTHING).any()


def test_earlier_boxes_are_joined_and_both_are_dilated():
    moved = MovingBlocks(dilate=1).start()
    moved(Frame(0, 0.0, STILL), NOTHING)
    box = Detections(torch.tensor([[80.0, 0.0, 90.0, 10.0]]), torch.ones(1), torch.zeros(1, dtype=torch.int64))
    mask = moved(Frame(1, 0.1, STILL, motion((3, 0, 1.0))), box)
    assert set_blocks(mask) == [[0, 4], [0, 5], [1, 4], [1, 5], [2, 0], [2, 1], [3, 0], [3, 1]]


def test_settings_out_of_range_are_named():
    with pytest.raises(VideoError, match="dilate"):
        MovingBlocks(dilate=-1)
    with pytest.raises(VideoError, match=r"dilate 1.0: expected a whole number of blocks"):
        MovingBlocks(dilate=1.0)  # pyright: ignore
    with pytest.raises(VideoError, match="threshold"):  # nothing is above it: all would stand still
        MovingBlocks(threshold=float("nan"))
    with pytest.raises(VideoError, match="source"):
        MovingBlocks(source="eyes")
