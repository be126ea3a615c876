"""How far away are the pictures that a picture is predicted from?

FFmpeg exports where a block comes from, and whether from earlier or later, but not from which picture (motion_vector.h:
"XXX: set exact relative ref frame reference instead of a +/- 1 direction"). What is left is the structure of the
stream: packets come in the order of decoding, so whatever a picture refers to was decoded before it, is kept for
reference, and is not on the other side of a picture that starts afresh. Where an encoder keeps one on each side (MPEG-1
and -2, MPEG-4, H.264 with `refs=1`), pyramids of B-pictures included, that is exact: the nearest on either side. H.264
may have several; of the earlier ones `which.py` then chooses by pixels, of the later ones the nearest is taken, as
encoders nearly always have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_SLICE, _FRESH_SLICE = 1, 5  # nal_unit_type, H.264's table 7-1: of a picture, and of one that starts afresh
_MOST_KEPT = 16  # pictures that H.264 keeps for reference (A.3.1)


class Neighbours(NamedTuple):
    """What a picture may refer to, by time stamps.

    past    all earlier pictures that are kept, the nearest first
    future  the nearest later one; None where there is none
    kept    whether it is kept itself
    """

    past: tuple[int, ...]
    future: int | None
    kept: bool


class References:
    """What each picture of a stream may refer to, from its packets in the order of decoding."""

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self._is_h264 = codec == "h264"
        # avcC (ISO/IEC 14496-15) says how long the lengths before units are; without it units follow start codes.
        has_lengths = extradata is not None and len(extradata) > 4 and extradata[0] == 1
        self._length_bytes = (extradata[4] & 3) + 1 if extradata is not None and has_lengths else 0
        self._kept: list[int] = []

    def decoded(self, stamp: int, packet: bytes) -> Neighbours:
        """Take note of the packet of the picture that is shown at `stamp`; return what that may refer to."""
        if self._is_h264:
            heads = [h for h in _unit_heads(packet, self._length_bytes) if _SLICE <= h & 31 <= _FRESH_SLICE]
            kept = any(head >> 5 & 3 for head in heads)  # nal_ref_idc: 0 if nothing refers to the picture
            fresh = any(head & 31 == _FRESH_SLICE for head in heads)
        else:  # Only B-pictures are not kept, and only they are shown before one that was decoded earlier.
            kept, fresh = all(stamp > each for each in self._kept), False
        if fresh:
            self._kept.clear()
        past = tuple(sorted((each for each in self._kept if each < stamp), reverse=True))
        future = min((each for each in self._kept if each > stamp), default=None)
        if kept:
            self._kept = [*self._kept[1 - _MOST_KEPT :], stamp]
        return Neighbours(past, future, kept)


def _unit_heads(packet: bytes, length_bytes: int) -> Iterator[int]:
    """Yield the first byte of each of a packet's units; of a damaged one as far as its lengths make sense."""
    at = 0
    if length_bytes:
        while at + length_bytes < len(packet):
            yield packet[at + length_bytes]
            at += length_bytes + int.from_bytes(packet[at : at + length_bytes], "big")
    else:
        while (at := packet.find(b"\0\0\1", at)) >= 0 and at + 3 < len(packet):
            yield packet[at + 3]
            at += 3
