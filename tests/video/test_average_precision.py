"""Average precision is pycocotools', of all frames and of frames drawn again."""

import contextlib
import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from bale.errors import VideoError
from bale.video.detections import Detections, overlaps
from bale.video.metrics.average_precision import (
    IOUS,
    FramePrecision,
    FrameTruth,
    average_precision,
    match_frame,
    precision_by_class,
)

FAR = 1e9  # an area beyond the range that is evaluated: COCO ignores such a box


def random_boxes(generator, many):
    # Halves of pixels: sums and areas are exact, and many overlaps lie exactly on a threshold.
    corner, side = generator.integers(0, 24, (many, 2)), generator.integers(2, 17, (many, 2))
    return np.concatenate([corner, corner + side], 1).astype(np.float32) / 2


def random_stream(seed, frames, classes, ties=False):
    generator = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(frames):
        many = int(generator.integers(0, 6))
        boxes = random_boxes(generator, many)
        labels = generator.integers(0, classes, many)
        truths.append(FrameTruth(boxes, labels, generator.random(many) < 0.25))
        extra = random_boxes(generator, int(generator.integers(0, 4)))
        near = boxes[generator.random(many) < 0.8] + generator.integers(-2, 3, (1, 4)).astype(np.float32) / 4
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 0.5)
        where = np.concatenate([near, extra])
        scores = generator.random(len(where)).astype(np.float32)
        scores = np.round(scores, 1) if ties else scores
        order = np.argsort(-scores, kind="stable")
        kinds = generator.integers(0, classes, len(where))
        found.append(
            Detections(*(torch.from_numpy(np.ascontiguousarray(each[order])) for each in (where, scores, kinds)))
        )
    return truths, found


def coco_table(truths, found, classes, most=100):
    """pycocotools' average precision [ious, classes]; -1 where nothing is to be found."""
    annotations, results = [], []
    for image, (truth, detections) in enumerate(zip(truths, found, strict=True)):
        for box, label, ignore in zip(truth.boxes.astype(float), truth.labels, truth.ignore, strict=True):
            left, top, right, bottom = box
            size = [left, top, right - left, bottom - top]
            area = FAR if ignore else 1.0
            entry = {"image_id": image, "category_id": int(label), "bbox": size, "area": area, "iscrowd": 0}
            annotations.append({**entry, "id": len(annotations) + 1})
        for box, score, label in zip(
            detections.boxes.double(), detections.scores.double(), detections.labels, strict=True
        ):
            left, top, right, bottom = box.tolist()
            size = [left, top, right - left, bottom - top]
            entry = {"image_id": image, "category_id": int(label), "bbox": size, "score": float(score)}
            results.append({**entry, "area": 1.0, "id": len(results) + 1, "iscrowd": 0})
    with contextlib.redirect_stdout(io.StringIO()):
        ground, detected = COCO(), COCO()
        images = [{"id": image} for image in range(len(truths))]
        categories = [{"id": label} for label in range(classes)]
        ground.dataset = {"images": images, "annotations": annotations, "categories": categories}
        detected.dataset = {"images": images, "annotations": results, "categories": categories}
        ground.createIndex()
        detected.createIndex()
        evaluation = COCOeval(ground, detected, "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, FAR / 10]], ["all"]
        evaluation.params.maxDets = [most]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, 0]  # [ious, points, classes]
    return np.where((precision < 0).all(1), -1, precision.mean(1))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 3), st.booleans())
def test_average_precision_is_that_of_pycocotools(seed, frames, classes, ties):
    truths, found = random_stream(seed, frames, classes, ties)
    expected = coco_table(truths, found, classes)
    matches = [match_frame(detections, truth) for detections, truth in zip(found, truths, strict=True)]
    present = [label for label in range(classes) if expected[0, label] >= 0]
    assert list(precision_by_class(matches)) == present
    if not present:
        assert math.isnan(average_precision(matches))
        return
    for row, iou in enumerate(IOUS):
        by_class = precision_by_class(matches, iou)
        assert [by_class[label] for label in present] == pytest.approx(expected[row, present], abs=1e-9)
        assert average_precision(matches, iou) == pytest.approx(expected[row, present].mean(), abs=1e-9)
        assert average_precision(matches, iou, present[0]) == pytest.approx(expected[row, present[0]], abs=1e-9)
    assert average_precision(matches) == pytest.approx(expected[:, present].mean(), abs=1e-9)


def test_only_the_best_of_a_class_are_looked_at():
    truths, found = random_stream(5, 8, 2)
    matches = [match_frame(detections, truth, most=1) for detections, truth in zip(found, truths, strict=True)]
    expected = coco_table(truths, found, 2, most=1)
    assert average_precision(matches) == pytest.approx(expected[expected >= 0].mean(), abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 4), min_size=5, max_size=5))
def test_a_frame_drawn_twice_counts_as_two_frames(seed, draws):
    truths, found = random_stream(seed, 5, 2)
    matches = [match_frame(detections, truth) for detections, truth in zip(found, truths, strict=True)]
    counts = np.bincount(draws, minlength=5).astype(float)
    drawn = average_precision([matches[place] for place in sorted(draws)])
    weighed = FramePrecision(matches)(np.stack([np.ones(5), counts]))
    assert weighed[0] == pytest.approx(average_precision(matches), nan_ok=True)
    assert weighed[1] == pytest.approx(drawn, abs=1e-9, nan_ok=True)


def test_perfect_boxes_have_precision_one_and_none_have_zero():
    truth = FrameTruth.of(np.array([[0, 0, 10, 20], [30, 5, 42, 41]]))
    perfect = Detections(torch.from_numpy(truth.boxes), torch.tensor([0.9, 0.8]), torch.zeros(2, dtype=torch.int64))
    assert average_precision([match_frame(perfect, truth)]) == pytest.approx(1)
    assert average_precision([match_frame(Detections.none(), truth)]) == 0


def test_a_box_to_be_ignored_is_neither_success_nor_failure():
    boxes = np.array([[0, 0, 10, 20], [30, 5, 42, 41]], np.float32)
    truth = FrameTruth(boxes, np.zeros(2, np.int64), np.array([True, False]))
    found = Detections(torch.from_numpy(boxes), torch.tensor([0.9, 0.8]), torch.zeros(2, dtype=torch.int64))
    matches = match_frame(found, truth)
    assert matches.neither.tolist() == [[True, False]] * len(IOUS)
    assert average_precision([matches]) == pytest.approx(1)


def test_overlap_is_intersection_over_union():
    boxes = np.array([[0, 0, 4, 4], [2, 0, 6, 4], [9, 9, 9, 9]], np.float32)
    assert overlaps(boxes, boxes[:2]) == pytest.approx(np.array([[1, 1 / 3], [1 / 3, 1], [0, 0]]))


def test_what_was_not_matched_cannot_be_asked():
    frame = match_frame(Detections.none(), FrameTruth.of(np.zeros((0, 4))), ious=[0.5])
    with pytest.raises(VideoError, match=r"iou: frames were matched at 0\.5, not at 0\.75"):
        average_precision([frame], 0.75)
    with pytest.raises(VideoError, match="different thresholds"):
        average_precision([frame, match_frame(Detections.none(), FrameTruth.of(np.zeros((0, 4))))])
    with pytest.raises(VideoError, match="ious: expected thresholds above 0"):
        match_frame(Detections.none(), FrameTruth.of(np.zeros((0, 4))), ious=[0.0])
    with pytest.raises(VideoError, match="at least one frame"):
        average_precision([])
