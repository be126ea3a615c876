"""How does a film become frames, none lost and each with its number, whatever is damaged?"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from bale.errors import VideoError
from bale.video.film.references import Neighbours, References
from bale.video.film.vectors import block_motion, tells
from bale.video.film.which import MOST_CANDIDATES, distances_by_pixels, luma
from bale.video.frame import Frame
from bale.video.optional import imported

# Packets of these may hold pictures that are never shown, so that a packet without a frame is no damage.
_HIDES_PICTURES = ("vp8", "vp9", "av1")
_NOTHING = Neighbours((), None, False)
_KEPT_LUMAS = 8  # brightnesses of earlier pictures that may still be compared
_REMEMBERED = 64  # frames whose numbers are kept: more than any codec refers back
_LOST = "nothing could be decoded of it: its data are damaged, or those that it is predicted from"


@dataclass(frozen=True)
class FilmInfo:
    """What a stream says of itself.

    width, height  pixels, as coded: a film that asks to be turned by a quarter is not
    rate           frames a second, on average; 0 where it is not known
    frames         how many, where the container says so
    codec          FFmpeg's name of it, such as "h264"; of a folder, the kinds of its files
    """

    width: int
    height: int
    rate: float
    frames: int | None
    codec: str


def film_info(path: str | PathLike[str]) -> FilmInfo:
    """Return what the head of a film says; raises `VideoError` with the path where that is none."""
    with _opened(Path(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        rate = stream.average_rate or stream.guessed_rate or 0
        return FilmInfo(context.width, context.height, float(rate), stream.frames or None, context.name)


def read_film(path: str | PathLike[str], motion: bool = False) -> Iterator[Frame]:
    """Return an iterator over the frames of a film's first video stream, in the order in which they are shown.

    A frame that cannot be decoded comes all the same, with its number, without an image and with the problem; so it is
    known wherever its packet has a time stamp. A film that was cut short ends there, without an error unless it has
    no frame at all. Frames differ in size where the film's resolution changes. A turn that the container asks for (a
    telephone held upright) is ignored.

    `motion`: frames have the codec's motion vectors where it exports any (H.264, MPEG-1, -2 and -4, MSMPEG4); they cost
    the look-ahead of a run of B-frames and the decoder's threads (`vectors.py`). Close the iterator to close the file.
    Raises `VideoError`, at once, where `path` is no film.
    """
    path = Path(path)
    film_info(path)
    return _frames(path, motion)


def _frames(path: Path, motion: bool) -> Iterator[Frame]:
    with _opened(path) as container:
        stream = container.streams.video[0]
        if motion:
            stream.codec_context.options = {"flags2": "+export_mvs"}
            stream.codec_context.thread_count = 1
        film = _Film(stream, motion)
        yield from film.frames(container.demux(stream))
    if film.count == 0:
        raise VideoError(f"{path}: ends before its first frame; it was cut short, so copy it again")


def _opened(path: Path) -> Any:
    """Open a film, or say why that cannot be done."""
    av = imported("av")
    if not path.is_file():
        raise VideoError(f"{path}: {'is a folder' if path.is_dir() else 'there is no such file'}; expected a film")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: is empty; expected a film, so write or copy it again")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise VideoError(
            f"{path}: cannot be read as a film ({getattr(error, 'strerror', None) or error}); it may be of another "
            "kind, cut short or damaged: try another copy, or ffmpeg to convert it"
        ) from error
    if not container.streams.video or container.streams.video[0].codec_context is None:
        container.close()
        raise VideoError(f"{path}: has no video that can be decoded; expected a film with pictures")
    return container


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A frame that may have to wait for the picture that its vectors come from, their array, and its brightness."""

    frame: Frame
    vectors: np.ndarray | None = None
    luma: np.ndarray | None = None
    neighbours: Neighbours = _NOTHING


class _Film:
    """One pass through a film: numbers its frames, finds those that are lost, and measures how far references are."""

    def __init__(self, stream: Any, motion: bool) -> None:
        self._context = stream.codec_context
        self._codec: str = self._context.name
        self._seconds = float(stream.time_base or 0)  # of one unit of time stamps
        self._rate = float(stream.average_rate or stream.guessed_rate or 0) or 25.0
        self._references = References(self._codec, self._context.extradata) if motion else None
        self._neighbours: dict[int, Neighbours] = {}  # of pictures that have not come out, by time stamp
        self._expected: list[int] = []  # a heap: time stamps of pictures that have not come out
        self._number: dict[int, int] = {}  # time stamp -> index, of the latest frames
        self._luma: dict[int, np.ndarray] = {}  # by time stamp, of the latest pictures that others may refer to
        self.count = 0
        self._first_packet: int | None = None
        self._first_shown: int | None = None
        self._problem = ""  # the decoder's last complaint

    def frames(self, packets: Iterator[Any]) -> Iterator[Frame]:
        """Yield the film's frames."""
        waiting: deque[_Waiting] = deque()
        for picture in self._pictures(packets):
            waiting.extend(self._shown(picture))
            while waiting and self._is_settled(waiting[0]):
                yield self._finished(waiting.popleft())
        while self._expected:
            waiting.append(self._lost(heapq.heappop(self._expected)))
        yield from map(self._finished, waiting)

    def _pictures(self, packets: Iterator[Any]) -> Iterator[Any]:
        """Yield what the decoder hands out, in the order of showing, until the container ends or cannot be read on."""
        failed = imported("av").error.FFmpegError
        while True:
            try:
                packet = next(packets, None)
            except failed:
                packet = None
            try:
                if packet is not None:
                    self._expect(packet)
                yield from self._context.decode(packet)
            except failed as error:
                self._problem = f"the decoder says: {error.strerror}"
            if packet is None or (packet.dts is None and packet.size == 0):
                return

    def _expect(self, packet: Any) -> None:
        """Note which frame a packet will become, and what it may refer to."""
        # Where nothing is reordered either stamp will do; AVI has no other.
        stamp = packet.dts if packet.pts is None and not self._context.has_b_frames else packet.pts
        if packet.size == 0 or stamp is None or packet.is_discard:
            return
        if self._first_packet is None:
            self._first_packet = stamp
        # What is shown before the first picture but coded after it refers to what was cut off before it.
        if stamp >= self._first_packet and self._codec not in _HIDES_PICTURES:
            heapq.heappush(self._expected, stamp)
        if self._references is not None:
            self._neighbours[stamp] = self._references.decoded(stamp, bytes(packet))

    def _shown(self, picture: Any) -> Iterator[_Waiting]:
        """Yield what was lost before a picture, and the picture."""
        stamp: int | None = picture.pts
        if stamp is None:
            yield self._numbered(None, picture)
            return
        while self._expected and self._expected[0] < stamp:
            yield self._lost(heapq.heappop(self._expected))
        if self._expected and self._expected[0] == stamp:
            heapq.heappop(self._expected)
        if stamp not in self._number:  # one that comes after its turn was counted as lost
            yield self._numbered(stamp, picture)

    def _lost(self, stamp: int) -> _Waiting:
        return self._numbered(stamp, None)

    def _numbered(self, stamp: int | None, picture: Any) -> _Waiting:
        """Give a picture, or the lack of one, its number and time."""
        index, self.count = self.count, self.count + 1
        time = index / self._rate
        if stamp is not None:
            if self._first_shown is None:
                self._first_shown = stamp
            time = (stamp - self._first_shown) * self._seconds
            _remember(self._number, stamp, index, _REMEMBERED)
        neighbours = _NOTHING if stamp is None else self._neighbours.pop(stamp, _NOTHING)
        if picture is None or picture.is_corrupt:
            return _Waiting(Frame(index, time, None, problem=self._problem or _LOST))
        frame = Frame(index, time, picture.to_ndarray(format="rgb24"))
        if self._references is None:
            return _Waiting(frame)
        brightness = luma(picture) if self._codec == "h264" else None  # others have one reference on each side
        if brightness is not None and stamp is not None and neighbours.kept:
            _remember(self._luma, stamp, brightness, _KEPT_LUMAS)
        exported = picture.side_data.get("MOTION_VECTORS")
        if exported is None or not tells(self._codec, picture.pict_type):
            return _Waiting(frame)
        vectors = exported.to_ndarray().copy()  # it would keep the picture alive
        return _Waiting(frame, vectors, brightness, neighbours)

    def _is_settled(self, waiting: _Waiting) -> bool:
        """Whether all frames between one and the later one that it is predicted from have their numbers."""
        future = None if waiting.vectors is None else waiting.neighbours.future
        return future is None or next(reversed(self._number)) >= future

    def _finished(self, waiting: _Waiting) -> Frame:
        """Return a frame with its displacements, now that it is known how far its references are."""
        frame = waiting.frame
        if waiting.vectors is None or frame.size is None:
            return frame
        future = None if waiting.neighbours.future is None else self._number.get(waiting.neighbours.future)
        motion = block_motion(
            waiting.vectors, frame.size, self._past(waiting), None if future is None else future - frame.index
        )
        return replace(frame, motion=motion)

    def _past(self, waiting: _Waiting) -> int | np.ndarray | None:
        """How many frames before is what earlier pictures predict; one number for each vector if there are several."""
        known = [stamp for stamp in waiting.neighbours.past if stamp in self._number][:MOST_CANDIDATES]
        away = {stamp: waiting.frame.index - self._number[stamp] for stamp in known}
        size = waiting.frame.size
        seen = [stamp for stamp in known if stamp in self._luma and self._luma[stamp].shape == size]
        if waiting.vectors is None or waiting.luma is None or len(seen) < 2:
            return away[known[0]] if known else None
        return distances_by_pixels(
            waiting.vectors, waiting.luma, [self._luma[stamp] for stamp in seen], [away[stamp] for stamp in seen]
        )


def _remember(latest: dict[int, Any], stamp: int, value: Any, most: int) -> None:
    """Add to what is known of the latest pictures; forget the oldest."""
    latest[stamp] = value
    if len(latest) > most:
        del latest[next(iter(latest))]
