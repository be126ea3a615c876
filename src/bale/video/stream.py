"""How does a detector run over a stream: every frame gets its boxes, and few frames run the expensive network?

Deep Feature Flow (DFF; Zhu et al., CVPR 2017): key frames have features of their own, which optical flow carries to
the others. With a worker the key network runs beside the stream, and frames go on with the newest features that have
finished (ADFF; Mao et al., TECS 2022, our reconstruction), so that the slowest frame takes no longer than the light
path: flow, warping, head.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import torch

from bale.errors import VideoError
from bale.video.asynchronous import async_results
from bale.video.changed import MovingMask
from bale.video.detector import Detector
from bale.video.flow.estimator import FlowEstimator
from bale.video.frame import Frame
from bale.video.images import numbered
from bale.video.input_queue import InputQueue, Pulled
from bale.video.keyframes import FixedInterval, Policy
from bale.video.result import FrameResult, StreamCounts
from bale.video.steps import Steps
from bale.video.worker import InstantWorker, Worker

Frames = Iterable[Frame | np.ndarray]
Results = Generator[FrameResult, None, None]
AsyncResults = AsyncGenerator[FrameResult, None]


class ResultStream(Iterator[FrameResult]):
    """The results of one stream, in order, one for each frame; `counts` can be read at any time.

    Threads and processes start with the first frame. They end when the frames do, when an error is raised, at `close`
    or the end of a `with` block, and when nothing refers to the stream any more: leaving a `for` loop is enough.
    """

    def __init__(self, steps: Steps, results: Results) -> None:
        self._steps, self._results = steps, results

    @property
    def counts(self) -> StreamCounts:
        """What happened so far."""
        return self._steps.counts

    def __next__(self) -> FrameResult:
        return next(self._results)

    def close(self) -> None:
        """Give up what is under way; no more results come."""
        self._results.close()

    def __enter__(self) -> ResultStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncResultStream(AsyncIterator[FrameResult]):
    """`ResultStream` for `async for`.

    A frame is worked on when the loop asks for it, in a thread, so a slow consumer holds the stream back and a slow
    detector does not hold the event loop. As with any asynchronous generator, one that is left early ends at `aclose`,
    at the end of an `async with` block, or when the event loop gets to it; and cancelling what waits for a result, as
    `asyncio.wait_for` does, ends the stream.
    """

    def __init__(self, steps: Steps, results: AsyncResults) -> None:
        self._steps, self._results = steps, results

    @property
    def counts(self) -> StreamCounts:
        """What happened so far."""
        return self._steps.counts

    async def __anext__(self) -> FrameResult:
        return await anext(self._results)

    async def aclose(self) -> None:
        """Give up what is under way; no more results come."""
        await self._results.aclose()

    async def __aenter__(self) -> AsyncResultStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


@dataclass(frozen=True, eq=False)
class VideoDetector:
    """A detector for streams; it remembers nothing, so any number of streams can run, one after or beside the other.

    detector      features and a head, in evaluation mode
    flow          optical flow from a frame to its key
    policy        which frames are keys
    worker        where keys are computed: None in line, frame after frame; else `ThreadWorker` or `ProcessWorker`,
                  beside the frames. The first frame, and the first of another resolution, wait for their own features;
                  any other frame uses the newest that have finished. One key is computed at a time and one may wait,
                  in whose place a newer one goes
    queue         None: the source is read as frames are wanted; else it is read ahead
    sparse        where frames differ from the ones before, for an estimator of flow that computes only there
    device        where frames go; None: where the detector's parameters are
    max_failures  keys that fail in a row before the stream ends

    A frame of another size begins everything anew: flow, policy, masks, features. Frames that were lost or dropped have
    the last boxes, and nothing is known of what moved on them; the motion that a policy sums up is without theirs.

    An error in the features of a key does not end the stream: its frame, and those after it, use the older features,
    the result says so in `problem`, and the next frame is asked as a key instead. A detector that stumbles over one
    image is worth going on with; one that fails `max_failures` times in a row, or on a frame that has no older features
    to use, is not, and raises `VideoError`. Errors in flow, head, policy and source leave no result to give, and are
    raised as they are, with a note of the frame.
    """

    detector: Detector
    flow: FlowEstimator
    policy: Policy = field(default_factory=FixedInterval)
    worker: Worker | None = field(default=None, kw_only=True)
    queue: InputQueue | None = field(default=None, kw_only=True)
    sparse: MovingMask | None = field(default=None, kw_only=True)
    device: torch.device | str | None = field(default=None, kw_only=True)
    max_failures: int = field(default=3, kw_only=True)

    def __post_init__(self) -> None:
        multiple = getattr(self.detector, "multiple", None)
        if not isinstance(multiple, int) or multiple < 1:
            raise VideoError(
                f"VideoDetector(detector): {type(self.detector).__name__}.multiple: expected a whole number of 1 or "
                f"more, got {multiple!r}"
            )
        if self.max_failures < 1:
            raise VideoError(f"VideoDetector(max_failures): expected 1 or more, got {self.max_failures}")

    def stream(self, frames: Frames) -> ResultStream:
        """Detect on frames as they come: a result for each, in order.

        frames  `Frame`s, or images uint8 [height, width, 3] of red, green and blue, which are not written to again

        Raises `VideoError` for a detector in training mode, for an image of another kind, which it names, and where
        keys fail as the class says.
        """
        steps = self._steps()
        return ResultStream(steps, _results(steps, frames, self.queue))

    def astream(self, frames: Frames | AsyncIterable[Frame | np.ndarray]) -> AsyncResultStream:
        """`stream` for `async for`; also of frames that come asynchronously. Its thread waits, the event loop never."""
        steps = self._steps()
        return AsyncResultStream(steps, async_results(frames, lambda plain: _results(steps, plain, self.queue)))

    def _steps(self) -> Steps:
        if getattr(self.detector, "training", False):
            raise VideoError(
                f"{type(self.detector).__name__} is in training mode, in which batch norms and dropout depend on what "
                "came before: call .eval()"
            )
        return Steps(
            self.detector,
            self.flow,
            self.policy,
            worker=self.worker or InstantWorker(),
            sparse=self.sparse,
            device=device_of(self.detector) if self.device is None else torch.device(self.device),
            max_failures=self.max_failures,
        )


def _results(steps: Steps, frames: Frames, queue: InputQueue | None) -> Results:
    # What is started is started in here: a generator that is never asked for anything never cleans up.
    with closing(steps):
        steps.start()
        plain = numbered(frames)
        with closing(Pulled(plain) if queue is None else queue.start(plain)) as arrivals:
            while (arrival := arrivals.next()) is not None:
                yield steps.step(arrival)


def device_of(detector: Detector) -> torch.device:
    """Where a detector's first parameter is; the CPU for one without."""
    first = next(detector.parameters(), None) if isinstance(detector, torch.nn.Module) else None
    return torch.device("cpu") if first is None else first.device
