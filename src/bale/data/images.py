"""What is a set of labelled images? Bytes as they lie in files, and the names of their classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bale.errors import DataError


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images of one shape.

    images   [n, channels, height, width] uint8, 0 is black
    labels   [n] int64, each the place of a name in `classes`
    classes  what the labels mean
    name     where the images are from

    Raises `DataError` where these do not fit each other.

    >>> some = Images(torch.zeros(5, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 1, 0, 1]), ("no", "yes"), "some")
    >>> len(some), len(some[:3]), some.take(2).labels.tolist()
    (5, 3, [0, 1])
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != torch.uint8 or images.dim() != 4:
            raise DataError(
                f"{self.name}: images are [n, channels, height, width] of uint8, got {_described(images)}; "
                "a set of gray images gets its axis of channels by images[:, None]"
            )
        if labels.dtype != torch.int64 or labels.dim() != 1:
            raise DataError(f"{self.name}: labels are [n] of int64, got {_described(labels)}")
        if len(images) != len(labels):
            raise DataError(f"{self.name}: {len(images)} images and {len(labels)} labels; expected one label an image")
        if not self.classes:
            raise DataError(f"{self.name}: classes are a tuple with at least one name, got {self.classes!r}")
        wrong = (labels < 0) | (labels >= len(self.classes))
        if wrong.any():
            place = int(wrong.nonzero()[0])
            raise DataError(
                f"{self.name}: the label of image {place} is {int(labels[place])}; expected 0 to "
                f"{len(self.classes) - 1}, since there are {len(self.classes)} classes"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: slice | list[int] | Tensor) -> Images:
        """Return the images of a slice, or of a list or a tensor of their numbers; raises TypeError for one number."""
        if not isinstance(rows, slice | list | Tensor):
            raise TypeError(
                f"images are taken by a slice or by several numbers, got {rows!r}; one is images[i : i + 1]"
            )
        return Images(self.images[rows], self.labels[rows], self.classes, self.name)

    def __repr__(self) -> str:
        count, *shape = self.images.shape
        return f"<Images {self.name}: {count} of {' x '.join(map(str, shape))}, {len(self.classes)} classes>"

    def take(self, count: int) -> Images:
        """Return the first `count`; raises `DataError` where there are fewer."""
        if not 0 <= count <= len(self):
            raise DataError(f"{self.name}: has {len(self)} images, and {count} of them were asked for")
        return self[:count]

    def pixels(self) -> Tensor:
        """Return the images as networks take them: [n, channels, height, width] float32, 0 to 1."""
        return self.images.to(torch.float32).div_(255)


def _described(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"
