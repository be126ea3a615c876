"""A detector and a flow so small that thousands of frames take seconds, and so plain that it is known what they find.

The first pixel of a frame tells both what they need: how far everything is shifted (red, pixels), whether the detector
is to raise (green), and how long it is to take (blue, milliseconds).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bale.video.detections import Detections
from bale.video.flow.estimator import Flow
from bale.video.frame import Frame

POISON = 255


class PoisonedImage(Exception):
    """The image asked the detector to raise."""


class ToyDetector(nn.Module):
    """A convolution of stride 4, and a head that finds the three cells that answer most."""

    multiple = 4

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(4, 3, 4, 4, generator=generator), requires_grad=False)
        self.eval()

    def features(self, image: Tensor) -> Tensor:
        if image[0, 1, 0, 0] * 255 == POISON:
            raise PoisonedImage("a green first pixel")
        if slow := float(image[0, 2, 0, 0]):
            time.sleep(slow * 255 / 1000)
        return nn.functional.conv2d(image, self.weight, stride=4)

    def head(self, features: Tensor, size: tuple[int, int]) -> Detections:
        answers, labels = features[0].max(0)
        scores, cells = answers.flatten().sigmoid().topk(3)
        top, left = cells // features.shape[3] * 4.0, cells % features.shape[3] * 4.0
        boxes = torch.stack([left, top, (left + 4).clamp(max=size[1]), (top + 4).clamp(max=size[0])], 1)
        return Detections(boxes, scores, labels.flatten()[cells])


@dataclass(frozen=True)
class ShiftFlow:
    """Knows from both frames' first pixels how far everything moved, to the right."""

    def start(self) -> ShiftFlow:
        return self

    def prepare(self, image: Tensor) -> Tensor:
        return image[0, 0, 0, 0] * 255

    def flow(self, current: Tensor, key: Tensor, changed: np.ndarray | None) -> Flow:
        field = torch.zeros(1, 2, 2, 2)
        field[0, 0] = key - current
        return Flow(field)


def toy_image(size: tuple[int, int], shift: int, *, poison: bool = False, seed: int = 0) -> np.ndarray:
    """Noise that is shifted to the right, pixels, coming in again on the left."""
    noise = np.random.default_rng(seed).integers(0, 200, (*size, 3), np.uint8)
    image = np.roll(noise, shift, 1)
    image[0, 0] = shift, POISON if poison else 0, 0
    return image


def toy_frame(index: int, size: tuple[int, int] = (10, 14), *, poison: bool = False) -> Frame:
    """A frame that has moved by a few pixels since the one before."""
    return Frame(index, index / 25, toy_image(size, index * 3 % 8, poison=poison))


def faulty_frames(frames: int, seed: int, *, slow: bool = True) -> Iterator[Frame]:
    """Frames of which one in a hundred cannot be read, one in a hundred makes the detector raise, one in fifty makes
    it slow, and one in five hundred begins another resolution; never does the first of a resolution make it raise."""
    rng = np.random.default_rng(seed)
    sizes = ((10, 14), (16, 16), (24, 20))
    size, readable = sizes[0], None
    for index in range(frames):
        fate = rng.random()
        if fate < 0.01:
            yield Frame(index, index / 25, None, problem="torn")
            continue
        if fate > 0.998:
            size = sizes[rng.integers(len(sizes))]
        frame = toy_frame(index, size, poison=0.01 < fate < 0.02 and size == readable)
        assert frame.image is not None
        frame.image[0, 0, 2] = rng.integers(1, 5) if slow and 0.02 < fate < 0.04 else 0
        readable = size
        yield frame
