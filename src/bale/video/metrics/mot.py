"""How are boxes read and written in the MOT Challenge's format? One box a line, numbers between commas.

    frame, id, left, top, width, height, confidence                         7 columns: detections of MOT17
    frame, id, left, top, width, height, confidence, class, visibility      9 columns: truth since MOT16
    frame, id, left, top, width, height, confidence, x, y, z               10 columns: MOT15, and detections

Frames count from 1 (Milan et al., "MOT16", 2016; Leal-Taixe et al., "MOTChallenge 2015"). Of a truth, `confidence` 0
says that a box is not to be judged. An id below 0 says that nobody knows who it is.

**Where is the left top?** The challenge's pages count pixels from 1, as MATLAB does, and some evaluators subtract it,
others do not. Truth and detections in the same convention score the same either way; a detector of our own counts
from 0. The film of MOT15's PETS09-S2L1 was asked: what moves in the upper parts of 732 boxes that stand alone lies
.2 +- .14 pixels left of the boxes' middles if coordinates are taken as they stand, and would lie .8 pixels right of
them if 1 were subtracted; frame number = index + 1, since a frame sooner or later both middle and spread grow worse.
So coordinates are taken as they stand, unless `first_pixel` says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from os import PathLike
from pathlib import Path

import numpy as np
import torch

from bale.data.text import problem_at, read_lines
from bale.errors import DataError, VideoError
from bale.video.detections import Detections
from bale.video.metrics.average_precision import FrameTruth

_COLUMNS = {
    7: ("frame", "id", "left", "top", "width", "height", "confidence"),
    9: ("frame", "id", "left", "top", "width", "height", "confidence", "class", "visibility"),
    10: ("frame", "id", "left", "top", "width", "height", "confidence", "x", "y", "z"),
}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WHOLE = ("frame", "id", "class")
_EXPECTED = "one box a line, frame,id,left,top,width,height,confidence,..."
_LARGEST = 1e9  # pixels and frames; far beyond, float32 has no pixels any more


@dataclass(frozen=True, eq=False)
class MotFrame:
    """Boxes of one frame, in the order of their lines.

    boxes       float32 [boxes, 4]: left, top, right, bottom, pixels
    ids         int64 [boxes]: who it is; below 0: not known
    confidence  float32 [boxes]: of a detection its score; of a truth 0: not to be judged, else 1
    labels      int64 [boxes], from 0: the file's class less 1; all 0 where the file has no classes
    """

    boxes: np.ndarray
    ids: np.ndarray
    confidence: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def truth(self) -> FrameTruth:
        """What is to be found, boxes of confidence 0 to be ignored."""
        return FrameTruth(self.boxes, self.labels, self.confidence == 0)

    @property
    def detections(self) -> Detections:
        """What was found, best first."""
        order = np.argsort(-self.confidence, kind="stable")
        return Detections(*(torch.from_numpy(each[order]) for each in (self.boxes, self.confidence, self.labels)))


@dataclass(frozen=True, eq=False)
class MotTruth:
    """A file's boxes by frame.

    frames  by index, from 0 (the file's number less 1): frames that have boxes
    """

    frames: Mapping[int, MotFrame]

    def __len__(self) -> int:
        """Return how many frames there are up to the last that has a box."""
        return max(self.frames, default=-1) + 1

    def frame(self, index: int) -> MotFrame:
        """Return the boxes of a frame; none where the file has none."""
        return self.frames[index] if index in self.frames else _frame([], None, 0)


def read_mot(path: str | PathLike[str], *, first_pixel: float = 0) -> MotTruth:
    """Read a file of boxes, truth or detections, of 7, 9 or 10 columns; lines may be in any order.

    `first_pixel`: what the file calls the left edge of the first pixel; it is subtracted from left and top.

    Raises `DataError`, `path:line:column: which column, what was expected, what was given`, for too few or too many
    columns, no number, a frame below 1, a negative size, a class below 1, and an id that a frame has twice.
    """
    lines = read_lines(path, _EXPECTED)
    columns = _columns(path, *lines[0])
    rows: dict[int, list[Sequence[float]]] = {}
    seen: dict[tuple[int, int], int] = {}
    for number, text in lines:
        values = _row(path, number, text, columns)
        index, who = int(values[0]) - 1, int(values[1])
        if who >= 0 and (index, who) in seen:
            before_id, id_on = text.split(",", 1)
            column = len(before_id) + 2 + len(id_on) - len(id_on.lstrip())
            problem = f"id: expected each once in a frame; frame {index + 1} has {who} on line {seen[index, who]}, too"
            raise problem_at(path, number, column, problem)
        seen[index, who] = number
        rows.setdefault(index, []).append(values)
    classes = columns.index("class") if "class" in columns else None
    return MotTruth({index: _frame(rows[index], classes, first_pixel) for index in sorted(rows)})


def write_mot(
    path: str | PathLike[str],
    frames: Iterable[tuple[int, Detections]],
    *,
    classes: bool = False,
    first_pixel: float = 0,
) -> None:
    """Write the detections of frames, each with its index from 0, as evaluators read them: ten columns, no ids.

    `classes`: nine columns instead, with classes (label + 1), which ten have no place for. `read_mot` gives back
    the same scores and, to float32's rounding, the same boxes; a frame without boxes has no line.

    Raises `VideoError` for an index below 0, for a box whose right is left of its left, or what is no finite number,
    and for a label other than 0 without `classes`; `DataError` where the file cannot be written.
    """
    try:
        with Path(path).open("w", encoding="utf-8", newline="\n") as file:
            for index, detections in frames:
                file.writelines(_lines(path, index, detections, classes, Decimal(str(first_pixel))))
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error


def _columns(path: str | PathLike[str], number: int, text: str) -> tuple[str, ...]:
    many = text.count(",") + 1
    if many not in _COLUMNS:
        problem = f"expected 7, 9 or 10 columns, frame,id,left,top,width,height,confidence,..., got {many}"
        raise problem_at(path, number, 1 if many < 7 else len(text) + 1, problem)
    return _COLUMNS[many]


def _row(path: str | PathLike[str], number: int, text: str, columns: tuple[str, ...]) -> list[float]:
    fields = text.split(",")
    if len(fields) != len(columns):
        problem = f"expected {len(columns)} columns, as the lines before have, got {len(fields)}"
        raise problem_at(path, number, len(text) + 1, problem)
    values: list[float] = []
    start = 0
    for name, entry in zip(columns, fields, strict=True):
        problem = _problem(name, entry.strip())
        if problem:
            column = start + len(entry) - len(entry.lstrip()) + 1
            raise problem_at(path, number, column, f"{name}: expected {problem}, got {entry.strip()[:40]!r}")
        values.append(float(entry))
        start += len(entry) + 1
    return values


def _problem(name: str, entry: str) -> str | None:
    """What was expected instead, where a field cannot be."""
    if not _NUMBER.fullmatch(entry):
        return "a number"
    value = float(entry)
    if abs(value) > _LARGEST:
        return f"a number of at most {_LARGEST:g}"
    if name in _WHOLE and not value.is_integer():
        return "a whole number"
    if name in ("frame", "class") and value < 1:
        return "a number from 1 on"
    if name in ("width", "height") and value < 0:
        return "a size that is not negative"
    return None


def _frame(rows: Sequence[Sequence[float]], classes: int | None, first_pixel: float) -> MotFrame:
    table = np.array(rows, np.float64).reshape(len(rows), -1 if rows else 7)
    corner = table[:, 2:4] - first_pixel
    boxes = np.concatenate([corner, corner + table[:, 4:6]], axis=1).astype(np.float32)
    labels = np.zeros(len(table), np.int64) if classes is None else table[:, classes].astype(np.int64) - 1
    return MotFrame(boxes, table[:, 1].astype(np.int64), table[:, 6].astype(np.float32), labels)


def _lines(
    path: str | PathLike[str], index: int, detections: Detections, classes: bool, first_pixel: Decimal
) -> list[str]:
    if index < 0:
        raise VideoError(f"{path}: expected frames from index 0 on, got {index}")
    boxes = detections.boxes.detach().cpu().numpy().astype(np.float32)
    scores = detections.scores.detach().cpu().numpy().astype(np.float32)
    lines = []
    for box, score, label in zip(boxes, scores, detections.labels.tolist(), strict=True):
        if not (np.isfinite(box).all() and np.isfinite(score) and (box[2:] >= box[:2]).all()):
            raise VideoError(
                f"{path}: frame {index}: expected left, top, right, bottom and a score, got {box.tolist()}, {score}"
            )
        if label and not classes:
            raise VideoError(f"{path}: frame {index}: ten columns have no place for label {label}; ask for classes")
        # The shortest decimals of the corners, subtracted exactly: what is read adds up to the corner.
        left, top, right, bottom = (Decimal(str(each)) for each in box)
        numbers = [left + first_pixel, top + first_pixel, right - left, bottom - top, Decimal(str(score))]
        texts = [format(number, "f") for number in numbers]
        rest = [str(label + 1), "1"] if classes else ["-1", "-1", "-1"]
        lines.append(",".join([str(index + 1), "-1", *texts, *rest]) + "\n")
    return lines
