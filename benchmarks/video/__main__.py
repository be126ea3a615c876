"""What do asynchronous, motion-keyed and sparse Deep Feature Flow bring, on real streams with known boxes?

    python -m benchmarks.video [--streams vtest,variable] [--variants dense,dff-10,...] [--flows flownet,dis]
                               [--runs N] [--work FOLDER] [--no-pace] [--json FILE|-]

The film is OpenCV's vtest.avi (Debian's opencv-doc), the truth MOT15's PETS09-S2L1 (in BALE_DATA, see
`benchmarks.video.detector`); without either there is nothing to measure, and a message says so. The detector is
EfficientNet-Lite0, fine-tuned on frames 0 to 499; flow is FlowNet-S of an eighth of its width, or OpenCV's DIS; tau is
calibrated on frames 0 to 499; measured are frames 500 to 794: it is one scene. `variable` is made of the same film:
segments of every frame, every second and every fourth, through windows that slide.

Frames arrive at the film's rate, decoded, in a queue that never overflows, so that a variant that cannot keep up shows
it in its latency. Rounds take turns: each variant runs once in each. Workers have a thread each; what runs in line has
as many as make its keys fastest, one or all. The first frame of a clip is reported apart (`first_ms`).

A folder keeps detector, flow and every pass, so that what was stopped goes on; figures that compare come last.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bale.errors import BaleError
from bale.video.detector import Detector
from bale.video.flow.flownet import FlowNetS
from bale.video.images import image_tensor
from benchmarks import command
from benchmarks.race.machine import processor
from benchmarks.video import material
from benchmarks.video.detector import default_truth, trained_detector
from benchmarks.video.flow import trained_flow
from benchmarks.video.rows import claims, row
from benchmarks.video.runs import Pass, load, run, save
from benchmarks.video.streams import FILM
from benchmarks.video.variants import FLOWS, VARIANTS, Variant, variants, video_detector

_TIMED = 15  # frames


def alone(detector: Detector, network: FlowNetS, stream: material.Stream) -> command.Line:
    """What detector and light path take for a frame, alone with one thread; and how many threads make keys fastest."""
    image = image_tensor(_picture(stream), detector.multiple, torch.device("cpu"))
    seconds: dict[int, float] = {}
    for threads in sorted({os.cpu_count() or 1, 1}):
        torch.set_num_threads(threads)
        seconds[threads] = _median_seconds(detector, image)
    torch.set_num_threads(1)
    light = dataclasses.replace(
        stream, clips=[dataclasses.replace(stream.clips[0], frames=stream.clips[0].frames[:_TIMED])]
    )
    times = {}
    for flow in FLOWS:
        done = run(video_detector(Variant("dff-1000", flow), detector, network, light), light, False, lambda: None)
        times[flow] = 1e3 * median(each.latency for each in done.later)
    return {
        "detector_ms": round(1e3 * seconds[1], 2),
        "light_by_flow_ms": {flow: round(ms, 2) for flow, ms in times.items()},
        "inline_threads": min(seconds, key=lambda threads: seconds[threads]),
    }


def _picture(stream: material.Stream) -> np.ndarray:
    image = stream.clips[0].frames[0].image
    assert image is not None
    return image


@torch.inference_mode()
def _median_seconds(detector: Detector, image: torch.Tensor) -> float:
    times = []
    for _ in range(_TIMED):
        begin = time.perf_counter()
        detector.features(image)
        times.append(time.perf_counter() - begin)
    return median(times[2:])


def table_of(lines: Sequence[command.Line]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    heads = (
        "stream",
        "variant",
        "flow",
        "AP50",
        "interval",
        "mean ms",
        "p99",
        "worst",
        "first",
        "keys",
        "compute",
        "flow ms",
    )
    for place, heading in enumerate(heads):
        table.add_column(heading, justify="left" if place < 3 else "right", no_wrap=True)
    for line in lines:
        if "figure" in line:
            text = ", ".join(f"{k} {v}" for k, v in line.items() if k not in ("stream", "figure", "flow"))
            table.add_row(line["stream"], line["figure"], line["flow"], text)
            continue
        names = ("mean_ms", "p99_ms", "worst_ms", "first_ms")
        table.add_row(
            *(line[name] for name in ("stream", "variant", "flow")),
            f"{line['ap50']:.3f}",
            f"{line['ap50_low']:.3f}-{line['ap50_high']:.3f}",
            *(f"{line[name]:.1f}" for name in names),
            f"{line['key_rate']:.3f}",
            f"{line['compute_share']:.2f}",
            f"{line['flow_ms']:.1f}",
        )
    return table


def measure(
    stream: material.Stream,
    ways: Sequence[Variant],
    detector: Detector,
    network: FlowNetS,
    chosen: Namespace,
    progress: Progress,
) -> list[command.Line]:
    """All lines of a stream; passes that the folder has are not run again."""
    costs = alone(detector, network, stream)
    machine = {"processor": processor(), "torch": torch.__version__, "frames": len(stream.truth), "rate": stream.rate}
    passes: dict[Variant, list[Pass]] = {way: [] for way in ways}
    task = progress.add_task(stream.name, total=len(ways) * chosen.runs * len(stream.truth))
    for turn in range(chosen.runs):
        for way in ways:
            path = chosen.work / "passes" / f"{stream.name}-{way.name}-{way.flow}-{turn}.json"
            if path.is_file():
                passes[way].append(load(path))
                progress.advance(task, len(stream.truth))
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.set_num_threads(1 if way.beside else costs["inline_threads"])
            watch = video_detector(way, detector, network, stream)
            done = run(watch, stream, chosen.pace, lambda: progress.advance(task))
            save(done, path)
            passes[way].append(done)
    lines = []
    for way in ways:
        mine = {"detector_ms": costs["detector_ms"], "light_ms": costs["light_by_flow_ms"][way.flow], **machine}
        lines.append(row(stream.name, way, passes[way], stream.truth, mine))
    return lines + claims(stream.name, passes, stream.truth, costs)


def main(arguments: Sequence[str] | None = None) -> int:
    options = command.parser("video", __doc__)
    options.add_argument("--streams", type=command.some_of(str, material.STREAMS), default=list(material.STREAMS))
    options.add_argument("--variants", type=command.some_of(str), default=list(VARIANTS), metavar="A,B,...")
    options.add_argument("--flows", type=command.some_of(str, FLOWS), default=list(FLOWS), metavar="A,B")
    options.add_argument("--runs", type=command.at_least(1), default=3, metavar="N")
    options.add_argument("--work", type=Path, default=Path("video-benchmark"), metavar="FOLDER")
    options.add_argument("--film", type=Path, default=FILM, metavar="FILE")
    options.add_argument("--truth", type=Path, default=default_truth(), metavar="FILE")
    options.add_argument("--no-pace", dest="pace", action="store_false", help="frames come as they are wanted")
    command.add_json(options)
    chosen = options.parse_args(arguments)
    for path, what in ((chosen.film, "Debian's package opencv-doc has it"), (chosen.truth, "set BALE_DATA")):
        if not path.is_file():
            print(f"nothing is measured: {path} is not there; {what}", file=sys.stderr)
            return 0
    try:
        ways = variants(chosen.variants, chosen.flows)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            detector = trained_detector(chosen.work, chosen.film, chosen.truth)
            network = trained_flow(chosen.work, chosen.film)
            lines = []
            for name in chosen.streams:
                stream = material.stream(name, chosen.film, chosen.truth, chosen.work)
                lines += measure(stream, ways, detector, network, chosen, progress)
    except BaleError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped; the same command goes on from {chosen.work}", file=sys.stderr)
        return 130
    command.tell(lines, chosen.json, table_of, width=160)
    return 0


if __name__ == "__main__":
    sys.exit(main())
