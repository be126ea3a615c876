"""LeNet-5: two convolutions and three full layers, the smallest network that sees images well.

LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", Proceedings of the IEEE 86,
1998, section II.B.
"""

from torch import Tensor, nn

from bale.models.images import check_images, check_sizes


class LeNet5(nn.Module):
    """Classify a batch of images.

    Args:
        classes: the number of classes.
        channels: the number of channels of an image.
        size: the height and the width of an image, at least 12.

    Differs from the paper as most of today's do: maxima instead of weighted sums are pooled, ReLU stands for the scaled
    tanh, every map of the second convolution reads all six maps below it (the paper's Table I leaves 36 pairs out), and
    the last layer is linear, for cross-entropy, instead of distances to drawn characters. The paper pads its
    digits to 32 x 32; here the first convolution pads them.

    Raises ValueError for a size below 12, for other sizes below 1, and for images of another shape.

    >>> import torch
    >>> LeNet5()(torch.zeros(3, 1, 28, 28)).shape
    torch.Size([3, 10])
    """

    def __init__(self, classes: int = 10, channels: int = 1, size: int = 28) -> None:
        super().__init__()
        check_sizes(classes=classes, channels=channels)
        check_sizes(12, size=size)
        self.channels, self.size = channels, size
        left = (size // 2 - 4) // 2  # the height and the width after the second pool
        self.conv1 = nn.Conv2d(channels, 6, 5, padding=2)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(16 * left * left, 120)
        self.relu3 = nn.ReLU()
        self.fc2 = nn.Linear(120, 84)
        self.relu4 = nn.ReLU()
        self.fc3 = nn.Linear(84, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Take images [n, channels, size, size] of floats; return logits [n, classes]."""
        check_images(images, self.channels, self.size)
        x = self.pool1(self.relu1(self.conv1(images)))  # [n, 6, size // 2, size // 2]
        x = self.pool2(self.relu2(self.conv2(x)))  # [n, 16, left, left]
        x = self.relu3(self.fc1(self.flatten(x)))
        x = self.relu4(self.fc2(x))
        return self.fc3(x)
