"""A small model of every architecture for images, and images for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bale.models import VGG8, LeNet5, LSTMClassifier, ResNet20

CLASSES = 4


@dataclass(frozen=True)
class ImageCase:
    """`make` a model for images of `shape` [channels, height, width]; `own` names its steps that are no modules."""

    make: Callable[[], nn.Module]
    shape: tuple[int, int, int]
    own: tuple[str, ...] = ()


IMAGE_CASES: dict[str, ImageCase] = {
    "LeNet5": ImageCase(lambda: LeNet5(CLASSES, channels=2, size=13), (2, 13, 13)),
    "VGG8": ImageCase(lambda: VGG8(CLASSES, channels=2, size=17, width=3), (2, 17, 17)),
    "ResNet20": ImageCase(lambda: ResNet20(CLASSES, channels=2, width=3), (2, 9, 6)),
    # Which row is the last, and that a single channel is none, is no arithmetic.
    "LSTMClassifier": ImageCase(
        lambda: LSTMClassifier(CLASSES, inputs=5, hidden=6, layers=2), (1, 7, 5), own=("flatten", "getitem")
    ),
}


def made(name: str, seed: int = 0) -> nn.Module:
    """A model in float64."""
    torch.manual_seed(seed)
    return IMAGE_CASES[name].make().double()


def drawn(name: str, count: int, seed: int = 0) -> Tensor:
    """Images for the model `name`, of floats in [0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, *IMAGE_CASES[name].shape, generator=generator, dtype=torch.float64)
