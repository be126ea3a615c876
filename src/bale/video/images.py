"""How does what comes in become numbered frames, and a frame a tensor?"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bale.errors import VideoError
from bale.video.frame import Frame

_END: Any = object()


def numbered(frames: Iterable[Frame | np.ndarray]) -> Iterator[Frame]:
    """Yield frames as they come; a plain image becomes one, whose time is the seconds since the first came in.

    Raises `VideoError` for what is no image and for an index that does not rise. Whatever the source raises gets a
    note of where it was.
    """
    index, begin = -1, None
    source = iter(frames)
    while True:
        try:
            item = next(source, _END)
        except Exception as error:
            error.add_note(f"raised by the source of frames, after frame {index} of the stream")
            raise
        if item is _END:
            return
        if isinstance(item, Frame):
            if item.index <= index:
                raise VideoError(f"frame {item.index} came after frame {index}: indices of a stream must rise")
            index, frame = item.index, item
            if item.image is not None:
                _checked(index, item.image)
        else:
            index += 1
            begin = time.perf_counter() if begin is None else begin
            frame = Frame(index, time.perf_counter() - begin, _checked(index, item))
        yield frame


def _checked(index: int, image: Any) -> np.ndarray:
    expected = f"frame {index}: expected a numpy array uint8 [height, width, 3] of red, green and blue"
    if not isinstance(image, np.ndarray):
        raise VideoError(f"{expected}, got {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise VideoError(f"{expected}, got {image.dtype} {list(image.shape)}")
    return image


def image_tensor(image: np.ndarray, multiple: int, device: torch.device | str = "cpu") -> Tensor:
    """Return uint8 [height, width, 3] as float32 [1, 3, padded height, padded width], 0 to 1.

    Edge pixels are repeated on the right and at the bottom until both sides are multiples of `multiple`. The tensor
    is contiguous wherever it is made, as convolutions round otherwise in another layout.
    """
    height, width = image.shape[:2]
    if not image.flags.writeable or not image.flags.c_contiguous:
        image = image.copy()  # torch takes neither in; what it takes in it only reads
    pixels = torch.from_numpy(image).to(device).permute(2, 0, 1)[None].contiguous().float().div_(255)
    below, right = -height % multiple, -width % multiple
    return functional.pad(pixels, (0, right, 0, below), mode="replicate") if below or right else pixels
