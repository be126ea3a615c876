"""Which pairs of images does each step of FlowNet's training learn from? The same ones whenever it is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from bale.video.flow.flownet import MULTIPLE
from bale.video.flow.synthetic import Pairs, SceneConfig, draw_pairs, lit
from bale.video.flow.textures import Textures

_BARE_PAN = 8.0  # pixels, while warming up
_BARE_SHARE = 0.25  # of steps, once warm
_FLIPS: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))  # axes of images


@dataclass(frozen=True)
class Draw:
    """Pairs as they were drawn, and by how much their light may change and noise be added, each time they are used."""

    pairs: Pairs
    light: float
    noise: float


@dataclass
class StepPairs:
    """The pairs of each step.

    Drawing some costs more than learning from them, so they are learned from four times: as they are, mirrored in
    either axis and in both, each time with their colours exchanged and with light and noise anew.

    draw  the number of a step and a generator -> what that step and the next three learn from
    """

    draw: Callable[[int, torch.Generator], Draw]
    seed: int
    _drawn: tuple[int, Draw] | None = None  # which draw, and what it was

    def of(self, step: int) -> Pairs:
        """Return the pairs of a step, counted from 0."""
        number = step // len(_FLIPS)
        if self._drawn is None or self._drawn[0] != number:
            self._drawn = number, self.draw(number * len(_FLIPS), self._generator(2 * number))
        drawn = self._drawn[1]
        generator = self._generator(2 * step + 1)
        colours = torch.randperm(3, generator=generator)
        pairs = flipped(drawn.pairs, _FLIPS[step % len(_FLIPS)])
        pairs = replace(pairs, current=pairs.current[:, colours], key=pairs.key[:, colours])
        return lit(pairs, drawn.light, drawn.noise, generator)

    def _generator(self, number: int) -> torch.Generator:
        return torch.Generator().manual_seed((self.seed << 32) + number)


@dataclass(frozen=True, eq=False)
class SceneDraws:
    """Draws of synthetic scenes: at first only cameras that pan over coloured blobs, many small images.

    warm_up  so many steps; in the next ones, twice as many, they become fewer, down to a quarter
    """

    scenes: SceneConfig
    textures: Textures
    batch_size: int
    seed: int
    warm_up: int
    blobs: Textures

    def __call__(self, step: int, generator: torch.Generator) -> Draw:
        config, textures, count = self._drawn_from(step)
        clean = replace(config, noise=0.0, light=0.0)  # each use adds its own
        return Draw(draw_pairs(count, clean, textures, generator), config.light, config.noise)

    def _drawn_from(self, step: int) -> tuple[SceneConfig, Textures, int]:
        """Return what a step's pairs are drawn from, and how many; all steps have about as many pixels."""
        chance = torch.rand((), generator=torch.Generator().manual_seed((self.seed << 32) + (1 << 31) + step))
        if chance >= self._bare_share(step):
            return self.scenes, self.textures, self.batch_size
        count = self.batch_size * self.scenes.size[0] * self.scenes.size[1] // MULTIPLE**2
        bare = SceneConfig((MULTIPLE, MULTIPLE), sprites=0, standing=0.0, pan=_BARE_PAN, turn=0.0)
        return bare, self.blobs, count

    def _bare_share(self, step: int) -> float:
        # Not from one step to the next: Adam knows only the small gradients of what is learnt, and the first large ones
        # would throw the network back to saying that nothing moves, for good.
        return max(_BARE_SHARE, min(1.0, 1.5 - step / (2 * self.warm_up))) if self.warm_up else 0.0


def flipped(pairs: Pairs, axes: tuple[int, ...]) -> Pairs:
    """Return pairs mirrored along axes of their images (2 is up and down, 3 left and right), and so their motions."""
    if not axes:
        return pairs
    sign = torch.tensor([-1.0 if axis in axes else 1.0 for axis in (3, 2)])[:, None, None]  # of x, of y
    of_places = [axis - 1 for axis in axes]
    return Pairs(
        current=pairs.current.flip(axes),
        key=pairs.key.flip(axes),
        flow=pairs.flow.flip(axes) * sign,
        valid=pairs.valid.flip(of_places),
        counts=None if pairs.counts is None else pairs.counts.flip(of_places),
    )
