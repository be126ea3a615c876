"""How does a folder of images become frames?"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import numpy as np

from bale.errors import VideoError
from bale.video.film.read import FilmInfo
from bale.video.frame import Frame
from bale.video.optional import imported

_KINDS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg"}


def folder_info(path: str | PathLike[str], rate: float = 25.0) -> FilmInfo:
    """Return what is known of a folder of images without reading more than the first that can be read."""
    files = _images(Path(path), rate)
    sizes = (image.shape for image in map(_image, files) if image is not None)
    height, width = next(sizes, (0, 0, 3))[:2]
    return FilmInfo(width, height, rate, len(files), ", ".join(sorted({_KINDS[file.suffix.lower()] for file in files})))


def read_folder(path: str | PathLike[str], rate: float = 25.0) -> Iterator[Frame]:
    """Return an iterator over a folder's PNG and JPEG images as frames, `rate` of them a second.

    They come in the order of their names, in which numbers count as numbers: 9.png before 10.png. Images are turned as
    their EXIF data say. One that cannot be read is a frame without an image. Other files, and hidden ones, are passed
    over. Raises `VideoError`, at once, where there is no folder or no image in it.
    """
    return _frames(_images(Path(path), rate), rate)


def _frames(files: list[Path], rate: float) -> Iterator[Frame]:
    for index, file in enumerate(files):
        image = _image(file)
        problem = "" if image is not None else f"{file} cannot be read as an image"
        yield Frame(index, index / rate, image, problem=problem)


def _images(folder: Path, rate: float) -> list[Path]:
    if not 0 < rate < math.inf:
        raise VideoError(f"rate {rate}: expected frames a second, above 0 and finite")
    if not folder.is_dir():
        raise VideoError(f"{folder}: there is no such folder; expected one of PNG or JPEG images")
    # Hidden files are not the user's pictures: macOS leaves a ._9.png beside each 9.png on a foreign disk.
    seen = (file for file in folder.iterdir() if not file.name.startswith("."))
    files = [file for file in seen if file.suffix.lower() in _KINDS and file.is_file()]
    if not files:
        raise VideoError(f"{folder}: has no image; expected files that end in {', '.join(_KINDS)}")
    return sorted(files, key=_natural)


def _natural(file: Path) -> list[tuple[bool, int, str]]:
    """Sorts digits as numbers and what is between them as text; 01 and 1 are told apart by the whole name."""
    parts = [part for part in re.split(r"([0-9]+)", file.name) if part]
    numbers = [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part.lower()) for part in parts]
    return [*numbers, (True, 0, file.name)]


def _image(file: Path) -> np.ndarray | None:
    """Read an image; None where that is not one, or cannot be read."""
    cv2 = imported("cv2")
    try:
        image = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)
    except (cv2.error, OSError):  # an empty file, or none that one may read
        return None
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
