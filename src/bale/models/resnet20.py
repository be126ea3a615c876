"""ResNet-20: nine pairs of convolutions, each added to what it read (the form for CIFAR-10).

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2, with the shortcuts without
parameters that it uses there (option A); first weights as in He et al., "Delving Deep into Rectifiers", ICCV 2015.
"""

from torch import Tensor, nn
from torch.nn.functional import pad

from bale.models.images import check_images, check_sizes


class ResNet20(nn.Module):
    """Classify a batch of images of any height and width.

    Args:
        classes: the number of classes.
        channels: the number of channels of an image.
        width: the number of maps of the first stage; the second has twice, the third four times as many. The paper's
            is 16.

    `ResNet20(channels=3, width=16)` is the paper's, of .27 million parameters.

    Raises ValueError for sizes below 1, and for images of another shape.

    >>> import torch
    >>> ResNet20()(torch.zeros(3, 1, 28, 28)).shape
    torch.Size([3, 10])
    """

    def __init__(self, classes: int = 10, channels: int = 1, width: int = 8) -> None:
        super().__init__()
        check_sizes(classes=classes, channels=channels, width=width)
        self.channels = channels
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.stage1 = _stage(width, width, stride=1)
        self.stage2 = _stage(width, 2 * width, stride=2)
        self.stage3 = _stage(2 * width, 4 * width, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(4 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Take images [n, channels, height, width] of floats; return logits [n, classes]."""
        check_images(images, self.channels)
        x = self.relu(self.norm(self.conv(images)))  # [n, width, height, width of the image]
        x = self.stage3(self.stage2(self.stage1(x)))  # [n, 4 * width, a quarter, a quarter]
        return self.fc(self.flatten(self.pool(x)))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions whose result is added to what they read; the first takes steps of `stride`."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else Shortcut(outputs - inputs, stride)
        self.add = Add()
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Take maps [n, inputs, height, width]; return [n, outputs, ceil(height / stride), ceil(width / stride)]."""
        y = self.relu1(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return self.relu2(self.add(y, self.shortcut(x)))


class Shortcut(nn.Module):
    """Every `stride`-th row and column of what a block reads, with `added` maps of zeros after the others."""

    def __init__(self, added: int, stride: int) -> None:
        super().__init__()
        self.added, self.stride = added, stride

    def forward(self, x: Tensor) -> Tensor:
        """Take maps [n, maps, height, width]; return [n, maps + added, a stride-th, a stride-th]."""
        return pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))

    def extra_repr(self) -> str:
        return f"added={self.added}, stride={self.stride}"


class Add(nn.Module):
    """The sum of two tensors of one shape: a module, so that hooks see it."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1), BasicBlock(outputs, outputs, 1)
    )
