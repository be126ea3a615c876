"""What does one pass over a stream give? Results of every frame, kept in a file, and the figures of them."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bale.video.detections import Detections
from bale.video.metrics.average_precision import FrameTruth, Matches, match_frame
from bale.video.metrics.latency import LatencyStats
from bale.video.pace import paced
from bale.video.result import FrameResult, StreamCounts
from bale.video.stream import VideoDetector
from benchmarks.video.material import Stream


@dataclass(frozen=True)
class Seen:
    """One frame of a pass: its boxes [left, top, right, bottom, score], which key, seconds in all and by stage.

    `arrived`: seconds after its clip's first frame.
    """

    boxes: list[list[float]]
    kind: str
    staleness: int
    arrived: float
    latency: float
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Pass:
    """One pass over all clips of a stream; `facts` are of the machine and the settings."""

    clips: list[list[Seen]]
    keys: int
    key_seconds: float
    facts: Mapping[str, Any]

    @property
    def frames(self) -> list[Seen]:
        """Of all clips, in their order."""
        return [each for clip in self.clips for each in clip]

    @property
    def key_rate(self) -> float:
        return self.keys / len(self.frames)

    @property
    def later(self) -> list[Seen]:
        """Frames after each clip's start-up.

        A clip starts up until its first frame, which has to wait for its features and pays for allocations, is done:
        what arrives by then waits behind it, in every variant.
        """
        return [each for clip in self.clips for each in clip if each.arrived >= clip[0].latency]

    def latency(self) -> LatencyStats:
        """Of all frames after each clip's start-up; `first` is the mean of the clips' first frames."""
        first = float(np.mean([clip[0].latency for clip in self.clips]))
        return LatencyStats.of([first, *(each.latency for each in self.later)])

    def stage_seconds(self) -> Counter[str]:
        """Seconds by stage, summed over all frames."""
        total: Counter[str] = Counter()
        for each in self.frames:
            total.update(each.seconds)
        return total

    def flow_seconds(self) -> float:
        """Mean seconds that a carried frame's flow takes, with what it asks of images and masks."""
        carried = [each for each in self.later if "flow" in each.seconds]
        stages = ("choose", "prepare", "flow")
        return float(np.mean([sum(each.seconds.get(s, 0.0) for s in stages) for each in carried])) if carried else 0.0

    def spent(self) -> float:
        """Seconds of work, of frames and of their worker."""
        stages = self.stage_seconds()
        work = sum(seconds for stage, seconds in stages.items() if stage not in ("wait", "features"))
        return work + self.key_seconds


def run(detector: VideoDetector, stream: Stream, pace: bool, on_frame: Callable[[], object]) -> Pass:
    """Run over all clips, frames arriving at the stream's rate if `pace`."""
    clips, keys, key_seconds = [], 0, 0.0
    for clip in stream.clips:
        frames = paced(clip.frames, stream.rate) if pace else clip.frames
        seen: list[Seen] = []
        begin = math.nan
        with detector.stream(frames) as results:
            for result in results:
                begin = begin if seen else result.arrived
                seen.append(_seen(result, begin))
                on_frame()
            counts: StreamCounts = results.counts
        clips.append(seen)
        keys, key_seconds = keys + counts.keys_finished, key_seconds + counts.key_seconds
    return Pass(clips, keys, key_seconds, {"threads": torch.get_num_threads(), "paced": pace})


def _seen(result: FrameResult, begin: float) -> Seen:
    found = result.detections
    boxes = torch.cat((found.boxes, found.scores[:, None]), 1).tolist()
    assert result.staleness is not None
    return Seen(boxes, result.kind, result.staleness, result.arrived - begin, result.latency, dict(result.seconds))


def matches(done: Pass, truth: Sequence[FrameTruth]) -> list[Matches]:
    """Match what was found on each frame with what is there."""
    return [match_frame(_detections(seen), true) for seen, true in zip(done.frames, truth, strict=True)]


def _detections(seen: Seen) -> Detections:
    rows = torch.tensor(seen.boxes).reshape(-1, 5)
    return Detections(rows[:, :4], rows[:, 4], torch.zeros(len(rows), dtype=torch.int64))


def save(done: Pass, path: Path) -> None:
    """Write a pass to a file, whole or not at all."""
    data = {**vars(done), "clips": [[vars(seen) for seen in clip] for clip in done.clips]}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(data, default=dict))
    part.replace(path)


def load(path: Path) -> Pass:
    """Read a pass."""
    data = json.loads(path.read_text())
    return Pass(**{**data, "clips": [[Seen(**seen) for seen in clip] for clip in data["clips"]]})
