"""What does a detector lose on a stream when it runs on few frames, and its features are carried to the others?

    python examples/video.py

A camera pans over textured shapes, whose boxes are known: it rests, turns slowly, rests, turns fast. A small detector
learns the shapes in seconds; then it runs on every frame, and on one frame in eight: without flow, with OpenCV's DIS
flow, with key frames where the picture moved, and beside the stream in a thread of its own.
"""

from dataclasses import dataclass
from statistics import mean

import numpy as np
import torch

from bale.train import train_detector
from bale.video import (
    DisFlow,
    DisMotion,
    FixedInterval,
    Frame,
    MotionPolicy,
    NoFlow,
    ThreadWorker,
    VideoDetector,
    calibrate_tau,
)
from bale.video.detectors.sprites import sprite_film
from bale.video.metrics.average_precision import FrameTruth, average_precision, match_frame

SPEEDS = [0] * 24 + [1] * 24 + [0] * 24 + [6] * 24  # pixels a frame
WIDTH, EVERY = 160, 8


@dataclass(frozen=True)
class Row:
    """What came of one way to run the stream: share of key frames, AP at .5, mean and worst staleness in frames."""

    keys: float
    precision: float
    staleness: float
    worst: int


def panned_film(seed: int) -> tuple[list[np.ndarray], list[FrameTruth]]:
    """Return what the camera sees of one wide picture: images [96, WIDTH, 3], and what is to be found on each."""
    lefts = np.cumsum(SPEEDS)
    wide = sprite_film(1, (96, WIDTH + int(lefts[-1])), seed=seed, sprites=14)
    images, truth = [], []
    for left in lefts:
        images.append(wide.images[0][:, left : left + WIDTH])
        boxes = wide.boxes[0] - np.float32([left, 0, left, 0])
        seen = boxes.clip(0, (WIDTH, 96, WIDTH, 96))
        share = (seen[:, 2] - seen[:, 0]) / (boxes[:, 2] - boxes[:, 0])  # of a shape's width, in the picture
        there = share > 0
        truth.append(FrameTruth(seen[there], wide.labels[0][there], share[there] < 0.6))  # the last: not to be judged
    return images, truth


def motions(images: list[np.ndarray]) -> list[float]:
    """How far each frame moved since the one before, pixels, by DIS flow on small images."""
    measure = DisMotion().start()
    return [measure(Frame(index, 0.0, image)) for index, image in enumerate(images)]


def run(detector: VideoDetector, images: list[np.ndarray], truth: list[FrameTruth]) -> Row:
    """Run a stream, and compare each frame's boxes with what is there."""
    with detector.stream(images) as stream:
        results = list(stream)
    assert [result.frame.index for result in results] == list(range(len(images)))  # all, once, in order
    matched = [match_frame(result.detections, there) for result, there in zip(results, truth, strict=True)]
    ages = [result.staleness or 0 for result in results]
    keys = stream.counts.keys_finished / len(images)
    return Row(keys, average_precision(matched, iou=0.5), mean(ages), max(ages))


def main() -> dict[str, Row]:
    torch.set_num_threads(1)  # the worker has a thread of its own
    detector = train_detector(steps=300, films=60)
    earlier, _ = panned_film(seed=1)  # tau is found on another film than it is used on
    by_motion = MotionPolicy(calibrate_tau(motions(earlier), 1 / EVERY, at_most=24), DisMotion(), at_most=24)
    ways = {
        "every frame": VideoDetector(detector, NoFlow(), FixedInterval(1)),
        "no flow": VideoDetector(detector, NoFlow(), FixedInterval(EVERY)),
        "DIS flow": VideoDetector(detector, DisFlow(), FixedInterval(EVERY)),
        "keys by motion": VideoDetector(detector, DisFlow(), by_motion),
        "beside the stream": VideoDetector(detector, DisFlow(), FixedInterval(EVERY), worker=ThreadWorker()),
    }
    images, truth = panned_film(seed=2)
    print(f"{'':18}    keys  AP at .5  staleness  worst")
    rows = {}
    for name, way in ways.items():
        row = rows[name] = run(way, images, truth)
        print(f"{name:18}  {row.keys:6.1%}  {row.precision:8.1%}  {row.staleness:9.1f}  {row.worst:5}")
    return rows


if __name__ == "__main__":
    main()
