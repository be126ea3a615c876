"""What happens to one frame of a stream? Everything that a stream remembers from frame to frame is here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from bale.video.changed import ChangedBlocks, MovingMask, RunningMask
from bale.video.detections import Detections
from bale.video.detector import Detector, Features, map_features
from bale.video.flow.estimator import FlowEstimator, FlowStream
from bale.video.frame import Frame
from bale.video.images import image_tensor
from bale.video.input_queue import Arrival
from bale.video.keyframes import Chooser, Policy
from bale.video.keys import Key, Keys, View
from bale.video.propagate import propagate
from bale.video.result import FrameResult, Kind, StreamCounts
from bale.video.stopwatch import Stopwatch
from bale.video.worker import Worker


class Steps:
    """A detector at work on one stream: frame in, result out."""

    def __init__(
        self,
        detector: Detector,
        flow: FlowEstimator,
        policy: Policy,
        *,
        worker: Worker,
        sparse: MovingMask | None,
        device: torch.device,
        max_failures: int,
    ) -> None:
        self._detector, self._flow, self._policy, self._sparse = detector, flow, policy, sparse
        self._device = device
        self._keys = Keys(detector, worker, max_failures)
        self._counts = StreamCounts()
        self._segment: _Segment | None = None
        self._last: tuple[Detections, int | None] = Detections.none(), None  # and the key that they are from

    @property
    def counts(self) -> StreamCounts:
        """What happened so far."""
        mine = self._counts
        return replace(
            self._keys.counts,
            frames=mine.frames,
            unreadable=mine.unreadable,
            dropped=mine.dropped,
            resolution_changes=mine.resolution_changes,
        )

    def start(self) -> None:
        """Start the worker; `close` ends it."""
        self._keys.start()

    def close(self) -> None:
        """End what was started. Keys that are still computed are given up."""
        self._keys.close()

    @torch.inference_mode()
    def step(self, arrival: Arrival) -> FrameResult:
        """Return the result of the next frame.

        Raises `VideoError` as `Keys` does; what flow, head, policy or mask raise gets a note of the frame.
        """
        frame = arrival.frame
        if arrival.dropped:
            self._count(frames=1, dropped=1)
            return self._repeated("dropped", arrival)
        if frame.image is None:
            self._count(frames=1, unreadable=1)
            return self._repeated("repeated", arrival)
        segment, watch = self._segment_of(frame), Stopwatch()
        with _noted(frame, "the policy for key frames"), watch.stage("choose"):
            choice = segment.chooser.choose(frame)
        with _noted(frame, "the mask of what moved"), watch.stage("choose"):
            segment.look(frame, self._last[0])
        with watch.stage("prepare"):
            view = View(frame.index, image_tensor(frame.image, self._detector.multiple, self._device))
        key = self._key_for(view, choice.is_key, segment, watch)
        with _noted(frame, "flow or propagation"):
            if key.index == view.index:
                # A copy, as a head may begin with an activation in place: later frames use what the key network gave.
                features = map_features(torch.clone, key.features)
            else:
                features = self._carried(key, view, segment, watch)
        with _noted(frame, f"the head of {type(self._detector).__name__}"), watch.stage("head"):
            detections = _on_cpu(self._detector.head(features, (frame.image.shape[0], frame.image.shape[1])))
        self._last = detections, key.index
        self._count(frames=1)
        return FrameResult(
            frame=frame,
            detections=detections,
            kind="key" if key.index == frame.index else "carried",
            key_index=key.index,
            motion=choice.motion,
            arrived=arrival.time,
            finished=time.perf_counter(),
            seconds=watch.seconds,
            problem=self._keys.take_problem(),
        )

    def _segment_of(self, frame: Frame) -> _Segment:
        """What is remembered of frames of this size; the first of another size begins anew, as a stream does."""
        segment = self._segment
        if segment is None or segment.size != frame.size:
            if segment is not None:
                self._count(resolution_changes=1)
                self._keys.forget()
                # Boxes of the old size are in pixels of other places.
                self._last = Detections.none(), self._last[1]
            segment = self._segment = _Segment(frame, self._flow, self._policy, self._sparse)
        return segment

    def _key_for(self, view: View, is_key: bool, segment: _Segment, watch: Stopwatch) -> Key:
        keys = self._keys
        with watch.stage("ask"):
            keys.collect()
        if is_key or keys.retry or keys.newest is None:
            segment.changed.mark(view.index)
            with watch.stage("features" if keys.in_line else "ask"):
                keys.ask(view)
                keys.collect()
        if keys.newest is None:
            with watch.stage("wait"):
                keys.wait()
        key = keys.newest
        assert key is not None
        segment.changed.take(key.index)
        return key

    def _carried(self, key: Key, view: View, segment: _Segment, watch: Stopwatch) -> Features:
        with watch.stage("prepare"):
            for each in (key.view, view):
                if each.prepared is None:
                    each.prepared = segment.flow.prepare(each.image)
        with watch.stage("flow"):
            flow = segment.flow.flow(view.prepared, key.view.prepared, segment.changed.pair())
        with watch.stage("warp"):
            return propagate(key.features, flow, (view.image.shape[2], view.image.shape[3]))

    def _repeated(self, kind: Kind, arrival: Arrival) -> FrameResult:
        detections, key_index = self._last
        problems = (arrival.frame.problem, self._keys.take_problem())
        return FrameResult(
            frame=arrival.frame,
            detections=detections,
            kind=kind,
            key_index=key_index,
            motion=None,
            arrived=arrival.time,
            finished=time.perf_counter(),
            problem="; ".join(each for each in problems if each),
        )

    def _count(self, **more: float) -> None:
        self._counts = self._counts.plus(**more)


class _Segment:
    """What works on frames of one size."""

    def __init__(self, frame: Frame, flow: FlowEstimator, policy: Policy, sparse: MovingMask | None) -> None:
        self.size = frame.size
        self.flow: FlowStream = flow.start()
        self.chooser: Chooser = policy.start()
        self.changed = ChangedBlocks()
        self._mask: RunningMask | None = None if sparse is None else sparse.start()
        self._seen = frame.index - 1

    def look(self, frame: Frame, detections: Detections) -> None:
        """Find out what moved since the frame before; after a gap nobody knows."""
        mask = None if self._mask is None else self._mask(frame, detections)
        self.changed.moved(mask if frame.index == self._seen + 1 else None)
        self._seen = frame.index


@contextmanager
def _noted(frame: Frame, where: str) -> Iterator[None]:
    """Note on what is raised within where it was."""
    try:
        yield
    except Exception as error:
        error.add_note(f"raised by {where}, on frame {frame.index} of the stream")
        raise


def _on_cpu(detections: Detections) -> Detections:
    return Detections(detections.boxes.cpu(), detections.scores.cpu(), detections.labels.cpu())
