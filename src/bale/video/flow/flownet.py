"""What network predicts optical flow? FlowNet-S, as narrow as asked (Fischer et al., "FlowNet", ICCV 2015).

Read in code: the layers, their sizes and order, and that flow is predicted in units of 20 pixels, in a port of FlowNet-S
to PyTorch and in Deep Feature Flow (DFF; Zhu et al., CVPR 2017), whose scale map begins as 1 everywhere. Our own are
the width factor, which nobody published, and two places where those two differ: upsampled flows have no bias (the port;
DFF has one), and the output stays at a quarter of the input (the port; DFF averages what level 2 concatenates down to
the stride of its features, and there predicts flow and scale map).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from bale.errors import VideoError

MULTIPLE = 64  # the encoder halves six times
STRIDE = 4  # of the output
SLOPE = 0.1  # of the leaky ReLU
UNIT = 20.0  # pixels that a predicted 1 stands for
MEAN = (0.45, 0.432, 0.411)  # of red, green, blue; read in the port's code
INPUT = "input"

_ENCODER = (  # name, channels at full width, size of the kernel, stride
    ("conv1", 64, 7, 2),
    ("conv2", 128, 5, 2),
    ("conv3", 256, 5, 2),
    ("conv3_1", 256, 3, 1),
    ("conv4", 512, 3, 2),
    ("conv4_1", 512, 3, 1),
    ("conv5", 512, 3, 2),
    ("conv5_1", 512, 3, 1),
    ("conv6", 1024, 3, 2),
    ("conv6_1", 1024, 3, 1),
)
_REFINEMENTS = (  # level, channels of the deconvolution at full width, the encoder's layer of the same size
    (5, 512, "conv5_1"),
    (4, 256, "conv4_1"),
    (3, 128, "conv3_1"),
    (2, 64, "conv2"),
)
LEVELS = (2, 3, 4, 5, 6)  # flow of level n is on a grid of 1 / 2 ** n of the input


@dataclass(frozen=True, eq=False)
class Step:
    """One layer of the network at its place: what it reads, and whether a leaky ReLU follows.

    name       of the layer, and of what it makes
    layer      a convolution, or a transposed one with kernels of 4 and a stride of 2
    sources    the layers (or `INPUT`) that it reads, concatenated along channels in this order
    activated  whether a leaky ReLU of slope `SLOPE` follows
    """

    name: str
    layer: nn.Conv2d | nn.ConvTranspose2d
    sources: tuple[str, ...]
    activated: bool


class FlowNetS(nn.Module):
    """Predict where each place of one image is in another one.

    Args:
        width: what the published numbers of channels are multiplied by; 1 is FlowNet-S itself.
        scale_channels: how many channels DFF's scale map has, as many as the features that are carried, or 1 for all;
            None: there is no such map. Its weights begin as 0 and its bias as 1, so that it first changes nothing.
        seed: of the first weights (He et al.'s for the leaky ReLU, biases 0).

    `steps` is the network: a plain list of layers, in an order in which they can run, that names what each reads.
    `forward` and `pyramid` do nothing but go through it. Raises VideoError for numbers out of range.

    >>> network = FlowNetS(width=1 / 8)
    >>> flow, scale = network(torch.zeros(1, 6, 64, 128))
    >>> flow.shape, scale
    (torch.Size([1, 2, 16, 32]), None)
    """

    def __init__(self, width: float = 1 / 8, scale_channels: int | None = None, seed: int = 0) -> None:
        super().__init__()
        if not 0 < width <= 4:
            raise VideoError(f"width must be above 0 and at most 4, got {width}")
        if scale_channels is not None and scale_channels < 1:
            raise VideoError(f"scale_channels must be at least 1, got {scale_channels}; None is no scale map")
        self.width, self.scale_channels = float(width), scale_channels
        self.layers = nn.ModuleDict()
        self._wiring: dict[str, tuple[tuple[str, ...], bool]] = {}  # of each layer: its sources, and if it is activated
        self._channels = {INPUT: 6}
        source = INPUT
        for name, channels, kernel, stride in _ENCODER:
            self._convolution(name, (source,), self._narrowed(channels), kernel, stride)
            source = name
        sources = (source,)
        self._convolution("flow6", sources, 2, activated=False)
        for level, channels, beside in _REFINEMENTS:
            self._doubling(f"deconv{level}", sources, self._narrowed(channels), activated=True)
            self._doubling(f"upsampled{level}", (f"flow{level + 1}",), 2, activated=False)
            sources = (beside, f"deconv{level}", f"upsampled{level}")
            self._convolution(f"flow{level}", sources, 2, activated=False)
        if scale_channels is not None:
            self._convolution("scale", sources, scale_channels, 1, activated=False)
        self._begin(seed)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The layers in an order in which they can run."""
        wiring = self._wiring.items()
        return tuple(Step(name, self.layers[name], sources, active) for name, (sources, active) in wiring)  # pyright: ignore[reportArgumentType]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the flow and the scale map of pairs of images, as `pair` makes them.

        images  float32 [pairs, 6, height, width], both sides multiples of 64
        flow    float32 [pairs, 2, height / 4, width / 4]: what is at p in the first image is at p + flow in the second;
                x then y, pixels of `images`
        scale   float32 [pairs, scale_channels, height / 4, width / 4], or None

        Raises VideoError for another shape.
        """
        values = self._run(images)
        return UNIT * values["flow2"], values.get("scale")

    def pyramid(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the flows of all `LEVELS`, finest first, each in pixels of `images`: what training compares."""
        values = self._run(images)
        return tuple(UNIT * values[f"flow{level}"] for level in LEVELS)

    def _run(self, images: Tensor) -> dict[str, Tensor]:
        if images.dim() != 4 or images.shape[1] != 6 or images.shape[2] % MULTIPLE or images.shape[3] % MULTIPLE:
            raise VideoError(
                f"FlowNet-S takes pairs [n, 6, height, width] with sides that {MULTIPLE} divides, got "
                f"{list(images.shape)}"
            )
        values = {INPUT: images}
        for step in self.steps:
            inputs = [values[source] for source in step.sources]
            result = step.layer(inputs[0] if len(inputs) == 1 else torch.cat(inputs, dim=1))
            values[step.name] = leaky_relu(result, SLOPE) if step.activated else result
        return values

    def _narrowed(self, channels: int) -> int:
        return max(1, round(channels * self.width))

    def _convolution(
        self,
        name: str,
        sources: tuple[str, ...],
        channels: int,
        kernel: int = 3,
        stride: int = 1,
        activated: bool = True,
    ) -> None:
        inputs = sum(self._channels[source] for source in sources)
        self._add(name, nn.Conv2d(inputs, channels, kernel, stride, padding=kernel // 2), sources, activated)

    def _doubling(self, name: str, sources: tuple[str, ...], channels: int, activated: bool) -> None:
        inputs = sum(self._channels[source] for source in sources)
        layer = nn.ConvTranspose2d(inputs, channels, kernel_size=4, stride=2, padding=1, bias=activated)
        self._add(name, layer, sources, activated)

    def _add(self, name: str, layer: nn.Conv2d | nn.ConvTranspose2d, sources: tuple[str, ...], activated: bool) -> None:
        self.layers[name] = layer
        self._channels[name] = layer.out_channels
        self._wiring[name] = (sources, activated)

    def _begin(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for step in self.steps:
            nn.init.kaiming_normal_(step.layer.weight, SLOPE, generator=generator)
            if step.name == "scale":
                nn.init.zeros_(step.layer.weight)
            if step.layer.bias is not None:
                nn.init.constant_(step.layer.bias, 1.0 if step.name == "scale" else 0.0)


def centred(images: Tensor) -> Tensor:
    """Return images [n, 3, height, width], 0 to 1, less `MEAN`.

    A mean of the data and not of the image: what did not change from one frame to the next stays the same input.
    """
    return images - images.new_tensor(MEAN)[:, None, None]


def pair(first: Tensor, second: Tensor) -> Tensor:
    """Return the network's input [n, 6, height, width] for the flow from `first` to `second`, both `centred`."""
    return torch.cat((first, second), dim=1)
