"""Are frames of a film neither lost nor repeated, and is damage said, whatever is wrong with it?"""

from pathlib import Path

import av
import numpy as np
import pytest
from tests.video.films import damage, sliding, written

from bale.errors import VideoError
from bale.video.film.read import film_info, read_film
from bale.video.frame import Frame


def blank(packet: bytes) -> bytes:
    return bytes(len(packet))


def half(packet: bytes) -> bytes:
    return packet[: len(packet) // 2] + bytes(len(packet) - len(packet) // 2)


def without_image(frames: list[Frame]) -> list[int]:
    assert [frame.index for frame in frames] == list(range(len(frames)))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(len(frames)) / 10, atol=1e-6)
    assert all((frame.image is None) == bool(frame.problem) for frame in frames)
    return [frame.index for frame in frames if frame.image is None]


def test_frames_have_numbers_times_and_what_was_written(tmp_path):
    film = written(tmp_path / "a.mp4", sliding(2, 1), crf="1")
    frames = list(read_film(film))
    assert len(frames) == 12 and without_image(frames) == []
    for frame, image in zip(frames, sliding(2, 1), strict=True):
        assert np.abs(frame.image.astype(int) - image).mean() < 3


def test_what_the_head_of_a_film_says(tmp_path):
    info = film_info(written(tmp_path / "a.mp4", sliding(2, 1)))
    assert (info.width, info.height, info.rate, info.frames, info.codec) == (128, 96, 10.0, 12, "h264")


@pytest.mark.parametrize("motion", [False, True])
@pytest.mark.parametrize("how", [blank, half])
@pytest.mark.parametrize("codec, name", [("h264", "a.mp4"), ("h264", "a.mkv"), ("mpeg4", "a.mp4")])
def test_a_damaged_packet_is_a_frame_without_an_image(tmp_path, motion, how, codec, name):
    options = {"bf": "0", "g": "5"} if codec == "h264" else {"g": "5", "b": "2000000"}
    film = damage(written(tmp_path / name, sliding(2, 1), codec, **options), [7], how)
    frames = list(read_film(film, motion))
    assert len(frames) == 12 and without_image(frames) == [7]


def test_a_damaged_b_frame_costs_no_other_its_number(tmp_path):
    film = written(tmp_path / "a.mkv", sliding(2, 1), bf="2", b_adapt="0", b_pyramid="none", refs="1")
    order = packet_order(film)
    damaged = damage(film, [order.index(5)], blank)
    frames = list(read_film(damaged, motion=True))
    assert len(frames) == 12 and without_image(frames) == [5]
    assert np.abs(np.median(frames[4].motion.displacement, axis=0) - (2, 1)).max() <= 0.25


def packet_order(film: Path) -> list[int]:
    """The numbers of frames, in the order of decoding."""
    with av.open(str(film)) as container:
        stamps = [packet.pts for packet in container.demux(video=0) if packet.size]
    return [sorted(stamps).index(stamp) for stamp in stamps]


def test_nothing_is_shown_until_the_stream_can_be_decoded_from_there(tmp_path):
    film = damage(written(tmp_path / "a.mkv", sliding(2, 1), bf="0", g="5"), [0], blank)
    frames = list(read_film(film))
    assert len(frames) == 12 and without_image(frames) == [0, 1, 2, 3, 4]
    assert "Invalid data" in frames[0].problem


def test_damage_at_the_end_is_told_too(tmp_path):
    film = damage(written(tmp_path / "a.mkv", sliding(2, 1), bf="0"), [10, 11], blank)
    assert without_image(list(read_film(film))) == [10, 11]


def test_a_film_that_is_cut_short_just_ends_there(tmp_path):
    film = written(tmp_path / "a.mkv", sliding(2, 1), bf="0", g="3")
    film.write_bytes(film.read_bytes()[: film.stat().st_size * 2 // 3])
    frames = list(read_film(film))
    assert 3 < len(frames) < 12 and set(without_image(frames)) <= {len(frames) - 1}


def test_a_film_without_a_single_frame_is_an_error(tmp_path):
    film = written(tmp_path / "a.mkv", sliding(2, 1), bf="0")
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 3])
    with pytest.raises(VideoError, match=r"a.mkv: ends before its first frame"):
        list(read_film(film))


def test_a_change_of_resolution_is_handed_on(tmp_path):
    small = written(tmp_path / "small.h264", sliding(2, 1, 4, 64, 96), bf="0")
    large = written(tmp_path / "large.h264", sliding(2, 1, 4, 96, 128), bf="0")
    both = tmp_path / "both.h264"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    frames = list(read_film(both))
    assert [frame.size for frame in frames] == [(64, 96)] * 4 + [(96, 128)] * 4
    assert [frame.index for frame in frames] == list(range(8))


def test_closing_the_iterator_closes_the_file(tmp_path):
    film = written(tmp_path / "a.mp4", sliding(2, 1))
    frames = read_film(film)
    next(frames)
    assert film in open_files()
    frames.close()
    assert film not in open_files()


def open_files() -> list[Path]:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("only Linux lists a process's open files in /proc")
    return [each.readlink() for each in descriptors.iterdir() if each.is_symlink()]


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda path: None, "there is no such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.touch(), "is empty"),
        (lambda path: path.write_text("no film at all\n" * 100), "cannot be read as a film"),
    ],
)
def test_what_is_no_film_is_refused_at_once(tmp_path, make, said):
    path = tmp_path / "a.mp4"
    make(path)
    with pytest.raises(VideoError, match=f"a.mp4.*{said}"):
        read_film(path)


def test_a_film_without_pictures_is_refused(tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(VideoError, match=r"sound.wav: has no video"):
        read_film(path)
