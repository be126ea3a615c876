"""Which streams are detectors raced on, and what is to be found on their frames?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bale.errors import VideoError
from bale.video.film.read import film_info, read_film
from bale.video.frame import Frame
from bale.video.keyframes import MotionMeasure
from bale.video.metrics.average_precision import FrameTruth
from bale.video.metrics.mot import read_mot
from bale.video.motion import CodecMotion, FlowError
from benchmarks.video.streams import TEST, TRAIN, variable_stream

STREAMS = ("vtest", "variable")
# By which keys are chosen, by variant.
MEASURES: dict[str, MotionMeasure] = {"vds": FlowError(), "mv": CodecMotion(), "pmv": CodecMotion(camera=1)}
SEEDS = (0, 1, 2, 3)  # of the stream of variable motion: each walks through the film once, and is short


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames that are run as one stream, in memory, with what is to be found on each.

    Decoding is no part of what is measured: a frame arrives with its motion vectors. `sources` are the frames of the
    film that they show.
    """

    frames: Sequence[Frame]
    truth: Sequence[FrameTruth]
    sources: Sequence[int]


@dataclass(frozen=True, eq=False)
class Stream:
    """What one line of results is about: clips that are run one after the other, and counted together.

    rate     frames a second at which they arrive
    clips    from the frames of the test
    motions  by each of `MEASURES` how far each frame moved, of each clip of the *training* frames: from these tau is
             calibrated
    """

    name: str
    rate: float
    clips: Sequence[Clip]
    motions: Mapping[str, Sequence[Sequence[float]]]

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

    @property
    def sources(self) -> list[int]:
        """Of all frames, clip by clip: which frame of the film each shows. Clips may show the same ones."""
        return [each for clip in self.clips for each in clip.sources]


def stream_of(name: str, film: Path, truth: Path, work: Path) -> Stream:
    """Return one of `STREAMS`; raises BaleError where film or truth cannot be read."""
    marked, info = read_mot(truth), film_info(film)
    if name == "vtest":
        test = [_cut(marked.frame(index).truth, info.width, info.height) for index in TEST]
        clip = Clip(list(_frames(film, TEST)), test, TEST)
        return Stream(name, info.rate, [clip], _motions([_frames(film, TRAIN)]))
    boxes = {index: marked.frame(index).truth for index in range(TEST.stop)}
    found = {index: each.boxes[~each.ignore] for index, each in boxes.items()}
    tests = [variable_stream(found, TEST, work / "streams", seed, film) for seed in SEEDS]
    trains = [variable_stream(found, TRAIN, work / "streams", seed, film) for seed in SEEDS]
    clips = [
        Clip(list(_frames(each.path)), list(map(FrameTruth.of, each.boxes)), [look.source for look in each.looks])
        for each in tests
    ]
    return Stream(name, info.rate, clips, _motions([_frames(each.path) for each in trains]))


def _cut(truth: FrameTruth, width: int, height: int) -> FrameTruth:
    """What of the boxes is inside the frame: nobody finds what lies beyond."""
    return replace(truth, boxes=np.clip(truth.boxes, 0, np.array([width, height] * 2, np.float32)))


def _frames(film: Path, indices: range | None = None) -> Iterator[Frame]:
    """Yield these frames of a film, numbered anew from 0; raises `VideoError` where it has not all of them."""
    first, count = None, 0
    for frame in read_film(film, motion=True):
        if indices is None or frame.index in indices:
            first = frame.time if first is None else first
            yield replace(frame, index=count, time=frame.time - first)
            count += 1
        if indices is not None and count == len(indices):
            return
    if indices is not None:
        raise VideoError(f"{film}: has {count} of the {len(indices)} frames from {indices.start} to {indices[-1]}")


def _motions(clips: Iterable[Iterable[Frame]]) -> dict[str, list[list[float]]]:
    found: dict[str, list[list[float]]] = {name: [] for name in MEASURES}
    for frames in clips:
        running = {name: measure.start() for name, measure in MEASURES.items()}
        told = [{name: measure(frame) for name, measure in running.items()} for frame in frames]
        for name, each in found.items():
            each.append([motions[name] for motions in told])
    return found
