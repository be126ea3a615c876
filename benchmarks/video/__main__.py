"""What do asynchronous, motion-keyed and sparse Deep Feature Flow bring, on real streams with known boxes?

    python -m benchmarks.video [--streams vtest,variable] [--variants dense,dff-10,...] [--flows flownet,dis]
                               [--runs N] [--work FOLDER] [--no-pace] [--json FILE|-]
                               [--picture FILE]

The film is OpenCV's vtest.avi (Debian's opencv-doc), the truth MOT15's PETS09-S2L1 (in BALE_DATA, see
`benchmarks.video.detector`); without either there is nothing to measure, and a message says so. The detector is
EfficientNet-Lite0, fine-tuned on frames 0 to 499; flow is FlowNet-S of a quarter of its width, or OpenCV's DIS; tau is
calibrated on frames 0 to 499; measured are frames 500 to 794: it is one scene. `variable` is made of the same film:
segments of every frame, every second and every fourth, through windows that slide.

Frames arrive at the film's rate, decoded, in a queue that never overflows, so that a variant that cannot keep up shows
it in its latency; with --no-pace each arrives when it is wanted. Rounds take turns: variants whose times are compared
run once in each, others in the first. What chooses keys by motion is compared with a fixed interval that has no fewer
keys, and so need not be whole; it runs last. Workers have a thread each; what runs in line has as many as make its keys
fastest, one or all. The first frame of a clip is reported apart (`first_ms`), and frames that come before it is done
are in no latency (`start_up` counts both). `compute_share` is of the detector on every frame with as many threads.
Intervals are of blocks of the film's frames: the four clips of `variable` show the same ones, so these are drawn for
all at once.

A folder keeps detector, flow and every pass, so that what was stopped goes on; figures that compare come last.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bale.video.detector import Detector
from bale.video.flow.flownet import FlowNetS
from benchmarks import command
from benchmarks.race.machine import processor
from benchmarks.video.alone import alone
from benchmarks.video.detector import STEPS as DETECTOR_STEPS
from benchmarks.video.detector import default_truth, trained_detector
from benchmarks.video.flow import STEPS as FLOW_STEPS
from benchmarks.video.flow import trained_flow
from benchmarks.video.material import STREAMS, Stream, stream_of
from benchmarks.video.picture import draw
from benchmarks.video.rows import claims, row
from benchmarks.video.runs import Pass, load, run, save
from benchmarks.video.streams import FILM
from benchmarks.video.variants import FLOWS, VARIANTS, Variant, as_often, timed, variants, video_detector


def table_of(lines: Sequence[command.Line]) -> Table:
    """Variants as rows, figures of pairs of them below."""
    names = ("mean_ms", "p99_ms", "worst_ms", "first_ms")
    heads = ("AP50", "interval", "mean ms", "p99", "worst", "first", "keys", "compute", "flow ms")
    table = Table(box=None, padding=(0, 2, 0, 0), caption_justify="left")
    for heading in ("stream", "variant", "flow"):
        table.add_column(heading, no_wrap=True)
    for heading in heads:
        table.add_column(heading, justify="right", no_wrap=True)
    figures = []
    for line in lines:
        if "figure" in line:
            rest = (f"{key} {value}" for key, value in line.items() if key not in ("stream", "figure", "flow"))
            figures.append(f"{line['stream']}, {line['flow']}: {line['figure']}: {', '.join(rest)}")
            continue
        table.add_row(
            *(line[name] for name in ("stream", "variant", "flow")),
            f"{line['ap50']:.3f}",
            f"{line['ap50_low']:.3f}-{line['ap50_high']:.3f}",
            *(f"{line[name]:.1f}" for name in names),
            f"{line['key_rate']:.3f}",
            f"{line['compute_share']:.2f}",
            f"{line['flow_ms']:.1f}",
        )
    table.caption = "\n".join(figures)
    return table


def measure(
    stream: Stream,
    ways: Sequence[Variant],
    detector: Detector,
    network: FlowNetS,
    chosen: Namespace,
    progress: Progress,
) -> list[command.Line]:
    """All lines of a stream; passes that the folder has are not run again."""
    folder = chosen.work / ("passes" if chosen.pace else "passes-unpaced")
    costs = alone(detector, network, stream, folder / f"{stream.name}-alone.json")
    frames = len(stream.truth)
    again = timed(ways)
    rounds = [way for turn in range(chosen.runs) for way in ways if turn == 0 or way in again]
    task = progress.add_task(stream.name, total=len(rounds) * frames)
    passes: dict[Variant, list[Pass]] = {way: [] for way in ways}

    def add_pass(way: Variant) -> None:
        path = folder / f"{stream.name}-{way.name}-{way.flow}-{len(passes[way])}.json"
        if path.is_file():
            passes[way].append(load(path))
            progress.advance(task, frames)
            return
        torch.set_num_threads(1 if way.beside else costs["inline_threads"])
        watch = video_detector(way, detector, network, stream, pace=chosen.pace)
        done = run(watch, stream, chosen.pace, lambda: progress.advance(task))
        save(done, path)
        passes[way].append(done)

    for way in rounds:
        add_pass(way)
    even = [as_often(way, passes[way][0].keys, stream) for way in ways if way.by_motion]
    even = [way for way in dict.fromkeys(even) if way not in passes]
    progress.update(task, total=(len(rounds) + len(even)) * frames)
    for way in even:
        passes[way] = []
        add_pass(way)
    machine = {"processor": processor(), "torch": torch.__version__, "frames": frames, "rate": stream.rate}
    lines = [row(stream, way, mine, costs) | machine for way, mine in passes.items()]
    return lines + claims(stream, passes, costs)


def _shown(progress: Progress, name: str, steps: int) -> Callable[[Any], None]:
    """A line of the progress for steps of training, that is not there unless something is trained."""
    task = progress.add_task(name, total=steps, visible=False)
    return lambda step: progress.update(task, completed=step.step, visible=True)


def main(arguments: Sequence[str] | None = None) -> int:
    options = command.parser("video", __doc__)
    options.add_argument("--streams", type=command.some_of(str, STREAMS), default=list(STREAMS))
    options.add_argument("--variants", type=command.some_of(str), default=list(VARIANTS), metavar="A,B,...")
    options.add_argument("--flows", type=command.some_of(str, FLOWS), default=list(FLOWS), metavar="A,B")
    options.add_argument("--runs", type=command.at_least(1), default=3, metavar="N")
    options.add_argument("--work", type=Path, default=Path("video-benchmark"), metavar="FOLDER")
    options.add_argument("--film", type=Path, default=FILM, metavar="FILE")
    options.add_argument("--truth", type=Path, default=default_truth(), metavar="FILE")
    options.add_argument("--no-pace", dest="pace", action="store_false", help="frames come as they are wanted")
    command.add_json(options)
    options.add_argument("--picture", type=command.picture, metavar="FILE", help="draw accuracy beside latency")
    chosen = options.parse_args(arguments)
    for path, what in ((chosen.film, "Debian's package opencv-doc has it"), (chosen.truth, "set BALE_DATA")):
        if not path.is_file():
            print(f"nothing is measured: {path} is not there; {what}", file=sys.stderr)
            return 0
    return command.run(lambda: _measure_all(chosen), chosen.work)


def _measure_all(chosen: Namespace) -> None:
    ways = variants(chosen.variants, chosen.flows)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    film, truth = chosen.film, chosen.truth
    with Progress(*columns, console=Console(stderr=True)) as progress:
        detector = trained_detector(chosen.work, film, truth, on_step=_shown(progress, "detector", DETECTOR_STEPS))
        network = trained_flow(chosen.work, film, truth, on_step=_shown(progress, "flow", sum(FLOW_STEPS)))
        lines = []
        for name in chosen.streams:
            stream = stream_of(name, film, truth, chosen.work)
            lines += measure(stream, ways, detector, network, chosen, progress)
    if chosen.picture is not None:
        command.save(draw(lines), chosen.picture)
    command.tell(lines, chosen.json, table_of, width=160)


if __name__ == "__main__":
    sys.exit(main())
