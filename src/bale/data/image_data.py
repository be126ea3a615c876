"""Which images does a name on the command line mean?"""

from dataclasses import replace
from pathlib import Path

from bale.data.digits import digits
from bale.data.fashion_mnist import fashion_mnist, fashion_mnist_is_there
from bale.data.idx import find_idx, idx_images
from bale.data.images import Images
from bale.errors import DataError

_IDX = "idx:"
_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def image_data(spec: str, download: bool = False) -> tuple[Images, Images]:
    """Return images of training and of the test.

    spec      "fashion-mnist", "digits" (28 x 28), or "idx:FOLDER", a folder with the four files of MNIST and of what
              follows its format, train-images-idx3-ubyte and so on, each plain or with .gz
    download  lets Fashion-MNIST be downloaded where it is not found

    Raises `DataError` for another name, and for data that are missing or damaged.
    """
    if spec == "fashion-mnist":
        return fashion_mnist("train", download=download), fashion_mnist("test", download=download)
    if spec == "digits":
        return digits("train"), digits("test")
    if spec.startswith(_IDX) and spec != _IDX:
        return _idx_folder(Path(spec.removeprefix(_IDX)))
    raise DataError(f"images {spec!r} are unknown; known are fashion-mnist, digits, and idx:FOLDER")


def default_image_data() -> str:
    """Return the name of the images that there are: Fashion-MNIST's where it is installed, else the digits."""
    return "fashion-mnist" if fashion_mnist_is_there() else "digits"


def _idx_folder(folder: Path) -> tuple[Images, Images]:
    paths = [find_idx(folder, name) for name in _NAMES]
    missing = [f"{name}[.gz]" for name, path in zip(_NAMES, paths, strict=True) if path is None]
    if missing:
        raise DataError(f"{folder}: has no {', no '.join(missing)}")
    train_images, train_labels, test_images, test_labels = (path for path in paths if path is not None)
    train, test = idx_images(train_images, train_labels), idx_images(test_images, test_labels)
    # A class may be on one side only, so both together say how many there are.
    classes = max(train.classes, test.classes, key=len)
    return replace(train, classes=classes), replace(test, classes=classes)
