"""How do images become a film?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from bale.errors import VideoError
from bale.video.optional import imported

_ENCODERS = {"h264": "libx264"}  # FFmpeg's own name of the codec would take any encoder, of a graphics card for one

_SLOWEST, _FASTEST = 0.001, 1000  # frames a second


def write_film(
    path: str | PathLike[str],
    images: Iterable[np.ndarray],
    rate: float | Fraction,
    codec: str = "h264",
    options: Mapping[str, str] | None = None,
) -> int:
    """Write images (uint8 [height, width, 3], red, green, blue, all of one size) as a film; return how many.

    The kind of file follows the ending of `path`. An odd side gets its last row or column twice, since 4:2:0 colour
    needs even ones. `options` are the encoder's, such as `{"crf": "18", "bf": "0"}`. The film takes its name when it is
    whole: if anything fails, a file of that name stays as it was. Raises `VideoError` where there are no images, where
    they differ in size, for a rate that no film has, and where the file or the encoder refuses; what `images` raises
    passes through.
    """
    path = Path(path)
    # Slower is 0 to a multiple of 1/1001; of faster ones containers lose frames, since their clocks tick too slowly.
    if not _SLOWEST <= rate <= _FASTEST:
        raise VideoError(f"{path}: rate {rate}: expected {_SLOWEST:g} to {_FASTEST} frames a second")
    av = imported("av")
    new = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    stream, count = None, 0
    try:
        with _told(path, codec):
            container = av.open(str(new), "w")
        with container:
            for image in _of_one_size(images, path):
                with _told(path, codec):
                    if stream is None:
                        stream = _stream(container, image, rate, codec, options)
                    even = np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)), "edge")
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
                count += 1
            if stream is None:
                raise VideoError(f"{path}: there are no images to write")
            with _told(path, codec):
                container.mux(stream.encode(None))
                container.close()
                os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)
    return count


@contextmanager
def _told(path: Path, codec: str) -> Iterator[None]:
    """Say which film cannot be written where the file system, the container or the encoder refuses."""
    try:
        yield
    except (imported("av").error.FFmpegError, OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise VideoError(f"{path}: cannot be written as {codec}: {said}") from error


def _stream(
    container: Any, image: np.ndarray, rate: float | Fraction, codec: str, options: Mapping[str, str] | None
) -> Any:
    """Add a stream for images like this one."""
    # 1001: the rates of television are multiples of 1/1001.
    rate = Fraction(rate).limit_denominator(1001)
    stream = container.add_stream(_ENCODERS.get(codec, codec), rate=rate, options=dict(options or {}))
    stream.height, stream.width = (side + side % 2 for side in image.shape[:2])
    stream.pix_fmt = "yuv420p"
    return stream


def _of_one_size(images: Iterable[np.ndarray], path: Path) -> Iterator[np.ndarray]:
    """Yield images; refuse one of another kind, or of another size than the first."""
    shape = None
    for index, image in enumerate(images):
        if not isinstance(image, np.ndarray):
            raise VideoError(f"{path}: image {index} is a {type(image).__name__}; expected uint8 [height, width, 3]")
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise VideoError(
                f"{path}: image {index} is {image.dtype} {list(image.shape)}; expected uint8 [height, width, 3]"
            )
        shape = shape or image.shape
        if image.shape != shape:
            raise VideoError(
                f"{path}: image {index} is {list(image.shape)}, the first {list(shape)}; a film has one size"
            )
        yield image
