"""How does one picture with boxes become many to learn from?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from bale.errors import VideoError

_LEAST_PIXELS = 2.0  # a side that is shorter teaches nothing


@dataclass(frozen=True)
class Augmentation:
    """What is drawn at random for each picture of a batch.

    size        pixels of the side of the square crops
    zoom        least and greatest factor by which a crop is enlarged, drawn evenly on a logarithmic scale; as much
                more as a picture that is smaller than the crop needs
    flip        share of crops that are mirrored, left to right
    light       greatest change of brightness and of contrast, of each as a share
    colour      greatest change of each of red, green and blue beside the others, as a share
    on_objects  share of crops that are laid over an object; the others lie anywhere
    visible     share of a box's area that must be inside a crop; of less, the object is no object
    """

    size: int = 256
    zoom: tuple[float, float] = (0.75, 1.5)
    flip: float = 0.5
    light: float = 0.25
    colour: float = 0.08
    on_objects: float = 0.8
    visible: float = 0.4

    def __post_init__(self) -> None:
        if self.size < 1:
            raise VideoError(f"size must be at least 1, got {self.size}")
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise VideoError(f"zoom must be (least, greatest), both above 0, got {self.zoom}")
        for name in ("flip", "light", "colour", "on_objects", "visible"):
            if not 0 <= getattr(self, name) <= 1:
                raise VideoError(f"{name} must be from 0 to 1, got {getattr(self, name)}")


def crop(
    image: np.ndarray, boxes: Tensor, labels: Tensor, how: Augmentation, random: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a crop float32 [3, size, size], 0 to 1, of `image` uint8 [height, width, 3], its boxes and their labels.

    Boxes, float [objects, 4], are cut to the crop.
    """
    height, width = image.shape[:2]
    zoom = float(np.exp(random.uniform(np.log(how.zoom[0]), np.log(how.zoom[1]))))
    side = max(1, min(round(how.size / zoom), height, width))
    left, top = _corner((height, width), side, boxes, how, random)
    window = torch.from_numpy(np.ascontiguousarray(image[top : top + side, left : left + side]))
    picture = window.permute(2, 0, 1)[None].float() / 255
    if side != how.size:
        picture = interpolate(picture, (how.size, how.size), mode="bilinear", align_corners=False, antialias=True)
    moved = (boxes.float() - torch.tensor((left, top, left, top))) * (how.size / side)
    inside = moved.clamp(0, how.size)
    across, whole = inside[:, 2:] - inside[:, :2], (moved[:, 2:] - moved[:, :2]).prod(1)
    kept = (across.prod(1) >= how.visible * whole) & (across >= _LEAST_PIXELS).all(1)
    inside = inside[kept]
    if random.random() < how.flip:
        picture = picture.flip(-1)
        inside = torch.stack((how.size - inside[:, 2], inside[:, 1], how.size - inside[:, 0], inside[:, 3]), 1)
    return _coloured(picture[0], how, random), inside, labels[kept]


def _corner(
    size: tuple[int, int], side: int, boxes: Tensor, how: Augmentation, random: np.random.Generator
) -> tuple[int, int]:
    """Left and top of a window."""
    height, width = size
    if len(boxes) and random.random() < how.on_objects:
        box = boxes[int(random.integers(len(boxes)))].tolist()
        # The object's centre lies anywhere in the window, as far as the picture's edges allow.
        left, top = (
            int((box[axis] + box[axis + 2]) / 2 - random.uniform(0, side)) for axis in (0, 1)
        )  # fmt: skip
        return min(max(left, 0), width - side), min(max(top, 0), height - side)
    return int(random.integers(width - side + 1)), int(random.integers(height - side + 1))


def _coloured(picture: Tensor, how: Augmentation, random: np.random.Generator) -> Tensor:
    contrast, brightness = 1 + random.uniform(-how.light, how.light, 2)
    balance = torch.from_numpy(1 + random.uniform(-how.colour, how.colour, (3, 1, 1))).float()
    mean = picture.mean()
    return (((picture - mean) * float(contrast) + mean) * float(brightness) * balance).clamp(0, 1)
