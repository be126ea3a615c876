"""Which stream moves now fast, now slowly, and has known boxes? One cut out of OpenCV's vtest.avi, from a seed.

A static camera films people who walk: its motion hardly varies, so that no choice of key frames can beat a fixed
interval. The stream made of it walks once through the film in segments. Each takes every frame, every second or every
fourth, and looks through a window that stands still or slides, slowly or fast, and turns back at the film's border.
Frames of the film are numbered from 0; whoever trains on some of them makes one stream of those and one of the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bale.errors import VideoError
from bale.video.film.read import film_info, read_film
from bale.video.film.write import write_film

FILM = Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi")  # Debian's opencv-doc; MOT15's PETS09-S2L1
TRAIN, TEST = range(500), range(500, 795)
WINDOW = (384, 512)  # height and width of the 576 x 768 pixels
STRIDES = (1, 2, 4)  # frames of the film from one of the stream to the next
PANS = (0.0, 2.0, 6.0)  # pixels by which the window slides from one frame of the stream to the next
SEGMENT = (10, 25)  # fewest and most frames of a segment
VISIBLE = 0.5  # of a box's area must be in the window


@dataclass(frozen=True)
class Look:
    """One frame of a stream: which frame of the film, the window's left top corner, and how it came there."""

    source: int
    left: int
    top: int
    stride: int
    pan: float


@dataclass(frozen=True, eq=False)
class VariableStream:
    """A film in H.264, and per frame its true boxes, float32 [boxes, 4] in its own pixels, and where it comes from."""

    path: Path
    boxes: tuple[np.ndarray, ...]
    looks: tuple[Look, ...]


def variable_stream(
    truth: Mapping[int, np.ndarray], sources: range, folder: Path, seed: int, film: Path = FILM
) -> VariableStream:
    """Return the stream of a seed through these frames of the film; it is encoded unless the folder has it.

    `truth`: frame of the film -> float32 [boxes, 4], left, top, right, bottom. libx264's ordinary settings, with
    B-frames and several references. Raises `VideoError` where the film is missing or shorter.
    """
    if not film.is_file():
        raise VideoError(f"{film}: there is no such film; apt-get install opencv-doc brings it")
    info = film_info(film)
    looks = plan(sources, (info.height, info.width), WINDOW, seed)
    # A plan of other constants is another file.
    name = hashlib.sha256(repr((looks, WINDOW)).encode()).hexdigest()[:12]
    path = folder / f"variable-{sources.start}-{sources.stop}-{seed}-{name}.mp4"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_film(path, _seen(film, looks), info.rate, options={"threads": "1"})
    boxes = tuple(seen_boxes(truth.get(look.source, np.zeros((0, 4), np.float32)), look, WINDOW) for look in looks)
    return VariableStream(path, boxes, looks)


def plan(sources: range, size: tuple[int, int], window: tuple[int, int], seed: int) -> tuple[Look, ...]:
    """Draw what each frame of a stream looks at; all strides and pans come equally often, in an order of the seed."""
    rng = np.random.default_rng(seed)
    room = np.array([size[1] - window[1], size[0] - window[0]])  # to the right, down
    at = rng.uniform(0, room)
    looks: list[Look] = []
    source = sources.start
    while True:
        kinds = [(stride, pan) for stride in STRIDES for pan in PANS]
        for kind in rng.permutation(len(kinds)):
            stride, pan = kinds[kind]
            angle = rng.uniform(0, 2 * np.pi)
            step = pan * np.array([np.cos(angle), np.sin(angle)])
            for _ in range(int(rng.integers(SEGMENT[0], SEGMENT[1] + 1))):
                if source not in sources:
                    return tuple(looks)
                left, top = np.rint(at).astype(int).tolist()
                looks.append(Look(source, left, top, stride, pan))
                source += stride
                step = np.where((at + step < 0) | (at + step > room), -step, step)
                at = np.clip(at + step, 0, room)


def seen_boxes(boxes: np.ndarray, look: Look, window: tuple[int, int]) -> np.ndarray:
    """Return the boxes (float32 [boxes, 4]) as the window shows them, without those of which it shows too little."""
    height, width = window
    moved = boxes.reshape(-1, 4) - np.array([look.left, look.top] * 2, np.float32)
    cut = np.clip(moved, 0, np.array([width, height] * 2, np.float32))
    area, seen = (each[:, 2:] - each[:, :2] for each in (moved, cut))
    return cut[seen.prod(axis=1) >= VISIBLE * area.prod(axis=1)].astype(np.float32)


def _seen(film: Path, looks: tuple[Look, ...]) -> Iterator[np.ndarray]:
    height, width = WINDOW
    wanted = {look.source: look for look in looks}
    for frame in read_film(film):
        look = wanted.pop(frame.index, None)
        if look is not None:
            if frame.image is None:
                raise VideoError(f"{film}: frame {frame.index}: {frame.problem}; use another copy")
            yield frame.image[look.top : look.top + height, look.left : look.left + width]
        if not wanted:
            return
    raise VideoError(f"{film}: has no frame {min(wanted)}; expected {looks[-1].source + 1} frames or more")
