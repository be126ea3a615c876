"""Which streams are detectors raced on, and what is to be found on their frames?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bale.video.film.read import film_info, read_film
from bale.video.frame import Frame
from bale.video.metrics.average_precision import FrameTruth
from bale.video.metrics.mot import MotTruth, read_mot
from bale.video.motion import CodecMotion
from benchmarks.video.streams import TEST, TRAIN, variable_stream

STREAMS = ("vtest", "variable")
SEEDS = (0, 1, 2, 3)  # of the stream of variable motion: each walks through the film once, and is short


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames that are run as one stream, in memory, with what is to be found on each.

    Decoding is no part of what is measured: a frame arrives with its motion vectors.
    """

    frames: Sequence[Frame]
    truth: Sequence[FrameTruth]


@dataclass(frozen=True, eq=False)
class Stream:
    """What one line of results is about: clips that are run one after the other, and counted together.

    rate     frames a second at which they arrive
    clips    from the frames of the test
    motions  how far each frame moved, by the codec's vectors, of each clip of the *training* frames: from these tau
             is calibrated
    """

    name: str
    rate: float
    clips: Sequence[Clip]
    motions: Sequence[Sequence[float]]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        size = self.clips[0].frames[0].size
        assert size is not None
        return size

    @property
    def truth(self) -> list[FrameTruth]:
        """Of all frames, clip by clip."""
        return [each for clip in self.clips for each in clip.truth]


def stream(name: str, film: Path, truth: Path, work: Path) -> Stream:
    """Return one of `STREAMS`; raises BaleError where film or truth cannot be read."""
    marked = read_mot(truth)
    if name == "vtest":
        test = _clip(film, TEST, marked)
        return Stream(name, film_info(film).rate, [test], [_motions(_frames(film, TRAIN))])
    boxes = {index: marked.frame(index).truth for index in range(TEST.stop)}
    found = {index: each.boxes[~each.ignore] for index, each in boxes.items()}
    tests = [variable_stream(found, TEST, work / "streams", seed, film) for seed in SEEDS]
    trains = [variable_stream(found, TRAIN, work / "streams", seed, film) for seed in SEEDS]
    clips = [Clip(_frames(each.path), [FrameTruth.of(seen) for seen in each.boxes]) for each in tests]
    motions = [_motions(_frames(each.path)) for each in trains]
    return Stream(name, film_info(film).rate, clips, motions)


def _clip(film: Path, indices: range, marked: MotTruth) -> Clip:
    truth = []
    for index in indices:
        each = marked.frame(index).truth
        height, width = film_info(film).height, film_info(film).width
        boxes = np.clip(each.boxes, 0, np.array([width, height] * 2, np.float32))
        truth.append(replace(each, boxes=boxes))
    return Clip(_frames(film, indices), truth)


def _frames(film: Path, indices: range | None = None) -> list[Frame]:
    """These frames of a film, numbered anew from 0."""
    frames: list[Frame] = []
    for frame in read_film(film, motion=True):
        if indices is not None and frame.index >= indices.stop:
            break
        if indices is None or frame.index in indices:
            first = frames[0].time if frames else frame.time
            frames.append(replace(frame, index=len(frames), time=frame.time if not frames else frame.time - first))
    return [replace(frames[0], time=0.0), *frames[1:]]


def _motions(frames: Sequence[Frame]) -> list[float]:
    measure = CodecMotion().start()
    return [measure(frame) for frame in frames]
