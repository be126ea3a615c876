"""VGG-8: six 3 x 3 convolutions and two full layers, the network that models of accelerators are measured on.

Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015, for the style; the
eight layers are those of NeuroSim (Peng et al., "DNN+NeuroSim", IEDM 2019, and its manual) for CIFAR-10.
"""

from itertools import pairwise

from torch import Tensor, nn

from bale.models.images import check_images, check_sizes


class VGG8(nn.Module):
    """Classify a batch of images.

    Args:
        classes: the number of classes.
        channels: the number of channels of an image.
        size: the height and the width of an image, at least 8.
        width: the number of maps of the first two convolutions; the next two have twice, the last two four times as
            many.
        hidden: the width of the first full layer; 8 * `width` where it is not given.

    `VGG8(channels=3, size=32, width=128, hidden=1024)` is NeuroSim's: 615.9 million multiply-accumulates an image. The
    convolutions have no bias, which the batch normalisation after each would take away again.

    Raises ValueError for a size below 8, for other sizes below 1, and for images of another shape.

    >>> import torch
    >>> VGG8()(torch.zeros(3, 1, 28, 28)).shape
    torch.Size([3, 10])
    """

    def __init__(
        self, classes: int = 10, channels: int = 1, size: int = 28, width: int = 16, hidden: int | None = None
    ) -> None:
        super().__init__()
        hidden = 8 * width if hidden is None else hidden
        check_sizes(classes=classes, channels=channels, width=width, hidden=hidden)
        check_sizes(8, size=size)
        self.channels, self.size = channels, size
        maps = [channels, width, width, 2 * width, 2 * width, 4 * width, 4 * width]
        layers: list[nn.Module] = []
        for number, (inputs, outputs) in enumerate(pairwise(maps), start=1):
            convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
            if number % 2 == 0:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.flatten = nn.Flatten()
        self.head = nn.Sequential(
            nn.Linear(maps[-1] * (size // 8) ** 2, hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Take images [n, channels, size, size] of floats; return logits [n, classes]."""
        check_images(images, self.channels, self.size)
        x = self.features(images)  # [n, 4 * width, size // 8, size // 8]
        return self.head(self.flatten(x))
