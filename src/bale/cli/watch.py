"""`bale watch`: a detector over a film, as seldom and on as little as accuracy allows."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import torch
import typer
from rich.console import Console

from bale.cli.app import command
from bale.cli.options import check_json, check_picture, check_writable, option, save_picture, write_json
from bale.cli.watch_parts import (
    EVERY,
    KEY_RATE,
    MEASURES,
    Options,
    Parts,
    build,
    check_options,
    frames_of,
    importing_from_here,
)
from bale.errors import BaleError
from bale.report.video_lines import box_lines
from bale.report.video_live import LiveStatistics
from bale.report.video_pictures import draw_timeline
from bale.report.video_tables import stream_dict, stream_table
from bale.video.detections import Detections
from bale.video.metrics.latency import stream_stats, without_image
from bale.video.optional import imported

if TYPE_CHECKING:
    import numpy as np

    from bale.video.result import FrameResult

_FILM = (".mp4", ".mkv", ".avi", ".mov")
_RATE = 25.0  # frames a second of a film whose source does not say


@command
def watch(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="A film, a folder of images, or a sample film: bikes, bigbuckbunny, carphone.",
            show_default=False,
        ),
    ],
    detector: Annotated[
        str, typer.Option(help="faces, lite0:FILE, sprites:FILE, or MODULE:FUNCTION that returns one.")
    ] = "faces",
    policy: Annotated[str, typer.Option(help="Key frames by motion, vds, or every so many frames, interval.")] = "vds",
    every: Annotated[int | None, option("With interval: a key every so many frames.", EVERY)] = None,
    key_rate: Annotated[float | None, option("With vds: so many keys a frame, on average.", KEY_RATE)] = None,
    tau: Annotated[
        float | None, typer.Option(help="With vds: a key whenever so many pixels of motion have come together.")
    ] = None,
    latency_budget: Annotated[
        float | None, typer.Option(help="With vds: as many keys as so many milliseconds a frame allow, on average.")
    ] = None,
    measure: Annotated[
        str | None,
        option(f"Of motion: {', '.join(MEASURES)}.", "codec where the film has motion vectors, else blocks"),
    ] = None,
    flow: Annotated[str, typer.Option(help="Optical flow: dis, flownet:FILE, or none.")] = "dis",
    beside: Annotated[
        bool, typer.Option("--async", help="Compute keys beside the stream: no frame but the first waits for one.")
    ] = False,
    worker: Annotated[str | None, option("With --async, where: thread or process.", "thread")] = None,
    sparse: Annotated[
        bool,
        typer.Option(
            "--sparse", help="Compute a flow network only where something moved: less work, and not quite the same."
        ),
    ] = False,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Let frames come at the film's own pace, as from a camera.")
    ] = False,
    when_full: Annotated[
        str | None, option("With --realtime, when frames come too fast: drop-oldest, or block.", "drop-oldest")
    ] = None,
    threads: Annotated[int | None, option("torch's threads.", "as torch finds best; with --async 1 each")] = None,
    score: Annotated[float, typer.Option(help="Boxes of at least this score, 0 to 1.")] = 0.3,
    limit: Annotated[int | None, option("Stop after so many frames.", "all")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write film, boxes, timeline and report to this folder: one name instead of the four below."),
    ] = None,
    video: Annotated[Path | None, typer.Option(help=f"Write the film with boxes: {', '.join(_FILM)}.")] = None,
    boxes: Annotated[Path | None, typer.Option(help="Write boxes, while they come, to this .jsonl or .csv.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw latency, keys and motion over time to this .svg, .png or .pdf.")
    ] = None,
    json_to: Annotated[
        Path | None, typer.Option("--json", help="Write the report as JSON to this file, or to stdout for -.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of torch, for a detector of your own that draws weights.")] = 0,
) -> None:
    """Detect on every frame of a film, and run the detector's expensive network on few of them.

    Features of key frames are carried to the others by optical flow. Statistics go to stderr while the film runs, the
    report to stdout. Ctrl-C ends the stream after a frame, finishes files and report, and has exit code 130.
    """
    if worker is not None and not beside:
        raise BaleError("--worker says where keys are computed beside the stream; give --async, too")
    options = Options(
        source=source,
        detector=detector,
        policy=policy,
        every=every,
        key_rate=key_rate,
        tau=tau,
        latency_budget=None if latency_budget is None else latency_budget / 1e3,
        measure=measure,
        flow=flow,
        worker=(worker or "thread") if beside else None,
        sparse=sparse,
        realtime=realtime,
        when_full=when_full,
        threads=threads,
        limit=limit,
    )
    check_options(options)
    if not 0 <= score <= 1:
        raise BaleError(f"--score: expected 0 to 1, got {score:g}")
    video, boxes, picture, json_to = _files(out, video, boxes, picture, json_to)
    _check_apart(source, [each for each in (video, boxes, picture, json_to) if each is not None and str(each) != "-"])
    if threads is not None or beside:
        torch.set_num_threads(threads or 1)
    torch.manual_seed(seed)
    results: list[Any] = []
    with ExitStack() as stack:
        stack.enter_context(importing_from_here())
        parts = build(options)
        total = _total(parts.info.frames, limit)
        stream = stack.enter_context(parts.watcher.stream(frames_of(options, parts.motion)))
        live = stack.enter_context(LiveStatistics(Console(stderr=True), source, total))
        sinks = [] if boxes is None else [stack.enter_context(box_lines(boxes, parts.names)).write]
        sinks += [live.show, lambda result: results.append(without_image(result))]
        interrupt = stack.enter_context(FirstInterrupt())
        _run(watched(stream, score, sinks, interrupt), video, parts)
        counts = stream.counts
    interrupted = interrupt.noted
    if results:
        stats = stream_stats(results, counts)
        if picture is not None:
            period = 1 / parts.info.rate if parts.info.rate else None
            save_picture(draw_timeline(results, source, options.latency_budget, period), picture)
        write_json({**_run_dict(options, parts, score), **stream_dict(stats), "interrupted": interrupted}, json_to)
        if str(json_to) != "-":
            Console().print(stream_table(stats, _facts(options, parts)))
    if interrupted:
        raise KeyboardInterrupt
    if not results:
        raise BaleError(f"{source}: has no frames")


class FirstInterrupt:
    """Lets Ctrl-C end a stream between two frames, so that files are finished; a second one interrupts at once."""

    def __init__(self) -> None:
        self.noted = False

    def __enter__(self) -> Self:
        self._before = signal.getsignal(signal.SIGINT)
        if self._before is not signal.SIG_IGN:  # as that of a shell's background jobs is
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.noted:
            raise KeyboardInterrupt
        self.noted = True


def watched(
    results: Iterable[FrameResult],
    score: float,
    sinks: Sequence[Callable[[FrameResult], object]],
    interrupt: FirstInterrupt,
) -> Iterator[FrameResult]:
    """Results with boxes of enough score, up to an interrupt; each has been passed to all `sinks`."""
    for result in results:
        found = result.detections
        kept = found.scores >= score
        result = replace(result, detections=Detections(found.boxes[kept], found.scores[kept], found.labels[kept]))
        for sink in sinks:
            sink(result)
        yield result
        if interrupt.noted:
            return


def _run(results: Iterator[FrameResult], video: Path | None, parts: Parts) -> None:
    """Go through all results, and write the film of those that have images."""
    if video is not None:
        from bale.video.film.write import write_film

        images = annotated(results, parts.names)
        first = next(images, None)  # without any there is no film, which is no error of its own
        if first is not None:
            write_film(video, chain([first], images), parts.info.rate or _RATE)
    for _ in results:
        pass


def annotated(results: Iterable[FrameResult], names: Sequence[str] | None) -> Iterator[np.ndarray]:
    """Frames with their boxes, as a film can have them.

    Where a frame has no image, the last one comes once more, so that the film keeps its pace; frames of another size
    than the first are made as large as that.
    """
    from bale.video.film.draw import draw_boxes

    cv2: Any = imported("cv2")
    last: np.ndarray | None = None
    for result in results:
        if result.frame.image is not None:
            kind = "key" if result.kind == "key" else "carried"
            drawn = draw_boxes(result.frame.image, result.detections, kind, names)
            if last is not None and drawn.shape != last.shape:
                drawn = cv2.resize(drawn, (last.shape[1], last.shape[0]))
            last = drawn
        if last is not None:
            yield last


def _files(
    out: Path | None, video: Path | None, boxes: Path | None, picture: Path | None, json_to: Path | None
) -> tuple[Path | None, Path | None, Path | None, Path | None]:
    """Find out now, not after the film, what cannot be written; make the folder."""
    if out is not None:
        if out.exists() and not out.is_dir():
            raise BaleError(f"{out}: is a file; --out expects a folder")
        try:
            out.mkdir(exist_ok=True)
        except OSError as error:
            raise BaleError(
                f"{out}: cannot be made: {error.strerror}; --out expects a folder in one that exists"
            ) from error
        video, boxes = video or out / "video.mp4", boxes or out / "boxes.jsonl"
        picture, json_to = picture or out / "timeline.png", json_to or out / "report.json"
    for path, known in ((video, _FILM), (boxes, (".jsonl", ".csv"))):
        if path is not None:
            if path.suffix not in known:
                raise BaleError(f"{path}: expected a name that ends in {', '.join(known)}")
            check_writable(path, "expected a file")
    if picture is not None:
        check_picture(picture)
    check_json(json_to)
    return video, boxes, picture, json_to


def _check_apart(source: str, files: Sequence[Path]) -> None:
    """Refuse to write over what is read, into a folder of images one more, or two things into one file."""
    read = Path(source).resolve()
    seen: set[Path] = set()
    for path in files:
        written = path.resolve()
        if written == read or (written.parent == read and path.suffix == ".png"):
            raise BaleError(f"{path}: is in what is watched; write it somewhere else")
        if written in seen:
            raise BaleError(f"{path}: two things would be written to it; give each a file of its own")
        seen.add(written)


def _total(frames: int | None, limit: int | None) -> int | None:
    known = [each for each in (frames, limit) if each is not None]
    return min(known) if known else None


def _facts(options: Options, parts: Parts) -> list[tuple[str, str]]:
    info = parts.info
    rate = f", {info.rate:g} frames a second" if info.rate else ""
    kind, colon, file = options.flow.partition(":")
    flow = kind + colon + Path(file).name  # whole paths are in the JSON
    where = "in line" if options.worker is None else f"beside the stream, in a {options.worker}"
    return [
        ("input", f"{Path(options.source).name or options.source}: {info.width}x{info.height}{rate}, {info.codec}"),
        ("detector", f"{options.detector}, {where}"),
        ("key frames", parts.keys),
        ("flow", flow + (", where something moved" if options.sparse else "")),
    ]


def _run_dict(options: Options, parts: Parts, score: float) -> dict[str, Any]:
    info = parts.info
    return {
        "input": {"source": options.source, "width": info.width, "height": info.height, "rate": info.rate},
        "detector": options.detector,
        "score": score,
        "key_frames": parts.keys,
        "flow": options.flow,
        "worker": options.worker,
        "sparse": options.sparse,
        "threads": torch.get_num_threads(),
    }
