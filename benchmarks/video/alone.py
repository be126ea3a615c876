"""What do a detector and a light path take for a frame, with nothing beside them?"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path
from statistics import median

import torch

from bale.video.detector import Detector
from bale.video.flow.flownet import FlowNetS
from bale.video.images import image_tensor
from benchmarks.command import Line
from benchmarks.video.material import Stream
from benchmarks.video.runs import run
from benchmarks.video.variants import FLOWS, Variant, video_detector

_TIMED, _WARM_UP = 15, 2  # frames, and how many of them first make torch allocate


def alone(detector: Detector, network: FlowNetS, stream: Stream, path: Path) -> Line:
    """Return what is measured, or what the file `path` says of an earlier call: passes that go on need the same.

    detector_ms       features and head, with one thread
    threads_ms        the same by number of threads: one, and all
    light_by_flow_ms  what a carried frame takes, with one thread: all but features of its own
    inline_threads    with how many threads the detector is fastest
    """
    if path.is_file():
        return json.loads(path.read_text())
    threads_ms: dict[str, float] = {}
    before = torch.get_num_threads()
    try:
        for threads in sorted({1, os.cpu_count() or 1}):
            torch.set_num_threads(threads)
            threads_ms[str(threads)] = _detector_ms(detector, stream)
        torch.set_num_threads(1)
        light_ms = {flow: _light_ms(detector, network, stream, flow) for flow in FLOWS}
    finally:
        torch.set_num_threads(before)
    costs: Line = {
        "detector_ms": threads_ms["1"],
        "threads_ms": threads_ms,
        "light_by_flow_ms": light_ms,
        "inline_threads": int(min(threads_ms, key=lambda threads: threads_ms[threads])),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(costs))
    return costs


@torch.inference_mode()
def _detector_ms(detector: Detector, stream: Stream) -> float:
    picture = stream.clips[0].frames[0].image
    assert picture is not None
    image = image_tensor(picture, detector.multiple)
    times = []
    for _ in range(_TIMED):
        begin = time.perf_counter()
        detector.head(detector.features(image), stream.size)
        times.append(time.perf_counter() - begin)
    return round(1e3 * median(times[_WARM_UP:]), 2)


def _light_ms(detector: Detector, network: FlowNetS, stream: Stream, flow: str) -> float:
    first = stream.clips[0]
    few = dataclasses.replace(stream, clips=[dataclasses.replace(first, frames=first.frames[:_TIMED])])
    done = run(video_detector(Variant("dff-1000", flow), detector, network, few, pace=False), few, False, lambda: None)
    return round(1e3 * median(each.latency for each in done.later[_WARM_UP:]), 2)
