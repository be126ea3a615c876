"""How do whole numbers of few bits become bytes, and back?"""

from __future__ import annotations

import numpy as np

_AT_A_TIME = 1 << 20  # a multiple of 8, so that each part ends with a byte


def pack_bits(numbers: np.ndarray, bits: int) -> bytes:
    """Whole numbers 0 to 2^bits - 1, one after the other, the highest bit first; the last byte is filled with zeros."""
    numbers = np.asarray(numbers).reshape(-1)
    if bits == 8:
        return numbers.astype(np.uint8).tobytes()
    places = np.arange(bits - 1, -1, -1, dtype=np.uint32)
    parts = (numbers[at : at + _AT_A_TIME, None].astype(np.uint32) for at in range(0, len(numbers), _AT_A_TIME))
    return b"".join(np.packbits(((part >> places) & 1).astype(np.uint8)).tobytes() for part in parts)


def unpack_bits(packed: bytes, bits: int, count: int) -> np.ndarray:
    """The `count` numbers, int64, of which `pack_bits` made the bytes."""
    if bits == 8:
        return np.frombuffer(packed, np.uint8, count).astype(np.int64)
    every = np.unpackbits(np.frombuffer(packed, np.uint8), count=count * bits).reshape(count, bits)
    return every.astype(np.int64) @ (1 << np.arange(bits - 1, -1, -1, dtype=np.int64))


def packed_size(bits: int, count: int) -> int:
    """How many bytes `count` numbers of `bits` bits take."""
    return -(-bits * count // 8)
