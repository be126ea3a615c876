"""What do synthetic things look like? Like noise with edges, or like pieces of photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from bale.errors import VideoError

SIDE = 256  # of a texture, in its own pixels


@dataclass(frozen=True, eq=False)
class Textures:
    """Square pictures that can be looked up between their pixels, and that go on beyond their sides, mirrored.

    pictures  float32 [count, SIDE, SIDE, 3], red, green, blue, 0 to 1
    """

    pictures: Tensor

    def __len__(self) -> int:
        return len(self.pictures)

    @classmethod
    def procedural(cls, count: int = 32, seed: int = 0) -> Textures:
        """Return smooth noise of random roughness, half of it with sharp edges; all of it depends on `seed` alone."""
        generator = torch.Generator().manual_seed(seed)
        return cls(torch.stack([_procedural(generator, edges=place % 2 == 1) for place in range(count)]))

    def with_images(self, images: Sequence[np.ndarray], pieces: int = 8, seed: int = 0) -> Textures:
        """Return these textures and `pieces` random squares of each image, uint8 [height, width, 3].

        Raises VideoError for an image of another type or shape, or with a side below `SIDE`.
        """
        generator = torch.Generator().manual_seed(seed)
        cut = []
        for number, image in enumerate(images):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < SIDE:
                raise VideoError(
                    f"image {number}: textures are cut from uint8 [height, width, 3] with sides of at least {SIDE}, "
                    f"got {image.dtype} {list(image.shape)}"
                )
            pixels = torch.from_numpy(np.ascontiguousarray(image)).float() / 255
            for _ in range(pieces):
                top, left = (_below(length - SIDE + 1, generator) for length in image.shape[:2])
                cut.append(pixels[top : top + SIDE, left : left + SIDE])
        return Textures(torch.cat((self.pictures, torch.stack(cut)))) if cut else self

    def at(self, texture: Tensor, place: Tensor) -> Tensor:
        """Return the colours [..., 3] of textures, int64 [...], at places x, y, float32 [..., 2]; bilinear."""
        period = 2.0 * (SIDE - 1)
        inside = SIDE - 1 - (place.remainder(period) - (SIDE - 1)).abs()  # mirrored; 0 to SIDE - 1
        corner = inside.floor().clamp(max=SIDE - 2)
        x, y = (inside - corner).unsqueeze(-2).unbind(-1)  # each [..., 1]
        left, top = corner.long().unbind(-1)
        pixels = self.pictures.reshape(-1, 3)
        row = (texture * SIDE + top) * SIDE + left
        above = torch.lerp(_rows(pixels, row), _rows(pixels, row + 1), x)
        below = torch.lerp(_rows(pixels, row + SIDE), _rows(pixels, row + SIDE + 1), x)
        return torch.lerp(above, below, y)


def _rows(pixels: Tensor, row: Tensor) -> Tensor:
    return pixels.index_select(0, row.reshape(-1)).reshape(*row.shape, 3)


def _procedural(generator: torch.Generator, edges: bool) -> Tensor:
    """Return one texture: octaves of noise, their strengths falling at random, around a random colour."""
    colour = torch.rand(3, 1, 1, generator=generator)
    roughness = 0.4 + 0.5 * torch.rand((), generator=generator)  # the next octave's strength beside this one's
    noise = torch.zeros(3, SIDE, SIDE)
    strength = 1.0
    for cells in (4, 8, 16, 32, 64, 128):
        gray, tint = torch.randn(1, 1, cells, cells, generator=generator), torch.randn(3, 1, 1, generator=generator)
        octave = interpolate(gray, (SIDE, SIDE), mode="bicubic", align_corners=False)[0] * (1 + 0.3 * tint)
        if edges and cells <= 32:
            # tanh makes plateaus with a boundary a pixel or two wide: edges that can still be looked up in between.
            octave = torch.tanh(octave * 128 / cells)
        noise += strength * octave
        strength *= float(roughness)
    noise = noise / noise.std()
    contrast = 0.05 + 0.2 * torch.rand((), generator=generator)
    return (0.2 + 0.6 * colour + contrast * noise).clamp(0, 1).permute(1, 2, 0)


def _below(limit: int, generator: torch.Generator) -> int:
    return int(torch.randint(limit, (), generator=generator))
