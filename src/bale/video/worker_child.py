"""What runs in the process of a `ProcessWorker`: features of one image after the other, handed back in shared memory.

The parent sends (name of the image's block, places in it, device), and the name of a block for features where it is
asked for one; the child answers with one of the messages below. They are short: a pipe takes each whole or not at all.
"""

from __future__ import annotations

import pickle
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch
from torch import Tensor

from bale.allocator import keep_freed_memory
from bale.video.detector import Detector, Features, map_features
from bale.video.shared_block import Place, SharedBlock, places_of
from bale.video.worker import Failed, answer_of


@dataclass(frozen=True)
class Ready:
    """The child has its detector."""


@dataclass(frozen=True)
class Unreadable:
    """The child cannot read its detector, nor could another one; it ends."""

    text: str


@dataclass(frozen=True)
class Room:
    """Features take so many bytes, and there is no block of that size: give one."""

    size: int


@dataclass(frozen=True)
class Computed:
    """Features lie in the block. `form`: features with empty tensors, pickled."""

    form: bytes
    places: list[Place]
    seconds: float


@dataclass(frozen=True)
class Raised:
    """The detector raised `text`; `error` is the exception, pickled, where that goes."""

    text: str
    error: bytes | None


def run(pipe: Connection, pickled: bytes, threads: int) -> None:
    """The child's main function; `pickled` is the detector."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer; it ends this process
    keep_freed_memory()  # all of this process is the detector's
    torch.set_num_threads(threads)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone or has had enough
        try:
            detector = pickle.loads(pickled)
        except Exception as error:
            pipe.send(Unreadable(f"{type(error).__name__}: {error}"))
            return
        _serve(pipe, detector)


def _serve(pipe: Connection, detector: Detector) -> None:
    images, room = _Opened(), _Opened()
    pipe.send(Ready())
    while True:
        name, places, device = pipe.recv()
        (image,) = images.block(name).read(places, device)
        answer = answer_of(detector, image)
        if isinstance(answer, Failed):
            pipe.send(_raised(answer.error))
            continue
        tensors, form = flatten(answer.features)
        places, size = places_of(tensors)
        if room.size < size:
            pipe.send(Room(size))
            room.block(pipe.recv())
        room.write(tensors, places)
        pipe.send(Computed(form, places, answer.seconds))


class _Opened:
    """The newest block that the parent gave for one use."""

    def __init__(self) -> None:
        self._block: SharedBlock | None = None

    @property
    def size(self) -> int:
        return 0 if self._block is None else self._block.size

    def block(self, name: str) -> SharedBlock:
        if self._block is None or self._block.name != name:
            if self._block is not None:
                self._block.close()
            self._block = SharedBlock(0, name)
        return self._block

    def write(self, tensors: Sequence[Tensor], places: Sequence[Place]) -> None:
        if self._block is not None:  # None: features of no bytes
            self._block.write(tensors, places)


def flatten(features: Features) -> tuple[list[Tensor], bytes]:
    """Return a detector's maps in order, and their form, pickled; `unflatten` is the way back."""
    tensors: list[Tensor] = []

    def take(each: Tensor) -> Tensor:
        tensors.append(each)
        return torch.empty(0)

    return tensors, pickle.dumps(map_features(take, features))


def unflatten(form: bytes, tensors: Sequence[Tensor]) -> Features:
    """Return features of this form, with these maps."""
    maps = iter(tensors)
    features: Features = map_features(lambda _: next(maps), pickle.loads(form))
    return features


def _raised(error: Exception) -> Raised:
    text = f"{type(error).__name__}: {error}"
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)  # some exceptions can be written, but not read
    except Exception:
        return Raised(text, None)
    return Raised(text, pickled)
