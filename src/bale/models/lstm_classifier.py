"""The LSTM classifier: an image read row by row, from its top to its bottom.

Le, Jaitly, Hinton, "A Simple Way to Initialize Recurrent Networks of Rectified Linear Units", 2015 (arXiv 1504.00941),
section 4.2, reads MNIST pixel by pixel; whole rows make the sequence as long as the image is high.
"""

from torch import Tensor, nn

from bale.models.images import check_sizes


class LSTMClassifier(nn.Module):
    """Classify a batch of images of any height by their rows.

    Args:
        classes: the number of classes.
        inputs: the width of an image.
        hidden: the width of the state.
        layers: how many layers lie one on the other.

    Raises ValueError for sizes below 1, and for images of another width, of several channels, or without rows.

    >>> import torch
    >>> LSTMClassifier()(torch.zeros(3, 1, 28, 28)).shape
    torch.Size([3, 10])
    """

    def __init__(self, classes: int = 10, inputs: int = 28, hidden: int = 128, layers: int = 1) -> None:
        super().__init__()
        check_sizes(classes=classes, inputs=inputs, hidden=hidden, layers=layers)
        self.inputs = inputs
        self.lstm = nn.LSTM(inputs, hidden, layers, batch_first=True)
        self.fc = nn.Linear(hidden, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Take images [n, 1, height, inputs] or [n, height, inputs] of floats; return logits [n, classes]."""
        self.check(images)
        states, _ = self.lstm(images.flatten(1, -2))  # [n, height, hidden]
        return self.fc(states[:, -1])

    def check(self, images: Tensor) -> None:
        """Raise ValueError unless `images` are what `forward` takes."""
        if not isinstance(images, Tensor):
            return  # a proxy of torch.fx, which has no shape yet
        shape = tuple(images.shape)
        gray = len(shape) == 3 or (len(shape) == 4 and shape[1] == 1)
        if not gray or shape[-1] != self.inputs or shape[-2] == 0:
            expected = f"[n, 1, height, {self.inputs}] or [n, height, {self.inputs}]"
            raise ValueError(f"expected images {expected} with at least one row, got a tensor {list(shape)}")
