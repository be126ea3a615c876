"""Are a codec's motion vectors right in sign, size and distance, on films whose motion is known?"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.video.films import sliding, texture, written

from bale.video.film.read import read_film
from bale.video.film.references import References
from bale.video.film.vectors import block_motion
from bale.video.frame import BlockMotion, Frame

STEP = st.integers(-5, 5)


def median(motion: BlockMotion) -> np.ndarray:
    return np.median(motion.displacement[~motion.intra], axis=0)


def motions(film: Path) -> list[BlockMotion | None]:
    return [frame.motion for frame in read_film(film, motion=True)]


def check(film: Path, right: int, down: int, unknown: set[int]) -> None:
    found = motions(film)
    assert {index for index, motion in enumerate(found) if motion is None} == unknown
    for motion in found:
        if motion is not None:
            assert np.abs(median(motion) - (right, down)).max() <= 0.25
            covered = (motion.blocks[:, 2] * motion.blocks[:, 3]).sum()
            assert covered == motion.size[0] * motion.size[1]  # predicted and intra blocks tile the frame


@given(STEP, STEP)
@settings(max_examples=6)
def test_displacements_of_h264_without_b_frames(tmp_path_factory, right, down):
    film = written(tmp_path_factory.mktemp("film") / "a.mkv", sliding(right, down), bf="0", refs="1")
    check(film, right, down, unknown={0})


@given(STEP, STEP, st.sampled_from(["none", "normal", "strict"]))
@settings(max_examples=8)
def test_displacements_of_h264_with_b_frames_and_pyramids_of_them(tmp_path_factory, right, down, pyramid):
    film = written(
        tmp_path_factory.mktemp("film") / "a.mp4",
        sliding(right, down),
        bf="3",
        refs="1",
        b_pyramid=pyramid,
        b_adapt="0",
    )
    check(film, right, down, unknown={0})


@given(STEP, STEP, st.sampled_from(["0", "3"]))
@settings(max_examples=8)
def test_displacements_of_h264_with_several_references(tmp_path_factory, right, down, b_frames):
    film = written(tmp_path_factory.mktemp("film") / "a.mp4", sliding(right, down), bf=b_frames, refs="3")
    check(film, right, down, unknown={0})


@pytest.mark.parametrize("right, down", [(3, -1), (-2, 1)])  # further its search gets lost in noise
def test_displacements_of_mpeg2_with_b_frames(tmp_path, right, down):
    # Its decoder keeps the last picture's vectors to itself.
    film = written(tmp_path / "a.mkv", sliding(right, down), "mpeg2video", bf="2", b="2000000")
    check(film, right, down, unknown={0, 11})


@pytest.mark.parametrize("codec, name", [("mpeg4", "a.mp4"), ("msmpeg4", "a.avi")])
def test_displacements_of_mpeg4(tmp_path, codec, name):
    check(written(tmp_path / name, sliding(-3, 2), codec, b="2000000"), -3, 2, unknown={0})


def test_what_mpeg4_exports_for_b_frames_is_not_believed(tmp_path):
    film = written(tmp_path / "a.mkv", sliding(3, -1), "mpeg4", bf="2", b="2000000")
    found = motions(film)
    assert [index for index, motion in enumerate(found) if motion is not None] == [3, 6, 9]
    assert all(np.abs(median(found[index]) - (3, -1)).max() <= 0.25 for index in (3, 6, 9))


def test_a_codec_that_exports_nothing_leaves_motion_unknown(tmp_path):
    assert motions(written(tmp_path / "a.mkv", sliding(3, -1, 4), "ffv1")) == [None] * 4


def test_motion_is_only_there_when_it_is_asked_for(tmp_path):
    film = written(tmp_path / "a.mp4", sliding(3, -1))
    assert all(frame.motion is None for frame in read_film(film))


@pytest.mark.parametrize("codec, name", [("h264", "a.mp4"), ("mpeg4", "a.mp4"), ("msmpeg4", "a.avi")])
def test_skipped_blocks_stay_and_new_content_is_intra(tmp_path, codec, name):
    still = texture(96, 128)

    def images() -> Iterator[np.ndarray]:
        for frame in range(6):
            image = still.copy()
            if frame == 3:
                image[32:64, 48:80] = 250
            yield image

    options = {"bf": "0", "refs": "1"} if codec == "h264" else {"b": "2000000"}
    found = motions(written(tmp_path / name, images(), codec, **options))
    for index in (1, 2):
        assert not found[index].intra.any() and not found[index].displacement.any()
    intra = found[3].blocks[found[3].intra]
    assert len(intra) and ((intra[:, 0] >= 48) & (intra[:, 0] < 80) & (intra[:, 1] >= 32) & (intra[:, 1] < 64)).all()


def vectors(*rows: tuple[int, ...]) -> np.ndarray:
    names = ("source", "w", "h", "dst_x", "dst_y", "motion_x", "motion_y", "motion_scale")
    return np.array(list(rows), dtype=[(name, "i4") for name in names])


def test_two_predictions_of_a_block_are_averaged():
    both = vectors((-1, 16, 16, 8, 8, -16, 8, 4), (1, 16, 16, 8, 8, 40, -16, 4))
    motion = block_motion(both, (16, 16), past=2, future=4)
    assert motion.blocks.tolist() == [[0, 0, 16, 16]]
    np.testing.assert_allclose(motion.displacement, [[(4 / 2 + 10 / 4) / 2, (-2 / 2 - 4 / 4) / 2]])


def test_blocks_beyond_the_border_are_cut_off():
    motion = block_motion(vectors((-1, 16, 16, 8, 8, 0, 0, 4)), (10, 20), past=1, future=None)
    assert motion.blocks.tolist() == [[0, 0, 16, 10], [16, 0, 4, 10]]
    assert motion.intra.tolist() == [False, True]


@pytest.mark.parametrize("source, past, future", [(-1, None, 1), (1, 1, None)])
def test_a_vector_without_a_reference_means_nothing(source, past, future):
    assert block_motion(vectors((source, 16, 16, 8, 8, 4, 4, 4)), (16, 16), past, future) is None


def h264(kept: int, kind: int) -> bytes:
    unit = bytes([kept << 5 | kind, 1, 2, 3])
    return len(unit).to_bytes(4, "big") + unit


def test_references_are_the_nearest_that_are_kept_and_were_decoded_before():
    references = References("h264", bytes([1, 0, 0, 0, 3]))
    decoded = [(0, 3, 5), (4, 2, 1), (2, 1, 1), (1, 0, 1), (3, 0, 1), (5, 2, 5), (6, 2, 1)]
    found = [references.decoded(stamp, h264(kept, kind)) for stamp, kept, kind in decoded]
    assert [each[:2] for each in found] == [
        ((), None), ((0,), None), ((0,), 4), ((0,), 2), ((2, 0), 4), ((), None), ((5,), None)
    ]  # fmt: skip
    assert [each.kept for each in found] == [True, True, True, False, False, True, True]


def test_units_after_start_codes_are_found_too():
    references = References("h264", None)
    packets = [(0, 0x65), (2, 0x41), (1, 0x01), (3, 0x41)]
    found = [references.decoded(stamp, b"\0\0\0\1\x09\x10\0\0\1" + bytes([head, 7])) for stamp, head in packets]
    assert [each[:2] for each in found] == [((), None), ((0,), None), ((0,), 2), ((2, 0), None)]


def test_frames_keep_their_order_and_numbers_while_they_wait_for_later_ones(tmp_path):
    film = written(tmp_path / "a.mp4", sliding(2, 1), bf="3", b_adapt="0")

    def key(frame: Frame) -> tuple[int, float, bytes]:
        return frame.index, frame.time, frame.image.tobytes()

    assert [key(frame) for frame in read_film(film)] == [key(frame) for frame in read_film(film, motion=True)]
