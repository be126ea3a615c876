"""What can a detector learn in seconds? Moving textured shapes, whose every place is known, and a small network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from bale.errors import VideoError
from bale.video.detectors.centre_point import CentrePointDetector

SHAPES = ("disc", "square", "triangle")

# What colours the shapes tend to, red, green, blue: a network of seconds may go by colour before it knows outlines.
_COLOURS = np.array(((0.75, 0.35, 0.3), (0.3, 0.7, 0.35), (0.35, 0.4, 0.8)))
_BACKGROUND = np.array((0.45, 0.45, 0.45))
_COLOUR_SPREAD, _STRENGTH = 0.12, 0.09  # how far colours lie from those, and how far a wave takes them
_WAVES = 6  # a texture is a sum of so many, so it is known between the pixels too
_HIDDEN = 0.4  # share of a sprite that others may cover before it counts as hidden


@dataclass(frozen=True, eq=False)
class SpriteFilm:
    """A film of sprites.

    images  uint8 [frames, height, width, 3], red, green, blue
    boxes   for each frame float32 [objects, 4]: left, top, right, bottom, pixels, cut to the frame; none is hidden
    labels  for each frame int64 [objects]: which of `SHAPES`
    """

    images: np.ndarray
    boxes: list[np.ndarray]
    labels: list[np.ndarray]


def sprite_film(
    frames: int,
    size: tuple[int, int] = (96, 96),
    *,
    seed: int = 0,
    sprites: int = 3,
    sides: tuple[float, float] = (14.0, 30.0),
    speed: float = 2.0,
    panning: float = 0.0,
) -> SpriteFilm:
    """Return a film of `sprites` shapes that move evenly, by parts of pixels, over a background, and turn at the edges.

    Args:
        frames: how many.
        size: height and width, pixels.
        seed: of shapes, textures, places and directions.
        sprites: how many move; one that is hidden behind another for two fifths of its area has no box.
        sides: least and greatest width of a sprite; its height is up to a quarter more or less.
        speed: greatest speed along each axis, pixels a frame.
        panning: pixels a frame by which the background moves to the left; 0 is a camera at rest.

    Raises VideoError for numbers out of range.
    """
    if frames < 1 or sprites < 0 or min(size) < 1:
        raise VideoError(f"expected at least one frame and pixel, got {frames} frames of {size}, {sprites} sprites")
    if not 2 <= sides[0] <= sides[1] or 1.25 * sides[1] > min(size):
        raise VideoError(f"sides must be (least, greatest), from 2 to {min(size) / 1.25:g}, got {sides}")
    random = np.random.default_rng(seed)
    background = _Texture.drawn(random, _BACKGROUND, (8.0, 40.0), grey=True)
    cast = [_Sprite.drawn(random, size, sides, speed) for _ in range(sprites)]
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    images, boxes, labels = [], [], []
    for frame in range(frames):
        picture = background.at(columns + panning * frame, rows)
        covers = [sprite.paint(picture, columns, rows, frame) for sprite in cast]
        seen = [index for index in range(sprites) if _visible_share(covers, index) > 1 - _HIDDEN]
        found = np.array([cast[index].box(frame) for index in seen], np.float32).reshape(-1, 4)
        images.append(np.round(picture * 255).astype(np.uint8))
        boxes.append(found.clip(0, np.array((size[1], size[0], size[1], size[0]), np.float32)))
        labels.append(np.array([cast[index].shape for index in seen], np.int64))
    return SpriteFilm(np.stack(images), boxes, labels)


@dataclass(frozen=True, eq=False)
class _Texture:
    """A colour [3] and waves of colour: direction and frequency [waves, 2], phase [waves], strength [waves, 3]."""

    colour: np.ndarray
    frequency: np.ndarray
    phase: np.ndarray
    strength: np.ndarray

    @classmethod
    def drawn(
        cls, random: np.random.Generator, colour: np.ndarray, lengths: tuple[float, float], grey: bool = False
    ) -> _Texture:
        """`lengths`: the least and greatest of a wave, pixels; `grey`: waves change brightness alone."""
        length = np.exp(random.uniform(np.log(lengths[0]), np.log(lengths[1]), _WAVES))
        angle = random.uniform(0, 2 * np.pi, _WAVES)
        frequency = 2 * np.pi * np.stack((np.cos(angle), np.sin(angle)), 1) / length[:, None]
        strength = random.uniform(-_STRENGTH, _STRENGTH, (_WAVES, 1 if grey else 3)).repeat(3 if grey else 1, axis=1)
        shade = colour + random.uniform(-_COLOUR_SPREAD, _COLOUR_SPREAD, 3)
        return cls(shade, frequency, random.uniform(0, 2 * np.pi, _WAVES), strength)

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return colours [..., 3], 0 to 1."""
        waves = np.sin(x[..., None] * self.frequency[:, 0] + y[..., None] * self.frequency[:, 1] + self.phase)
        return (self.colour + waves @ self.strength).clip(0, 1)


@dataclass(frozen=True, eq=False)
class _Sprite:
    """`side`: width and height; `start` and `velocity`: of the centre; the centre turns at `low` and at `high`."""

    shape: int
    texture: _Texture
    side: np.ndarray
    start: np.ndarray
    velocity: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def drawn(
        cls, random: np.random.Generator, size: tuple[int, int], sides: tuple[float, float], speed: float
    ) -> _Sprite:
        shape = int(random.integers(len(SHAPES)))
        width = random.uniform(*sides)
        side = np.array((width, width * random.uniform(0.8, 1.25)))
        high = np.array((size[1], size[0])) - side / 2
        return cls(
            shape=shape,
            texture=_Texture.drawn(random, _COLOURS[shape], (5.0, 16.0)),
            side=side,
            start=random.uniform(side / 2, high),
            velocity=random.uniform(-speed, speed, 2),
            low=side / 2,
            high=high,
        )

    def centre(self, frame: int) -> np.ndarray:
        # A way that turns at both ends is a straight one, folded.
        room = np.maximum(self.high - self.low, 1e-9)
        way = (self.start - self.low + self.velocity * frame) % (2 * room)
        return self.low + np.minimum(way, 2 * room - way)

    def box(self, frame: int) -> np.ndarray:
        centre = self.centre(frame)
        return np.concatenate((centre - self.side / 2, centre + self.side / 2))

    def paint(self, picture: np.ndarray, columns: np.ndarray, rows: np.ndarray, frame: int) -> np.ndarray:
        """Draw into `picture` and return how much of each pixel is covered, 0 to 1."""
        x, y = self.centre(frame)
        right, down = columns - x, rows - y
        cover = (0.5 - self._distance(right, down)).clip(0, 1)
        painted = cover > 0
        over = cover[painted][:, None]
        picture[painted] = picture[painted] * (1 - over) + self.texture.at(right[painted], down[painted]) * over
        return cover

    def _distance(self, right: np.ndarray, down: np.ndarray) -> np.ndarray:
        """Pixels to the outline, negative inside; near enough for an edge that is one pixel soft."""
        half = self.side / 2
        if SHAPES[self.shape] == "disc":
            return (np.hypot(right / half[0], down / half[1]) - 1) * half.min()
        if SHAPES[self.shape] == "square":
            return np.maximum(np.abs(right) - half[0], np.abs(down) - half[1])
        # A triangle that stands on its base: two slanted sides that meet at the middle of the top.
        slant = np.hypot(self.side[1], half[0])
        sides = (np.abs(right) * self.side[1] - (down + half[1]) * half[0]) / slant
        return np.maximum(sides, down - half[1])


def _visible_share(covers: list[np.ndarray], index: int) -> float:
    """How much of a sprite those painted after it leave visible."""
    left = covers[index]
    for later in covers[index + 1 :]:
        left = left * (1 - later)
    return float(left.sum() / max(covers[index].sum(), 1e-9))


class TinyDetector(CentrePointDetector):
    """Five convolutions and a head of centre points: 21 thousand weights, for films of sprites and for tests.

    Raises VideoError for a stride that is neither 4 nor 8.
    """

    def __init__(self, *, stride: int = 4, channels: int = 16) -> None:
        if stride not in (4, 8):
            raise VideoError(f"stride must be 4 or 8, got {stride}")
        super().__init__(SHAPES, channels, hidden=24, multiple=stride, stride=stride)
        self._settings = {"stride": stride, "channels": channels}
        self.layers = nn.Sequential(
            nn.Conv2d(3, 12, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(12, 24, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(24, 24, 3, stride=stride // 4, padding=1),
            nn.ReLU(),
            # Wide steps, so that the middle of a sprite knows its outline.
            nn.Conv2d(24, 24, 3, padding=2, dilation=2),
            nn.ReLU(),
            nn.Conv2d(24, channels, 3, padding=2, dilation=2),
            nn.ReLU(),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        self.requires_grad_(False)
        self.eval()

    def settings(self) -> dict[str, object]:
        return dict(self._settings)

    def features(self, image: Tensor) -> Tensor:
        # Near to 0 on average and to 1 in size, as the layers' first weights take it.
        return self.layers((image - 0.5) * 4)
