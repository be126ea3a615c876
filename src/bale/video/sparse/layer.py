"""What is a network that can be computed in part made of? Convolutions that name what they read."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from bale.video.sparse.convolution import Activation

INPUT = "input"
"""The name by which layers read what the network is given."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution and what follows it cell by cell.

    name        of its output
    inputs      names of what it reads: layers before it, or `INPUT`; several are joined along the channels
    module      `nn.Conv2d` or `nn.ConvTranspose2d`
    activation  elementwise, may work in place; None: none
    """

    name: str
    inputs: tuple[str, ...]
    module: nn.Conv2d | nn.ConvTranspose2d
    activation: Activation | None = None
