"""How do tensors pass between two processes without being sent? Through a block of shared memory that one side owns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory

import torch
from torch import Tensor

_ALIGNED = 64  # bytes; a cache line, and a multiple of every element's size


@dataclass(frozen=True)
class Place:
    """Where in a block a tensor lies, contiguous, from byte `start` on."""

    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype


def places_of(tensors: Sequence[Tensor]) -> tuple[list[Place], int]:
    """Lay tensors one after the other; also return the bytes that they need."""
    places: list[Place] = []
    end = 0
    for each in tensors:
        places.append(Place(end, tuple(each.shape), each.dtype))
        end += -(-each.numel() * each.element_size() // _ALIGNED) * _ALIGNED
    return places, end


class SharedBlock:
    """Bytes that two processes see. Whoever makes it owns it; the other side opens it by its name."""

    def __init__(self, size: int, name: str | None = None) -> None:
        self._owned = name is None
        self._memory = SharedMemory(name, create=name is None, size=size)

    @property
    def name(self) -> str:
        return self._memory.name

    @property
    def size(self) -> int:
        return self._memory.size

    def write(self, tensors: Sequence[Tensor], places: Sequence[Place]) -> None:
        """Copy tensors, on any device, to their places."""
        for tensor, place in zip(tensors, places, strict=True):
            self._at(place).copy_(tensor)

    def read(self, places: Sequence[Place], device: torch.device) -> list[Tensor]:
        """Return copies of what lies at these places."""
        return [self._at(place).to(device, copy=True) for place in places]

    def close(self) -> None:
        """Let the memory go; its owner takes it from the system."""
        self._memory.close()
        if self._owned:
            self._memory.unlink()

    def _at(self, place: Place) -> Tensor:
        # A view that is gone when its caller returns: memory that is still looked at cannot be closed.
        count = torch.Size(place.shape).numel()
        if count == 0:
            return torch.empty(place.shape, dtype=place.dtype)
        return torch.frombuffer(self._memory.buf, dtype=place.dtype, count=count, offset=place.start).view(place.shape)
