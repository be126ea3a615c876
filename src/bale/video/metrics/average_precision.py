"""How many of the boxes that are there were found, at how few false ones? Average precision, as COCO defines it.

Matching and interpolation follow pycocotools' `cocoeval.py` (read in code), and equal it in the tests. Frames are
matched once, one by one; the figure of any sample of frames then costs one pass over their boxes, which is what makes
a bootstrap of a thousand samples cheap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from bale.errors import VideoError
from bale.video.detections import Detections, overlaps

IOUS = np.linspace(0.5, 0.95, 10)  # intersection over union, COCO's ten thresholds
_RECALLS = np.linspace(0, 1, 101)  # COCO's points of recall
_MOST = 100  # boxes of a class in a frame, COCO's maxDets


@dataclass(frozen=True, eq=False)
class FrameTruth:
    """What is to be found on one frame.

    boxes   float32 [boxes, 4]: left, top, right, bottom; pixels of the frame, right and bottom beyond the last pixel
    labels  int64 [boxes]: which class, from 0
    ignore  bool [boxes]: finding it is no success and missing it no failure (half hidden, or not to be judged)
    """

    boxes: np.ndarray
    labels: np.ndarray
    ignore: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    @staticmethod
    def of(boxes: np.ndarray) -> FrameTruth:
        """Boxes of the one class 0, none of them to be ignored."""
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        return FrameTruth(boxes, np.zeros(len(boxes), np.int64), np.zeros(len(boxes), bool))


@dataclass(frozen=True, eq=False)
class Matches:
    """Which detections of one frame are right, at each of several thresholds.

    ious     float64 [ious]: the thresholds
    scores   float64 [detections]
    labels   int64 [detections]
    right    bool [ious, detections]: a box that is to be found was found
    neither  bool [ious, detections]: a box to be ignored was found; counts neither as right nor as false
    wanted   int64 [boxes]: labels of the boxes that are to be found
    """

    ious: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    right: np.ndarray
    neither: np.ndarray
    wanted: np.ndarray


def match_frame(
    detections: Detections, truth: FrameTruth, ious: Sequence[float] | np.ndarray = IOUS, most: int = _MOST
) -> Matches:
    """Match the detections of one frame with what is there, class by class.

    The best score chooses first, and takes the free box that it overlaps most, if by `ious` at least; a box to be
    ignored only where no other is overlapped enough. Of each class the `most` best are looked at. A box to be ignored
    is taken once, like any other (COCO's boxes outside an area range; its crowds, which take any number, are not read).

    Raises `VideoError` where a threshold is not above 0 and at most 1.
    """
    thresholds = np.asarray(ious, np.float64).reshape(-1)
    if not len(thresholds) or not ((thresholds > 0) & (thresholds <= 1)).all():
        raise VideoError(f"ious: expected thresholds above 0 and at most 1, got {list(map(float, thresholds))}")
    scores = detections.scores.detach().cpu().numpy().astype(np.float64)
    boxes, labels = detections.boxes.detach().cpu().numpy(), detections.labels.detach().cpu().numpy()
    kept: list[np.ndarray] = []
    right: list[np.ndarray] = []
    neither: list[np.ndarray] = []
    for label in np.unique(labels):
        order = np.flatnonzero(labels == label)
        order = order[np.argsort(-scores[order], kind="stable")][:most]
        there = np.flatnonzero(truth.labels == label)
        there = there[np.argsort(truth.ignore[there], kind="stable")]  # those to be ignored last
        ignore = truth.ignore[there]
        taken = _greedy(overlaps(boxes[order], truth.boxes[there]), ignore, thresholds)  # [ious, detections]
        ignored = np.append(ignore, False)[taken]  # -1, nothing, is the last
        kept.append(order)
        right.append((taken >= 0) & ~ignored)
        neither.append(ignored)
    none = np.zeros((len(thresholds), 0), bool)
    order = np.concatenate([np.zeros(0, np.int64), *kept])
    return Matches(
        thresholds,
        scores[order],
        labels[order].astype(np.int64),
        np.concatenate([none, *right], axis=1),
        np.concatenate([none, *neither], axis=1),
        truth.labels[~truth.ignore].astype(np.int64),
    )


class FramePrecision:
    """Average precision of matched frames as a statistic for `bootstrap.interval`, which draws frames again.

    Precision is interpolated at 101 points of recall, as COCO does: at each the highest precision at that recall or a
    greater one. The mean is over thresholds, then over classes that have boxes to find.
    """

    def __init__(self, frames: Sequence[Matches], iou: float | None = None, label: int | None = None) -> None:
        """Take the threshold `iou`, None for the mean over all; the class `label`, None for the mean over classes.

        Raises `VideoError` where frames were not matched at `iou`, or not all at the same thresholds.
        """
        if not frames:
            raise VideoError("average precision: expected at least one frame")
        rows = _rows(frames, iou)
        labels = np.concatenate([each.labels for each in frames])
        scores = np.concatenate([each.scores for each in frames])
        frame = np.repeat(np.arange(len(frames)), [len(each.scores) for each in frames])
        right = np.concatenate([each.right[rows] for each in frames], axis=1)
        neither = np.concatenate([each.neither[rows] for each in frames], axis=1)
        wanted = sorted({int(each) for matches in frames for each in matches.wanted})
        self.labels = tuple(each for each in wanted if label is None or each == label)
        self.thresholds = frames[0].ious[rows]
        self._classes: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for each in self.labels:
            order = np.flatnonzero(labels == each)
            order = order[np.argsort(-scores[order], kind="stable")]
            state = np.where(neither, 0, np.where(right, 1, -1))[:, order].astype(np.int8)  # [ious, detections]
            many = np.array([(matches.wanted == each).sum() for matches in frames], np.float64)
            self._classes.append((frame[order], np.ascontiguousarray(state), many))

    def table(self, counts: np.ndarray) -> np.ndarray:
        """Return float64 [samples, classes, ious] of `counts` as in a call; NaN where nothing is to be found."""
        counts = np.ascontiguousarray(counts, np.float64)
        tables = [_interpolated(counts, frame, state, many, _RECALLS) for frame, state, many in self._classes]
        return np.stack(tables, axis=1) if tables else np.zeros((len(counts), 0, len(self.thresholds)))

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """Return float64 [samples] of `counts` [samples, frames]: how often a sample has each frame.

        NaN where a sample has nothing to find. Detections of equal score stand in the order of their frames.
        """
        table = self.table(counts).mean(2)  # [samples, classes]; a class lacks all thresholds or none
        known = ~np.isnan(table)
        many = known.sum(1)
        total = np.where(known, table, 0).sum(1)
        return np.divide(total, many, out=np.full(len(table), np.nan), where=many > 0)


def average_precision(frames: Sequence[Matches], iou: float | None = None, label: int | None = None) -> float:
    """Return the average precision of matched frames, 0 to 1, at one threshold or (None) the mean over all matched.

    With `IOUS` that mean is COCO's AP at .5:.95. `label`: of one class; None: the mean over classes that have boxes
    to find. NaN where nothing is to be found. Raises `VideoError` as `FramePrecision` does.
    """
    return float(FramePrecision(frames, iou, label)(np.ones((1, len(frames))))[0])


def precision_by_class(frames: Sequence[Matches], iou: float | None = None) -> dict[int, float]:
    """Return the average precision of each class that has boxes to find, by label, as `average_precision` does."""
    statistic = FramePrecision(frames, iou)
    table = statistic.table(np.ones((1, len(frames))))[0].mean(1)
    return dict(zip(statistic.labels, table.tolist(), strict=True))


def _rows(frames: Sequence[Matches], iou: float | None) -> np.ndarray:
    ious = frames[0].ious
    if any(len(each.ious) != len(ious) or (each.ious != ious).any() for each in frames):
        raise VideoError("average precision: frames were matched at different thresholds; match all at the same")
    rows = np.arange(len(ious)) if iou is None else np.flatnonzero(np.isclose(ious, iou, rtol=0, atol=1e-9))
    if not len(rows):
        raise VideoError(f"iou: frames were matched at {', '.join(f'{each:g}' for each in ious)}, not at {iou:g}")
    return rows


@njit(cache=True)
def _greedy(overlap: np.ndarray, ignore: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    # overlap: [detections, boxes], best score first, boxes to be ignored last. Returns which box, or -1.
    detections, boxes = overlap.shape
    taken = np.full((len(thresholds), detections), -1, np.int64)
    for row in range(len(thresholds)):
        free = np.ones(boxes, np.bool_)
        for detection in range(detections):
            best, place = min(thresholds[row], 1 - 1e-10), -1
            for box in range(boxes):
                if not free[box]:
                    continue
                if place >= 0 and ignore[box] and not ignore[place]:
                    break
                if overlap[detection, box] >= best:
                    best, place = overlap[detection, box], box
            if place >= 0:
                free[place] = False
                taken[row, detection] = place
    return taken


@njit(cache=True)
def _interpolated(
    counts: np.ndarray, frame: np.ndarray, state: np.ndarray, wanted: np.ndarray, recalls: np.ndarray
) -> np.ndarray:
    # state: [ious, detections], best score first: 1 right, -1 false, 0 neither. A frame that was drawn twice has its
    # detections twice, side by side: between the copies neither recall nor the highest precision ahead has a corner.
    result = np.full((len(counts), len(state)), np.nan)
    for sample in range(len(counts)):
        count = counts[sample]
        many = (count * wanted).sum()
        if many == 0:
            continue
        for row in range(len(state)):
            right, false = 0.0, 0.0
            for place in range(len(frame)):
                if state[row, place] > 0:
                    right += count[frame[place]]
                elif state[row, place] < 0:
                    false += count[frame[place]]
            # Backwards from the last detection: the highest precision ahead is then a running maximum.
            point, highest, total = len(recalls) - 1, 0.0, 0.0
            while point >= 0 and recalls[point] > right / many:
                point -= 1
            for place in range(len(frame) - 1, -1, -1):
                highest = max(highest, right / (right + false + 2.220446049250313e-16))  # COCO's guard against 0 / 0
                if state[row, place] > 0:
                    right -= count[frame[place]]
                elif state[row, place] < 0:
                    false -= count[frame[place]]
                while point >= 0 and (place == 0 or recalls[point] > right / many):
                    total += highest
                    point -= 1
            result[sample, row] = total / len(recalls)
    return result
