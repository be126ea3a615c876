"""What might a stream's results look like? Made up, so that every figure of them is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from bale.video.detections import Detections
from bale.video.frame import Frame


@dataclass(frozen=True, eq=False)
class MadeUp:
    """A result of one frame, with the attributes that statistics, pictures and files ask for."""

    frame: Frame
    detections: Detections
    kind: str
    key_index: int | None
    motion: float | None
    arrived: float
    finished: float
    seconds: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""

    @property
    def staleness(self):
        return None if self.key_index is None else self.frame.index - self.key_index

    @property
    def latency(self):
        return self.finished - self.arrived


def some_boxes(many=2):
    boxes = torch.tensor([[1.5, 2.0, 11.5, 32.0], [40.0, 8.0, 52.25, 60.0]])[:many]
    return Detections(boxes, torch.tensor([0.75, 0.5])[:many], torch.tensor([0, 1])[:many])


def made_up(frames, every=10, key_s=0.1, light_s=0.01, period=0.04, seed=0):
    """A sequential stream: every tenth frame a key, motion that comes and goes, boxes on every frame."""
    generator = np.random.default_rng(seed)
    results = []
    for index in range(frames):
        is_key = index % every == 0
        took = (key_s if is_key else light_s) * generator.uniform(1, 1.3)
        seconds = {"features": took * 0.9, "head": took * 0.1} if is_key else {"flow": took * 0.5, "head": took * 0.1}
        motion = 1 + np.sin(index / max(frames, 1) * 12) + generator.uniform(0, 0.4)
        frame = Frame(index, index * period, np.zeros((4, 6, 3), np.uint8))
        key = index - index % every
        kind = "key" if is_key else "carried"
        arrived = index * period
        results.append(MadeUp(frame, some_boxes(), kind, key, float(motion), arrived, arrived + took, seconds))
    return results
