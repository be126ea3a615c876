"""How do frames of a file come in at the times at which a camera would have given them?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from bale.errors import VideoError
from bale.video.frame import Frame


def paced(
    frames: Iterable[Frame],
    fps: float | None = None,
    *,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
) -> Iterator[Frame]:
    """Yield each frame no sooner than its time, counted from the first; later only where the consumer is.

    fps  frames a second; None goes by each frame's own `time`. With an `InputQueue` the pace is kept whatever the
         detector does.
    """
    if fps is not None and not fps > 0:
        raise VideoError(f"paced(fps): expected more than 0 frames a second, got {fps}")
    begin: float | None = None
    for position, frame in enumerate(frames):
        due = frame.time if fps is None else position / fps
        begin = clock() - due if begin is None else begin
        while (early := begin + due - clock()) > 0:
            sleep(early)
        yield frame
