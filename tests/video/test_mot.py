"""MOT files are read as they are meant, written so that they read back, and their mistakes are pointed at."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bale.errors import DataError, VideoError
from bale.video.detections import Detections
from bale.video.metrics.average_precision import average_precision, match_frame
from bale.video.metrics.mot import read_mot, write_mot

TEN = (
    "2,9,497,158,31.03,75.17,1,-4.1744,-7.3156,0\n"
    "1,9,499,158,31.03,75.17,1,-4.1554,-7.3591,0\n"
    "1,15,258,219,3,8,0,0,0,0\n"
)
NINE = "1,1,912,484,97,109,0,7,1\n1,2,10.5,20,30,40,1,1,0.86\n"


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "gt.txt"
        path.write_text(text)
        return path

    return write


def test_ten_columns_are_mot15_and_lines_need_no_order(written):
    truth = read_mot(written(TEN))
    assert list(truth.frames) == [0, 1]
    assert len(truth) == 2
    first = truth.frame(0)
    assert first.boxes.dtype == np.float32
    assert first.boxes == pytest.approx(np.array([[499, 158, 530.03, 233.17], [258, 219, 261, 227]]))
    assert first.ids.tolist() == [9, 15]
    assert first.truth.ignore.tolist() == [False, True]
    assert first.labels.tolist() == [0, 0]
    assert len(truth.frame(7)) == 0
    assert len(truth.frame(7).detections) == 0


def test_nine_columns_have_classes(written):
    frame = read_mot(written(NINE)).frame(0)
    assert frame.labels.tolist() == [6, 0]
    assert frame.confidence.tolist() == [0, 1]
    assert frame.boxes[1].tolist() == [10.5, 20, 40.5, 60]


def test_seven_columns_are_detections_of_unknown_people(written):
    frame = read_mot(written("1,-1,5,6,7,8,0.25\n1,-1,5,6,7,8,2.5\r\n")).frame(0)
    assert frame.ids.tolist() == [-1, -1]
    assert frame.detections.scores.tolist() == [2.5, 0.25]


def test_pixels_can_be_counted_from_one(written):
    frame = read_mot(written("1,1,1,1,10,20,1,1,1\n"), first_pixel=1).frame(0)
    assert frame.boxes.tolist() == [[0, 0, 10, 20]]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1,1,2,3,4\n", r"gt.txt:1:1: expected 7, 9 or 10 columns, frame,id,.*, got 5"),
        ("1,1,2,3,4,5,1,1\n", r"gt.txt:1:16: expected 7, 9 or 10 columns, .*, got 8"),
        ("1,1,2,3,4,5,1\n\n1,2,3,4,5,6\n", r"gt.txt:3:12: expected 7 columns, as the lines before have, got 6"),
        ("1,1,2,3,4,5,1\n1,2, x3,3,4,5,1\n", r"gt.txt:2:6: left: expected a number, got 'x3'"),
        ("1,1,2,,4,5,1\n", r"gt.txt:1:7: top: expected a number, got ''"),
        ("1,1,2,nan,4,5,1\n", r"gt.txt:1:7: top: expected a number, got 'nan'"),
        ("1,1,2,1_0,4,5,1\n", r"gt.txt:1:7: top: expected a number, got '1_0'"),
        ("1,1,2,1e30,4,5,1\n", r"gt.txt:1:7: top: expected a number of at most 1e\+09, got '1e30'"),
        ("0,1,2,3,4,5,1\n", r"gt.txt:1:1: frame: expected a number from 1 on, got '0'"),
        ("1.5,1,2,3,4,5,1\n", r"gt.txt:1:1: frame: expected a whole number, got '1.5'"),
        ("1,1.5,2,3,4,5,1\n", r"gt.txt:1:3: id: expected a whole number, got '1.5'"),
        ("1,1,2,3,-4,5,1\n", r"gt.txt:1:9: width: expected a size that is not negative, got '-4'"),
        ("1,1,2,3,4,-0.5,1\n", r"gt.txt:1:11: height: expected a size that is not negative, got '-0.5'"),
        ("1,1,2,3,4,5,1,0,1\n", r"gt.txt:1:15: class: expected a number from 1 on, got '0'"),
        ("3,7,2,3,4,5,1\n4,7,2,3,4,5,1\n3,7,8,8,4,5,1\n", r"gt.txt:3:3: id: .* frame 3 has 7 on line 1, too"),
        (" 3,  7,2,3,4,5,1\n 3,  7,8,8,4,5,1\n", r"gt.txt:2:6: id: .* frame 3 has 7 on line 1, too"),
        ("1,1,2,\u0663,4,5,1\n", r"gt.txt:1:7: top: expected a number"),
        ("1,1,2,3,4,5,1\r\n\r\n1, 2,x,3,4,5,1\r\n", r"gt.txt:3:6: left: expected a number, got 'x'"),
        ("\ufeff1,1,2,3,4,-5,1\n", r"gt.txt:1:11: height: expected a size that is not negative"),
        ("", r"gt.txt:1:1: the file is empty; expected one box a line"),
    ],
)
def test_mistakes_are_pointed_at(written, text, problem):
    with pytest.raises(DataError, match=problem):
        read_mot(written(text))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gt\.txt: no such file"):
        read_mot(tmp_path / "gt.txt")
    with pytest.raises(DataError, match="cannot be written"):
        write_mot(tmp_path / "none" / "det.txt", [])


coordinate = st.floats(-2000, 4000, width=32)
side = st.floats(0, 2000, width=32)
score = st.floats(0, 1, width=32)
box = st.tuples(coordinate, coordinate, side, side, score, st.integers(0, 11))


@given(st.dictionaries(st.integers(0, 50), st.lists(box, max_size=4), max_size=4), st.sampled_from([0, 1]))
def test_what_is_written_reads_back(tmp_path_factory, frames, first_pixel):
    path = tmp_path_factory.mktemp("mot") / "det.txt"
    given_frames = {}
    for index, boxes in frames.items():
        table = np.array(boxes, np.float32).reshape(-1, 6)
        table = table[np.argsort(-table[:, 4], kind="stable")]
        corners = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], 1)
        labels = torch.from_numpy(table[:, 5].astype(np.int64))
        given_frames[index] = Detections(torch.from_numpy(corners), torch.from_numpy(table[:, 4].copy()), labels)
    write_mot(path, given_frames.items(), classes=True, first_pixel=first_pixel)
    if not any(map(len, given_frames.values())):
        assert path.read_text() == ""
        return
    back = read_mot(path, first_pixel=first_pixel)
    assert set(back.frames) == {index for index, found in given_frames.items() if len(found)}
    for index in back.frames:
        expected, found = given_frames[index], back.frame(index).detections
        assert torch.allclose(found.boxes, expected.boxes, rtol=3e-7, atol=1e-9 + 1e-5 * first_pixel)
        assert torch.equal(found.scores, expected.scores)
        assert torch.equal(found.labels, expected.labels)


def test_truth_and_perfect_detections_meet_through_files(written, tmp_path):
    truth = read_mot(written(TEN))
    write_mot(tmp_path / "det.txt", ((index, truth.frame(index).detections) for index in range(2)))
    found = read_mot(tmp_path / "det.txt")
    matches = [match_frame(found.frame(index).detections, truth.frame(index).truth) for index in range(2)]
    assert average_precision(matches) == pytest.approx(1)


@pytest.mark.parametrize(
    ("index", "box", "label", "problem"),
    [
        (-1, [0, 0, 1, 1], 0, "expected frames from index 0 on, got -1"),
        (3, [5, 0, 1, 1], 0, r"frame 3: expected left, top, right, bottom and a score, got \[5\.0"),
        (3, [0, float("nan"), 1, 1], 0, "frame 3: expected left, top"),
        (3, [0, 0, 1, 1], 2, "frame 3: ten columns have no place for label 2; ask for classes"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, index, box, label, problem):
    found = Detections(torch.tensor([box], dtype=torch.float32), torch.ones(1), torch.tensor([label]))
    with pytest.raises(VideoError, match=problem):
        write_mot(tmp_path / "det.txt", [(index, found)])
