"""How right is a network that was compressed? As its packed file says it is, read back into a plain one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from torch import nn

from bale.compress import Config, bake_, load_packed_, save_packed
from bale.data.images import Images
from bale.train.image_answers import image_accuracy


@dataclass(frozen=True)
class PackedFile:
    """A packed file that was written and read back.

    path      where it is
    size      bytes that it has
    accuracy  of the network that was read from it
    same      has the network that was written the same accuracy?
    """

    path: Path
    size: int
    accuracy: float
    same: bool


def write_and_test(
    model: nn.Module, plain: nn.Module, path: str | PathLike[str], configs: Sequence[Config], images: Images
) -> PackedFile:
    """Write a compressed model to a packed file, read it into a copy of `plain`, and test that on images.

    `plain`: any network of the architecture that was compressed; it stays as it is. Raises CompressionError where the
    file cannot be written or does not fit `plain`.

    >>> import tempfile
    >>> from bale.compress import UniformQuantConfig, compress_
    >>> from bale.data import digits
    >>> from bale.models import LeNet5
    >>> plain, method = LeNet5(size=16), UniformQuantConfig(bits=4)
    >>> model = copy.deepcopy(plain)
    >>> report = compress_(model, method)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = write_and_test(model, plain, f"{folder}/lenet5.bale", [method], digits("test", size=16).take(64))
    >>> file.size == report.packed_bytes, file.same
    (True, True)
    """
    size = save_packed(model, path, *configs)
    read = copy.deepcopy(plain)
    load_packed_(read, path)
    accuracy = image_accuracy(read, images)
    return PackedFile(Path(path), size, accuracy, accuracy == plain_accuracy(model, images))


def plain_accuracy(model: nn.Module, images: Images) -> float:
    """The accuracy of a compressed model with its weights written out, which is how its packed file is read.

    The model's own may differ in the last bits of its logits, where it multiplies by Fourier transforms.
    """
    return image_accuracy(bake_(copy.deepcopy(model)), images)
