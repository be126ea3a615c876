"""Small films whose motion is known, and ways to damage them."""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import av
import numpy as np

from bale.video.film.write import write_film


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Uint8 [height, width, 3]: smooth grey noise with enough detail to be found again."""
    noise = np.random.default_rng(seed).normal(size=(height + 6, width + 6))
    for axis in (0, 1):
        noise = np.apply_along_axis(np.convolve, axis, noise, np.array([1, 3, 6, 7, 6, 3, 1]) / 27, "same")
    noise = noise[3:-3, 3:-3]
    grey = np.clip(128 + 50 * noise / noise.std(), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def sliding(right: int, down: int, frames: int = 12, height: int = 96, width: int = 128) -> Iterator[np.ndarray]:
    """Yield images whose whole content moves by so many pixels per frame."""
    room = frames * max(abs(right), abs(down))
    whole = texture(height + 2 * room, width + 2 * room)
    for frame in range(frames):
        top, left = room - frame * down, room - frame * right
        yield whole[top : top + height, left : left + width]


def damage(film: Path, packets: Collection[int], how: Callable[[bytes], bytes]) -> Path:
    """Write `film` again beside it with some packets, numbered in the order of decoding, replaced."""
    path = film.with_name(f"damaged-{film.name}")
    with av.open(str(film)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(video=0)):
            if packet.size == 0:
                continue
            written = av.Packet(how(bytes(packet))) if number in packets else packet
            written.pts, written.dts, written.duration = packet.pts, packet.dts, packet.duration
            written.time_base, written.is_keyframe, written.stream = packet.time_base, packet.is_keyframe, stream
            new.mux(written)
    return path


def written(path: Path, images: Iterator[np.ndarray], codec: str = "h264", **options: str) -> Path:
    """Write a film of 10 frames a second, with options of the encoder; return its path."""
    write_film(path, images, 10, codec, {name.replace("_", "-"): value for name, value in options.items()})
    return path
