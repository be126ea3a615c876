"""Do block matching, the measures of motion and the grids of moving blocks say what a plain loop says?"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.video.films import sliding, texture, written

from bale.errors import VideoError
from bale.video.film.read import read_film
from bale.video.frame import BlockMotion, Frame
from bale.video.match import grey, match_blocks
from bale.video.motion import BlockMatching, CodecMotion, DisMotion, FlowError, camera_motion, mean_motion
from bale.video.moving import changed_blocks, moving_blocks


def plain_match(before: np.ndarray, after: np.ndarray, block: int, reach: int, zero_bias: float) -> list:
    height, width = after.shape
    found = []
    for top in range(0, height, block):
        for left in range(0, width, block):
            part = after[top : top + block, left : left + block].astype(int)
            options = []
            for y in range(-reach, reach + 1):
                for x in range(-reach, reach + 1):
                    if min(top - y, left - x) < 0 or top - y + len(part) > height or left - x + part.shape[1] > width:
                        continue
                    source = before[top - y : top - y + len(part), left - x : left - x + part.shape[1]]
                    options.append((int(np.abs(part - source).sum()), x * x + y * y, x, y))
            stay = next(option for option in options if option[1] == 0)
            moved = [option for option in options if option[0] < stay[0] - int(zero_bias * part.size)]
            best = min(moved, default=stay)
            found.append((best[0], best[1]))
    return found


@given(
    st.integers(5, 14), st.integers(5, 14), st.integers(3, 8), st.integers(1, 4), st.integers(0, 4), st.integers(0, 99)
)
@settings(max_examples=25)
def test_matching_finds_what_a_plain_search_finds(height, width, block, reach, zero_bias, seed):
    rng = np.random.default_rng(seed)
    before, after = rng.integers(0, 8, (2, height, width)).astype(np.uint8)  # few levels, so that there are ties
    displacement, difference = match_blocks(before, after, block, reach, zero_bias)
    lengths = (displacement**2).sum(-1).ravel()
    assert list(zip(difference.ravel(), lengths, strict=True)) == plain_match(before, after, block, reach, zero_bias)


def test_grey_is_the_mean_of_squares():
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3)).astype(np.uint8)
    luma = (image * np.array([77, 150, 29])).sum(-1) / 256
    expected = [[luma[y : y + 2, x : x + 2].mean() for x in range(0, 9, 2)] for y in range(0, 7, 2)]
    assert (grey(image, 2) == np.floor(expected)).all()


@given(st.integers(-6, 6), st.integers(-6, 6))
@settings(max_examples=10)
def test_blocks_of_a_sliding_image_are_found_again(right, down):
    before, after = sliding(2 * right, 2 * down, 2)
    motion = BlockMatching(reach=12).blocks(before, after)
    assert np.median(motion.displacement, axis=0).tolist() == [2 * right, 2 * down]
    assert (motion.blocks[:, 2] * motion.blocks[:, 3]).sum() == 96 * 128


def measured(measure: CodecMotion | BlockMatching | DisMotion | FlowError, frames: list[Frame]) -> list[float]:
    of = measure.start()
    return [of(frame) for frame in frames]


@pytest.mark.parametrize(
    "measure, tolerance", [(BlockMatching(camera=1), 1.5), (DisMotion(camera=1), 1.5), (CodecMotion(camera=1), 0.6)]
)
def test_measures_agree_on_how_far_an_image_slides(tmp_path, measure, tolerance):
    film = written(tmp_path / "a.mp4", sliding(4, -2), refs="1")
    found = measured(measure, list(read_film(film, motion=True)))
    assert found[0] == 0  # and at the border, where content comes in, all of them are off
    assert np.median(found[1:]) == pytest.approx(np.hypot(4, 2), abs=tolerance)


@pytest.mark.parametrize("measure", [BlockMatching(camera=0.2), DisMotion(camera=0.2), CodecMotion(camera=0.2)])
def test_of_the_cameras_motion_a_share_counts(tmp_path, measure):
    film = written(tmp_path / "a.mp4", sliding(6, 0), refs="1")
    part, whole = (
        np.median(measured(each, list(read_film(film, motion=True)))[1:]) for each in (measure, type(measure)(camera=1))
    )
    assert whole == pytest.approx(6, abs=1.5)
    assert part < 0.6 * whole  # content comes in at the border, and counts as it did


def test_what_moves_before_a_camera_that_pans_counts_as_before_one_that_stands():
    blocks = np.array([[16 * place, 0, 16, 16] for place in range(4)])
    own = np.array([[0, 0], [0, 0], [0, 0], [3, 4]], np.float32)
    standing = BlockMotion((16, 80), blocks, own, np.array([False] * 4))
    panning = BlockMotion((16, 64), blocks, own + [7, -2], np.array([False] * 4))
    assert camera_motion(standing).tolist() == [0, 0] and camera_motion(panning).tolist() == [7, -2]
    assert mean_motion(standing) == mean_motion(standing, camera=0) == pytest.approx(5 / 5)
    assert mean_motion(panning, camera=0) == pytest.approx(5 / 4)
    assert mean_motion(panning, camera=1) == mean_motion(panning) > 7
    # What no block covers stands: here that is most of the frame.
    assert camera_motion(BlockMotion((16, 640), blocks, own + [7, -2], np.array([False] * 4))).tolist() == [0, 0]
    assert camera_motion(BlockMotion((16, 64), blocks, own, np.array([True] * 4))).tolist() == [0, 0]


def test_flow_that_explains_a_frame_leaves_no_error():
    slides = list(sliding(4, 2, 4))
    noise = np.random.default_rng(0).integers(0, 256, slides[0].shape, dtype=np.uint8)
    patched = [image.copy() for image in slides]
    patched[2][40:72, 40:72] = noise[40:72, 40:72]
    frames, new = ([Frame(i, 0.0, image) for i, image in enumerate(images)] for images in (slides, patched))
    still = measured(FlowError(), [Frame(i, 0.0, slides[0]) for i in range(3)])
    assert still == [0, 0, 0]
    explained, unexplained = measured(FlowError(share=0.1), frames), measured(FlowError(share=0.1), new)
    assert unexplained[:2] == explained[:2] and unexplained[2] > 1.5 * explained[2]
    assert measured(FlowError(share=0.5), new)[2] < unexplained[2]


@pytest.mark.parametrize("measure", [BlockMatching(camera=1), DisMotion(camera=1)])
def test_lost_frames_and_new_sizes_repeat_the_last_measure(measure):
    images = list(sliding(4, 0, 5))
    steps = [images[0], images[1], None, images[3], np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)]
    found = measured(measure, [Frame(i, i / 10, image) for i, image in enumerate(steps)])
    assert found[2] == found[1] > 2
    assert found[3] == pytest.approx(found[1], rel=0.5)  # of two frames, halved
    assert found[4] == found[3] and found[5] == 0


def test_a_frame_of_unknown_motion_repeats_the_last_measure():
    known = BlockMotion((16, 32), np.array([[0, 0, 16, 16]]), np.array([[3.0, 4.0]], np.float32), np.array([False]))
    frames = [Frame(i, 0.0, None, motion) for i, motion in enumerate([None, known, None])]
    assert measured(CodecMotion(camera=1), frames) == [0, 2.5, 2.5]


def test_a_film_that_never_tells_of_motion_is_no_still_scene():
    image, blocks = np.zeros((16, 16, 3), np.uint8), np.array([[0, 0, 16, 16]], np.int32)
    known = BlockMotion((16, 16), blocks, np.array([[3.0, 4.0]], np.float32), np.array([False]))

    def frames(*motions):
        return [Frame(index, 0.0, image, motion) for index, motion in enumerate(motions)]

    measure = CodecMotion(patience=3, camera=1)
    with pytest.raises(VideoError, match=r"frame 3: .* any of 4 frames; read the film with motion=True, or take Block"):
        measured(measure, frames(None, None, None, None))
    assert measured(measure, frames(None, None, None)) == [0, 0, 0]
    assert measured(measure, frames(None, None, None, known, *[None] * 9)) == [0, 0, 0] + [5] * 10
    torn = [Frame(index, 0.0, None) for index in range(9)]
    assert measured(measure, torn) == [0] * 9  # which says nothing of the codec


def test_intra_blocks_count_as_moved_by_a_macroblock():
    blocks = np.array([[0, 0, 16, 16], [16, 0, 16, 16]])
    motion = BlockMotion((16, 64), blocks, np.array([[3.0, 4.0], [0, 0]], np.float32), np.array([False, True]))
    assert mean_motion(motion) == pytest.approx((5 + 16) / 4)
    assert mean_motion(motion, intra=1) == pytest.approx((5 + 1) / 4)


@pytest.mark.parametrize("size", [(2, 5), (17, 23), (8, 40), (16, 96), (24, 200), (200, 24)])  # some end OpenCV's DIS
def test_small_frames_are_measured_by_dis(size):
    images = [np.roll(texture(*size), i, axis=1) for i in (0, 1, 2, 2)]
    frames = [Frame(i, 0.0, image) for i, image in enumerate(images)]
    assert measured(FlowError(), frames)[0] == 0
    found = measured(DisMotion(camera=1), frames)
    assert all(np.isfinite(found)) and found[0] == found[3] == 0
    assert min(size) < 16 or found[1] > 0


@pytest.mark.parametrize(
    "make", [lambda: BlockMatching(shrink=0), lambda: BlockMatching(block=15), lambda: BlockMatching(zero_bias=-1),
             lambda: BlockMatching(zero_bias=float("nan")),
             lambda: DisMotion(shrink=0), lambda: DisMotion(camera=1.5), lambda: CodecMotion(camera=-0.1),
             lambda: BlockMatching(camera=float("nan")), lambda: FlowError(shrink=0), lambda: FlowError(share=0.0)]
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(make):
    with pytest.raises(VideoError, match="expected"):
        make()


BOX = st.tuples(st.integers(0, 60), st.integers(0, 40), st.integers(1, 16), st.integers(1, 16))


@given(st.lists(st.tuples(BOX, st.floats(-1, 1, width=32), st.booleans()), max_size=6), st.sampled_from([8, 16]))
def test_moving_blocks_are_those_with_a_pixel_of_a_moving_one(drawn, block):
    motion = BlockMotion(
        (50, 70),
        np.array([box for box, _, _ in drawn], np.int32).reshape(-1, 4),
        np.array([[0, down] for _, down, _ in drawn], np.float32).reshape(-1, 2),
        np.array([intra for _, _, intra in drawn], bool),
    )
    pixels = np.zeros((-(-50 // block) * block, -(-70 // block) * block), bool)
    for (left, top, width, height), down, intra in drawn:
        pixels[top : top + height, left : left + width] |= intra or abs(down) > 0.25
    expected = pixels.reshape(len(pixels) // block, block, -1, block).any((1, 3))
    assert (moving_blocks(motion, (50, 70), block) == expected).all()


def test_what_moves_by_no_more_than_the_threshold_stands_still():
    motion = BlockMotion((16, 32), np.array([[0, 0, 16, 16], [16, 0, 16, 16]]), np.array([[0.25, 0], [0.5, 0]]),
                         np.zeros(2, bool))  # fmt: skip
    assert moving_blocks(motion, (16, 32), threshold=0.25).tolist() == [[False, True]]


def test_nothing_is_known_to_move_where_motion_is_unknown():
    assert moving_blocks(None, (50, 70)) is None


@given(st.integers(0, 99), st.sampled_from([0.0, 1.0, 3.0]))
@settings(max_examples=20)
def test_changed_blocks_differ_by_more_than_the_threshold_on_average(seed, threshold):
    rng = np.random.default_rng(seed)
    before = rng.integers(0, 256, (21, 37, 3)).astype(np.uint8)
    after = np.where(rng.random((21, 37, 1)) < 0.02, 255 - before, before).astype(np.uint8)
    difference = np.abs(after.astype(int) - before)
    expected = [[difference[y : y + 8, x : x + 8].mean() > threshold for x in range(0, 37, 8)] for y in range(0, 21, 8)]
    assert (changed_blocks(before, after, threshold, block=8) == expected).all()


def test_images_of_two_sizes_are_not_compared():
    with pytest.raises(VideoError, match="same size"):
        changed_blocks(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8))
    with pytest.raises(VideoError, match="same size"):
        BlockMatching().blocks(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8))
    with pytest.raises(VideoError, match="same size"):
        match_blocks(np.zeros((9, 8), np.uint8), np.zeros((8, 8), np.uint8))


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (17, 33), (3, 200)])
def test_blocks_cover_a_frame_that_is_smaller_than_they_are(size):
    image = np.zeros((*size, 3), np.uint8)
    motion = BlockMatching(shrink=4).blocks(image, image)
    covered = np.zeros(size, int)
    for left, top, width, height in motion.blocks.tolist():
        covered[top : top + height, left : left + width] += 1
    assert (covered == 1).all() and not motion.displacement.any()
