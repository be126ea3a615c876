"""What may Ctrl-C not cut in two?"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class BrokenOff(KeyboardInterrupt):
    """A second Ctrl-C: what `finish_first` was to keep whole was cut in two."""


@contextmanager
def finish_first() -> Iterator[None]:
    """Hold a Ctrl-C back until the block is done, then raise its KeyboardInterrupt.

    A second one is not held back: it raises `BrokenOff` inside the block.

    Does nothing outside the main thread, where Python allows no handler, and where somebody else handles the signal
    (or ignores it, as under nohup).
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    pressed = False

    def note(signum: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise BrokenOff
        pressed = True

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if pressed:
        raise KeyboardInterrupt
