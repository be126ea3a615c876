"""Where does exact flow come from? From scenes whose every surface is known, at every place and time.

A scene is a textured background and textured sprites in front of it; each moves by its own affine map. An image is
evaluated, not warped: each pixel asks which surface it sees, where on it, and looks that place up. So flow is exact by
construction, and so is what is hidden in the other image. FlowNet was trained on such scenes (Flying Chairs, ICCV
2015); the mixture of motions here is ours, for cameras that stand or pan and for things that are small and slow.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, pi

import torch
from torch import Tensor

from bale.errors import VideoError
from bale.video.flow.textures import SIDE, Textures

_POWERS = (1.5, 2.0, 4.0, 12.0)  # of the shapes: nearly a diamond, an ellipse, in between, nearly a rectangle
_ROUNDING = 1e-6  # pixels by which a place may seem to lie outside of an image whose first or last pixel it is


@dataclass(frozen=True)
class SceneConfig:
    """How scenes are drawn at random. Lengths are in pixels of their images.

    size      height and width of the images
    sprites   at most so many in a scene; each is there in three scenes of four
    radius    half the height of a sprite, from and to; its width is .3 to 1.2 times its height
    standing  share of cameras that do not move at all, and of sprites that do not move on their background
    pan       how far a moving camera moves the background between two frames that `gap` lies between, at most
    speed     the same of sprites, on their background
    turn      the same of angles, radians, and of changes of size, a share; for cameras a quarter of it
    noise     standard deviation of each image's own noise, at most; 0 leaves images exact
    light     by which share the second image may be brighter or darker
    """

    size: tuple[int, int] = (128, 192)
    sprites: int = 6
    radius: tuple[float, float] = (8.0, 32.0)
    standing: float = 0.4
    pan: float = 16.0
    speed: float = 24.0
    turn: float = 0.12
    noise: float = 0.0
    light: float = 0.0

    def __post_init__(self) -> None:
        if min(self.size) < 2 or self.sprites < 0:
            raise VideoError(f"scenes need sides of at least 2 and 0 or more sprites, got {self.size}, {self.sprites}")
        if not 0 < self.radius[0] <= self.radius[1] < inf:
            raise VideoError(f"radius is from above 0 to a number that is not less, got {self.radius}")
        if not 0 <= self.standing <= 1:
            raise VideoError(f"standing is a share, 0 to 1, got {self.standing}")
        for name in ("pan", "speed", "turn", "noise", "light"):
            if not 0 <= getattr(self, name) < inf:
                raise VideoError(f"{name} must be at least 0 and finite, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of images and the flow between them.

    current, key  float32 [pairs, 3, height, width], red, green, blue, 0 to 1
    flow          float32 [pairs, 2, height, width]: what is at p in `current` is at p + flow in `key`; x then y, pixels
    valid         bool [pairs, height, width]: it can be seen there, neither hidden nor out of the image
    counts        float32 [pairs, height, width]: by how much each place counts in training; None: all the same
    """

    current: Tensor
    key: Tensor
    flow: Tensor
    valid: Tensor
    counts: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Scenes:
    """Some scenes, each of one background (layer 0) and sprites, the later before the earlier, over some frames.

    size      height and width of the images
    textures  what `texture` chooses from
    texture   int64 [scenes, layers]
    origin    float32 [scenes, layers, 2]: the place of its texture in the middle of a layer
    tint      float32 [scenes, layers, 3], by which colours are multiplied, before they are cut off at 1
    radius    float32 [scenes, layers, 2]: half the width and height of a layer, infinite for the background
    power     float32 [scenes, layers]: a sprite is |x / radius| ** power + |y / radius| ** power <= 1
    pose      float64 [frames, scenes, layers, 2, 3], affine: from a place x, y, 1 on a layer, from its middle, to the
              pixel of the image that shows it
    """

    size: tuple[int, int]
    textures: Textures
    texture: Tensor
    origin: Tensor
    tint: Tensor
    radius: Tensor
    power: Tensor
    pose: Tensor

    def __len__(self) -> int:
        return len(self.texture)

    @property
    def frames(self) -> int:
        """The number of frames that poses are known for."""
        return len(self.pose)

    def images(self, frame: int) -> Tensor:
        """Return what a frame shows, float32 [scenes, 3, height, width], 0 to 1."""
        layer, u, v = self._seen(frame, *self._pixels())
        scene = torch.arange(len(self))[:, None, None]
        place = torch.stack((u, v), dim=-1).float() + self.origin[scene, layer]
        colours = self.textures.at(self.texture[scene, layer], place)
        return (colours * self.tint[scene, layer]).clamp(max=1).permute(0, 3, 1, 2).contiguous()

    def flow(self, current: int, key: int) -> tuple[Tensor, Tensor]:
        """Return the exact flow from frame `current` to frame `key`, and where both show the same: as in `Pairs`."""
        x, y = self._pixels()
        layer, u, v = self._seen(current, x, y)
        there_x, there_y = _moved(self.pose[key][torch.arange(len(self))[:, None, None], layer], u, v)
        layer_there, _, _ = self._seen(key, there_x, there_y)
        height, width = (length - 1 + _ROUNDING for length in self.size)
        inside = (there_x >= -_ROUNDING) & (there_x <= width) & (there_y >= -_ROUNDING) & (there_y <= height)
        return torch.stack((there_x - x, there_y - y), dim=1).float(), inside & (layer_there == layer)

    def layers(self, frame: int) -> Tensor:
        """Return which layer each pixel of a frame shows, int64 [scenes, height, width]; 0 is the background."""
        return self._seen(frame, *self._pixels())[0]

    def boxes(self, frame: int) -> Tensor:
        """Return left, top, right, bottom of all sprites, float32 [scenes, layers - 1, 4], pixels, hidden parts too.

        As boxes of detections are: a pixel is one wide, and its middle is at its number + .5.
        """
        pose, radius = self.pose[frame, :, 1:], self.radius[:, 1:].double()
        # How far the shape reaches along a direction is the norm, dual to its own, of the direction on its axes.
        dual = (self.power[:, 1:] / (self.power[:, 1:] - 1)).double()[..., None]
        reach = (pose[..., :2].abs() * radius[..., None, :]).pow(dual[..., None]).sum(dim=-1).pow(1 / dual)
        middle = pose[..., 2] + 0.5
        return torch.cat((middle - reach, middle + reach), dim=-1).float()

    def _pixels(self) -> tuple[Tensor, Tensor]:
        """Return x and y of all pixels, float64 [1, 1, width] and [1, height, 1]."""
        y, x = (torch.arange(length, dtype=torch.float64) for length in self.size)
        return x[None, None], y[None, :, None]

    def _seen(self, frame: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what is seen at x and y, float64, together [scenes or 1, height, width]: the layer, and where on it.

        In float64, because at a float32's precision the two images of a pair would differ here and there at edges.
        """
        inverse = _inverse(self.pose[frame])[:, None, None]  # [scenes, 1, 1, layers, 2, 3]
        u, v = _moved(inverse[..., 0, :, :], x, y)
        layer = torch.zeros(u.shape, dtype=torch.int64)
        for sprite in range(1, self.texture.shape[1]):
            at_u, at_v = _moved(inverse[..., sprite, :, :], x, y)
            radius, power = self.radius[:, sprite, :, None, None], self.power[:, sprite, None, None]
            across, along = (at_u / radius[:, 0]).float().abs_(), (at_v / radius[:, 1]).float().abs_()
            inside = across.pow_(power).add_(along.pow_(power)) <= 1
            layer.masked_fill_(inside, sprite)
            u, v = torch.where(inside, at_u, u), torch.where(inside, at_v, v)
        return layer, u, v


def draw_scenes(
    count: int, config: SceneConfig, textures: Textures, generator: torch.Generator, frames: int = 2, gap: int = 1
) -> Scenes:
    """Draw scenes at random: `frames` frames of constant velocities, which `config` states for frames `gap` apart.

    Frame 0 is the one in which sprites lie inside the image; motions are random, so either direction is as likely.
    """
    height, width = config.size
    layers = 1 + config.sprites
    middle = torch.tensor((width - 1.0, height - 1.0)) / 2
    draw = _Draw(generator, count)
    tall = draw.between(*config.radius, config.sprites)
    radius = torch.stack((tall * draw.between(0.3, 1.2, config.sprites), tall), dim=-1)
    there = draw.chance(0.75, config.sprites)
    radius = radius * there[..., None] + 1e-6  # a sprite that is not there is too small to be seen
    start = draw.between(0, 1, config.sprites, 2) * 2 * middle
    angle = draw.between(-0.3, 0.3, layers)
    stretch = draw.between(0.7, 1.4, layers)

    pan, turn, growth = draw.motion(1, config.standing, config.pan, config.turn / 4)
    own, own_turn, own_growth = draw.motion(config.sprites, config.standing, config.speed, config.turn)
    times = torch.arange(frames).double() / gap
    poses = []
    for time in times.tolist():
        background = _affine(turn * time, 1 + growth * time, middle + pan * time, around=middle)
        sprites = _affine(own_turn * time, 1 + own_growth * time, start + own * time, around=torch.zeros(2))
        # The camera moves sprites as it moves the background; a layer's own coordinates are turned and stretched.
        poses.append(torch.cat((background, _after(background, sprites)), dim=1))
    still = _affine(angle, stretch, torch.zeros(2), around=torch.zeros(2))
    still[:, 1:] = torch.eye(2, 3, dtype=torch.float64)
    return Scenes(
        size=config.size,
        textures=textures,
        texture=torch.randint(len(textures), (count, layers), generator=generator),
        origin=draw.between(0, SIDE, layers, 2),
        tint=draw.between(0.6, 1.2, layers, 1) * draw.between(0.85, 1.15, layers, 3),
        radius=torch.cat((torch.full((count, 1, 2), inf), radius), dim=1),
        power=torch.tensor(_POWERS)[torch.randint(len(_POWERS), (count, layers), generator=generator)],
        pose=torch.stack([_after(pose, still) for pose in poses]),
    )


def draw_pairs(count: int, config: SceneConfig, textures: Textures, generator: torch.Generator) -> Pairs:
    """Draw pairs of images at random; the same generator gives the same pairs.

    >>> draw_pairs(2, SceneConfig((32, 48)), Textures.procedural(2), torch.Generator().manual_seed(0)).flow.shape
    torch.Size([2, 2, 32, 48])
    """
    scenes = draw_scenes(count, config, textures, generator)
    pairs = Pairs(scenes.images(0), scenes.images(1), *scenes.flow(0, 1))
    return lit(pairs, config.light, config.noise, generator)


def lit(pairs: Pairs, light: float, noise: float, generator: torch.Generator) -> Pairs:
    """Return pairs of which each second image is brighter or darker, and both have noise, as `SceneConfig` says."""
    count, current, key = len(pairs.flow), pairs.current, pairs.key
    if light:
        key = (key * (1 + light * (2 * torch.rand(count, 1, 1, 1, generator=generator) - 1))).clamp(0, 1)
    if noise:
        strength = noise * torch.rand(count, 1, 1, 1, generator=generator)
        current, key = (
            (each + strength * torch.randn(each.shape, generator=generator)).clamp(0, 1) for each in (current, key)
        )
    return replace(pairs, current=current, key=key)


class _Draw:
    """Random numbers of some scenes, each [scenes, ...]."""

    def __init__(self, generator: torch.Generator, scenes: int) -> None:
        self.generator, self.scenes = generator, scenes

    def between(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(self.scenes, *shape, generator=self.generator)

    def chance(self, share: float, *shape: int) -> Tensor:
        return self.between(0, 1, *shape) < share

    def motion(self, layers: int, standing: float, far: float, turn: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return displacements [scenes, layers, 2], turns and growths [scenes, layers]; all 0 where a layer stands.

        Lengths are `far` times the square of a uniform number: small motions are many, large ones some.
        """
        moves = ~self.chance(standing, layers)
        length = far * self.between(0, 1, layers).square() * moves
        direction = self.between(0, 2 * pi, layers)
        displacement = length[..., None] * torch.stack((direction.cos(), direction.sin()), dim=-1)
        turns, growths = (turn * self.between(-1, 1, layers).pow(3) * moves for _ in range(2))
        return displacement, turns, growths


def _affine(angle: Tensor, stretch: Tensor, middle: Tensor, around: Tensor) -> Tensor:
    """Return maps [..., 2, 3] that turn and stretch about `around`, [..., 2], and bring it to `middle`."""
    cosine, sine = angle.double().cos() * stretch, angle.double().sin() * stretch
    linear = torch.stack((cosine, -sine, sine, cosine), dim=-1).unflatten(-1, (2, 2))
    offset = middle.double() - (linear @ around.double()[..., None]).squeeze(-1)
    return torch.cat((linear, offset.expand(*angle.shape, 2)[..., None]), dim=-1)


def _after(outer: Tensor, inner: Tensor) -> Tensor:
    """Return the maps [..., 2, 3] that do `inner` first and then `outer`."""
    linear = outer[..., :2]
    offset = linear @ inner[..., 2:] + outer[..., 2:]
    return torch.cat((linear @ inner[..., :2], offset), dim=-1)


def _inverse(pose: Tensor) -> Tensor:
    linear = torch.linalg.inv(pose[..., :2])
    return torch.cat((linear, -linear @ pose[..., 2:]), dim=-1)


def _moved(pose: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return where maps [..., 2, 3] bring x and y, [...]."""
    # In this order few operations are large where x is a row and y a column.
    u, v = (pose[..., row, 0] * x + (pose[..., row, 1] * y + pose[..., row, 2]) for row in range(2))
    return u, v
