"""Where is Fashion-MNIST? In a folder that is named, in Debian's package, in the cache, or at its authors' address.

Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms", 2017
(arXiv 1708.07747): 60,000 and 10,000 gray images, 28 x 28, of ten kinds of clothes. MIT license.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from os import PathLike
from pathlib import Path
from typing import Literal
from urllib.request import urlopen

from torch import Tensor

from bale.data.idx import find_idx, parse_idx, read_bytes
from bale.data.images import Images
from bale.errors import DataError

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
VARIABLE = "BALE_FASHION_MNIST"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
ADDRESS = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
PACKAGE = "apt-get install dataset-fashion-mnist"
_SECONDS = 60  # without a byte from the address


@dataclass(frozen=True)
class File:
    """A file of the data set.

    name     without `.gz`
    md5      of the compressed file, as the README of github.com/zalandoresearch/fashion-mnist publishes it
    content  SHA-256 of what is in it, counted here: Debian's files are the same streams under another gzip header, so
             that their MD5s differ (a test puts the names and times back, and finds the published ones)
    """

    name: str
    md5: str
    content: str


FILES = {
    "train": (
        File(
            "train-images-idx3-ubyte",
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        File(
            "train-labels-idx1-ubyte",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
    ),
    "test": (
        File(
            "t10k-images-idx3-ubyte",
            "bef4ecab320f06d8554ea6380940ec79",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        File(
            "t10k-labels-idx1-ubyte",
            "bb300cfdad3c16e7a12a480ee83cd310",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
}


def fashion_mnist(
    split: Literal["train", "test"] = "train", folder: str | PathLike[str] | None = None, download: bool = False
) -> Images:
    """Read the 60,000 images of training or the 10,000 of the test.

    The first place counts that holds both files of the split: `folder`, the folder that the environment variable
    BALE_FASHION_MNIST names, that of Debian's package `dataset-fashion-mnist`, and `bale/fashion-mnist` in the cache
    (XDG_CACHE_HOME, or ~/.cache). Where there is none, `download` fetches them, 31 MB for training and 4 for the test,
    from the authors' address into the cache.

    Raises `DataError` where nothing is found, where a download fails or is not what the authors published, and for
    files of another content (MNIST's have the same names).
    """
    if split not in FILES:
        raise DataError(f"split {split!r} is unknown; Fashion-MNIST has {' and '.join(FILES)}")
    files = FILES[split]
    places = list(_places(folder))
    here = _found(files, places)
    if here is None:
        if not download:
            raise DataError(
                f"no Fashion-MNIST: looked for {' and '.join(f'{file.name}[.gz]' for file in files)} in "
                f"{', '.join(map(str, places))}. Either install Debian's package ({PACKAGE}), or have it downloaded "
                "(download=True, or --download on the command line)"
            )
        here = _cache()
        for file in files:
            if find_idx(here, file.name) is None:
                _download(file, here)
    images, labels = (_read(file, here) for file in files)
    return Images(images[:, None], labels.long(), FASHION_CLASSES, "fashion-mnist")


def fashion_mnist_is_there() -> bool:
    """Are there files of both splits in places where `fashion_mnist` looks? They may be damaged."""
    return all(_found(files, _places(None)) is not None for files in FILES.values())


def _found(files: Iterable[File], places: Iterable[Path]) -> Path | None:
    """The first place that holds all the files."""
    return next((place for place in places if all(find_idx(place, file.name) for file in files)), None)


def _places(folder: str | PathLike[str] | None) -> Iterator[Path]:
    if folder is not None:
        yield Path(folder)
    if named := os.environ.get(VARIABLE):
        yield Path(named)
    yield DEBIAN
    yield _cache()


def _cache() -> Path:
    # An XDG_CACHE_HOME that is empty or relative is to be ignored (XDG Base Directory Specification 0.8).
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "bale" / "fashion-mnist"


def _read(file: File, folder: Path) -> Tensor:
    path = find_idx(folder, file.name)
    assert path is not None  # found, or downloaded
    content = read_bytes(path)
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.content:
        raise DataError(
            f"{path}: is damaged, or not Fashion-MNIST's (MNIST's files have the same names): the SHA-256 of its "
            f"content is {digest}, expected {file.content}; remove it, or name another folder"
        )
    return parse_idx(content, path=path)


def _download(file: File, folder: Path) -> None:
    """Fetch a file into `folder`; what is not whole and right leaves nothing there."""
    name = f"{file.name}.gz"
    url = ADDRESS + name
    instead = f"try again later, fetch it by other means into {folder}, or install Debian's package ({PACKAGE})"
    try:
        with urlopen(url, timeout=_SECONDS) as answer:
            content = answer.read()
    except (OSError, HTTPException) as error:
        raise DataError(f"{url}: cannot be downloaded ({error}): {instead}") from error
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if digest != file.md5:
        raise DataError(
            f"{url}: what came, {len(content)} bytes, is not what its authors published: its MD5 is {digest}, expected "
            f"{file.md5}: {instead}"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_whole(folder / name, content)
    except OSError as error:
        raise DataError(f"{error.filename or folder}: cannot be written: {error.strerror}") from error


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, whatever ends this process or writes the same file beside it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
