"""What flow do the boxes of a film tell, whose camera stands and whose things have names? Nearly the true one.

A box that is in two frames says how far its thing moved, and by how much it grew; everything else stood. Frames are
seen through windows, and where the two windows of a pair differ the camera seems to have panned. So flow is exact but
for what moves within a box, such as legs. It is no published recipe: Deep Feature Flow (DFF; Zhu et al., CVPR 2017)
learns its flow through the detector; these pairs are a shorter way from the same truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, pi

import numpy as np
import torch
from torch import Tensor

from bale.errors import VideoError
from bale.video.flow.learned import shrunk
from bale.video.flow.synthetic import Pairs
from bale.video.metrics.mot import MotFrame

_POWER = 4.0  # of the shape that moves in a box: |x| ** power + |y| ** power <= 1, a rectangle without its corners


@dataclass(frozen=True)
class TrackConfig:
    """How pairs are drawn from a film. Lengths are in pixels of the network's images.

    size     height and width of the network's images
    scale    side of the network's images beside the film's
    reach    frames that may lie between the two of a pair, at most; either may be the earlier one
    near     share of windows that have a box that is in both frames near their middle
    panning  share of pairs whose camera seems to pan, by at most `pan`; small pans are many, large ones some
    moving   by how much a place in a box counts in training, beside 1 elsewhere
    light, noise  as of `SceneConfig`
    """

    size: tuple[int, int] = (128, 192)
    scale: float = 1 / 2
    reach: int = 10
    near: float = 0.8
    panning: float = 0.4
    pan: float = 24.0
    moving: float = 4.0
    light: float = 0.05
    noise: float = 0.01

    def __post_init__(self) -> None:
        if min(self.size) < 2 or self.reach < 1 or not 0 < self.scale <= 1:
            raise VideoError(
                "pairs need sides of at least 2, a reach of 1 or more and a scale above 0 and at most 1, got "
                f"{self.size}, {self.reach}, {self.scale}"
            )
        for name in ("near", "panning"):
            if not 0 <= getattr(self, name) <= 1:
                raise VideoError(f"{name} is a share, 0 to 1, got {getattr(self, name)}")
        for name in ("pan", "moving", "light", "noise"):
            if not 0 <= getattr(self, name) < inf:
                raise VideoError(f"{name} must be at least 0 and finite, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class TrackedFilm:
    """A film from a camera that stands, and the boxes of all that moves in it.

    frames  uint8 [height, width, 3] each, in a row
    boxes   of each frame; a thing has one id, 0 or more, in all frames
    """

    frames: Sequence[np.ndarray]
    boxes: Sequence[MotFrame]

    def __post_init__(self) -> None:
        if len(self.frames) != len(self.boxes) or len(self.frames) < 2:
            raise VideoError(f"a film of {len(self.frames)} frames with boxes of {len(self.boxes)}: expected the same")

    def moved(self, current: int, key: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the boxes of things that are in both frames, there and there, nearer ones later, and those of others.

        float32 [boxes, 4] each: left, top, right, bottom.
        """
        here, there = self.boxes[current], self.boxes[key]
        place = {int(who): row for row, who in enumerate(there.ids) if who >= 0}
        order = np.argsort(here.boxes[:, 3], kind="stable")  # what stands lower is nearer, seen from above
        both = [row for row in order if int(here.ids[row]) in place]
        others = [row for row in order if int(here.ids[row]) not in place]
        then = [place[int(here.ids[row])] for row in both]
        return here.boxes[both], there.boxes[then], here.boxes[others]


def draw_tracked_pairs(film: TrackedFilm, count: int, config: TrackConfig, generator: torch.Generator) -> Pairs:
    """Draw pairs at random, `current` and `key`; the same generator gives the same pairs.

    `counts` is 0 where nobody knows the flow: in boxes of things that the key does not show, and where the key's window
    ends. Raises VideoError for a frame that is smaller than a window.
    """
    drawn = [_one(film, config, generator) for _ in range(count)]
    current, key, flow, valid, counts = (torch.stack(each) for each in zip(*drawn, strict=True))
    return Pairs(current, key, flow, valid, counts)


def _one(film: TrackedFilm, config: TrackConfig, generator: torch.Generator) -> tuple[Tensor, ...]:
    index = _below(len(film.frames), generator)
    first, last = max(0, index - config.reach), min(len(film.frames) - 1, index + config.reach)
    other = first + _below(last - first, generator)
    other += other >= index  # any but itself
    here, there, others = film.moved(index, other)
    window = tuple(round(side / config.scale) for side in config.size)
    room = np.array([film.frames[index].shape[1] - window[1], film.frames[index].shape[0] - window[0]])
    if room.min() < 0:
        raise VideoError(
            f"windows of {window[1]} x {window[0]} pixels in frames of {film.frames[index].shape[1]} x "
            f"{film.frames[index].shape[0]}: take a smaller size, or a larger scale"
        )
    at = _window(here, window, room, config, generator)
    pan = _pan(config, generator) / config.scale
    key_at = np.clip(np.rint(at + pan), 0, room)
    images = [_seen(film.frames[each], corner, window, config) for each, corner in ((index, at), (other, key_at))]
    flow, known, inside = _flow(here - np.tile(at, 2), there - np.tile(key_at, 2), others - np.tile(at, 2), config)
    still = torch.from_numpy((at - key_at) * config.scale).float()
    flow = torch.where(inside, flow, still[:, None, None])
    x, y = _places(config)
    to_x, to_y = x + flow[0], y + flow[1]
    seen = (to_x >= 0) & (to_x <= config.size[1] - 1) & (to_y >= 0) & (to_y <= config.size[0] - 1)
    counts = torch.where(inside, config.moving, 1.0) * (known & seen)
    return images[0], images[1], flow, known & seen, counts


def _window(
    boxes: np.ndarray, window: tuple[int, ...], room: np.ndarray, config: TrackConfig, generator: torch.Generator
) -> np.ndarray:
    """The left top of a window, x and y, whole pixels of the film."""
    anywhere = torch.rand(3, generator=generator).numpy()
    corner = anywhere[:2] * room
    if len(boxes) and anywhere[2] < config.near:
        box = boxes[_below(len(boxes), generator)]
        off = (torch.rand(2, generator=generator).numpy() - 0.5) * 0.6  # of the window, from its middle
        corner = (box[:2] + box[2:]) / 2 - (0.5 + off) * np.array([window[1], window[0]])
    return np.clip(np.rint(corner), 0, room)


def _pan(config: TrackConfig, generator: torch.Generator) -> np.ndarray:
    chance, far, direction = torch.rand(3, generator=generator).tolist()
    length = config.pan * far**2 * (chance < config.panning)
    return length * np.array([np.cos(2 * pi * direction), np.sin(2 * pi * direction)])


def _seen(frame: np.ndarray, corner: np.ndarray, window: tuple[int, ...], config: TrackConfig) -> Tensor:
    left, top = corner.astype(int)
    cut = np.ascontiguousarray(frame[top : top + window[0], left : left + window[1]])
    return shrunk(torch.from_numpy(cut).permute(2, 0, 1)[None].float() / 255, config.scale)[0]


def _flow(
    here: np.ndarray, there: np.ndarray, others: np.ndarray, config: TrackConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Return flow [2, height, width] in boxes, where it is known, and where boxes are, bool [height, width].

    Boxes are in pixels of the film, from the left top of their window.
    """
    x, y = _places(config)
    flow = torch.zeros(2, *config.size)
    inside = torch.zeros(config.size, dtype=torch.bool)
    known = torch.ones(config.size, dtype=torch.bool)
    for box in others * config.scale:
        known &= ~_shape(box, x, y)
    for box, then in zip(here * config.scale, there * config.scale, strict=True):
        shape = _shape(box, x, y)
        for axis, place in enumerate((x, y)):
            low, high, new_low, new_high = box[axis], box[axis + 2], then[axis], then[axis + 2]
            growth = (new_high - new_low) / max(high - low, 1e-6)
            moved = (new_low + new_high) / 2 - 0.5 + (place + 0.5 - (low + high) / 2) * growth - place
            flow[axis] = torch.where(shape, moved.float(), flow[axis])
        inside, known = inside | shape, known | shape  # a nearer thing hides what nobody knows
    return flow, known, inside


def _places(config: TrackConfig) -> tuple[Tensor, Tensor]:
    """Return x and y of all pixels of the network's images, float32 [1, width] and [height, 1]."""
    height, width = config.size
    return torch.arange(width).float()[None], torch.arange(height).float()[:, None]


def _shape(box: np.ndarray, x: Tensor, y: Tensor) -> Tensor:
    """Where a thing is in its box; pixel i has its middle at i + .5."""
    left, top, right, bottom = box.tolist()
    across, along = (
        ((place + 0.5 - (low + high) / 2) / max((high - low) / 2, 1e-6)).abs()
        for place, low, high in ((x, left, right), (y, top, bottom))
    )
    return across**_POWER + along**_POWER <= 1


def _below(limit: int, generator: torch.Generator) -> int:
    return int(torch.randint(limit, (), generator=generator))
