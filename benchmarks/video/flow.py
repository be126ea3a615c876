"""Which flow do the benchmarks of video race, and how well does it follow people?

    python -m benchmarks.video.flow --work FOLDER [--film FILE] [--truth FILE] [--threads N] [--json FILE|-]

FlowNet-S learns exact flow of synthetic scenes first, whose textures are those of `bale.video` and pieces of the film's
frames 0 to 499; then what the boxes of these frames tell (`bale.train.tune_flow`); and then to carry what a detector
makes of these frames (`tune_flow_for`), that of `benchmarks.video.detector`, which is trained first. FOLDER keeps
checkpoints, from which a run that was stopped goes on, and the weights.

A line is a flow and a gap: by how many pixels the mean flow in the middle of a person's box misses the way that the
box went, from a frame of the test (every fifth of 500 to 794) to the one so many frames before; and how much flow
there is beside all boxes, where nothing moves. `none` says how far people go.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch.nn.functional import interpolate

from bale.train import TrainingStep, train_flow, tune_flow, tune_flow_for
from bale.video.flow.dis import DisFlow, NoFlow
from bale.video.flow.estimator import FlowEstimator
from bale.video.flow.flownet import FlowNetS
from bale.video.flow.learned import FlowNetFlow
from bale.video.flow.textures import Textures
from bale.video.flow.tracks import TrackedFilm
from bale.video.flow.weights import load_flownet, save_flownet
from bale.video.images import image_tensor
from bale.video.metrics.mot import read_mot
from benchmarks import command
from benchmarks.video.detector import default_truth, people, read_images, trained_detector
from benchmarks.video.streams import FILM, TEST, TRAIN

WIDTH = 1 / 4
STEPS = (2_000, 3_000, 4_000)  # on scenes, on boxes, on what the detector needs
GAPS = (1, 2, 5, 9)  # frames from a frame of the test back to its key
_EVERY = 25  # frames of the film between two that give textures
_TESTED = 5  # frames of the test between two that are looked at
_MARGIN = 0.25  # of a box, each side: its middle moves as it does
_PLACE = 32  # the padded frame's sides are multiples of it


def trained_flow(
    work: Path,
    film: Path = FILM,
    truth: Path | None = None,
    on_step: Callable[[TrainingStep], None] | None = None,
) -> FlowNetS:
    """Return the network from the folder `work`; where it is not there it is trained, for half an hour.

    on_step  is told of all three parts as of one run

    Raises BaleError for a film or truth that is not there and for a folder that holds another run.
    """
    weights = work / "flownet.safetensors"
    if weights.is_file():
        return load_flownet(weights, width=WIDTH)
    detector = trained_detector(work, film, truth)
    images = list(read_images(film, TRAIN))
    marked = read_mot(default_truth() if truth is None else truth)

    def told(part: int) -> Callable[[TrainingStep], None]:
        tell = on_step or (lambda step: None)
        return lambda step: tell(TrainingStep(sum(STEPS[:part]) + step.step, sum(STEPS), step.loss))

    network = FlowNetS(width=WIDTH)
    textures = Textures.procedural(seed=0).with_images(images[::_EVERY])
    train_flow(network, steps=STEPS[0], textures=textures, on_step=told(0), save=work / "flow")
    tracked = TrackedFilm(images, [marked.frame(index) for index in TRAIN])
    tune_flow(network, tracked, steps=STEPS[1], on_step=told(1), save=work / "flow-boxes", data=film.name)
    boxes = [people(marked, index, images[0].shape[:2]) for index in TRAIN]
    labels = [torch.zeros(len(each), dtype=torch.int64) for each in boxes]
    tune_flow_for(
        detector,
        network,
        images,
        boxes,
        labels,
        steps=STEPS[2],
        on_step=told(2),
        save=work / "flow-detector",
        data=film.name,
    )
    save_flownet(network, weights)
    return network


@torch.inference_mode()
def misses(flow: FlowEstimator, film: TrackedFilm, gap: int) -> tuple[float, float]:
    """Return by how many pixels a flow misses people's ways, and how much it finds beside them, both on the mean."""
    missed, beside = [], []
    for current in range(gap, len(film.frames), _TESTED):
        stream = flow.start()
        frame, key = (stream.prepare(image_tensor(film.frames[each], _PLACE)) for each in (current, current - gap))
        height, width = film.frames[current].shape[:2]
        field = stream.flow(frame, key, None).field
        padded = tuple(-(-side // _PLACE) * _PLACE for side in (height, width))
        found = interpolate(field, padded, mode="bilinear", align_corners=False)[0, :, :height, :width].numpy()
        here, there, others = film.moved(current, current - gap)
        still = np.ones((height, width), bool)
        for left, top, right, bottom in np.concatenate((here, there, others)).clip(min=0).astype(int):
            still[top : bottom + 1, left : right + 1] = False
        beside.append(np.hypot(*found[:, still]).mean())
        missed += [np.hypot(*each) for each in _off(found, here, there)]
    return float(np.mean(missed)), float(np.mean(beside))


def _off(found: np.ndarray, here: np.ndarray, there: np.ndarray) -> Iterator[np.ndarray]:
    """Of each box that has a middle within the frame, how far its mean flow is off, x and y."""
    for box, then in zip(here, there, strict=True):
        margin = _MARGIN * (box[2:] - box[:2])
        (left, top), (right, bottom) = (np.rint(box[:2] + margin).astype(int), np.rint(box[2:] - margin).astype(int))
        middle = found[:, max(top, 0) : bottom, max(left, 0) : right]
        if middle.size:
            yield middle.mean((1, 2)) - (then[:2] + then[2:] - box[:2] - box[2:]) / 2


def table_of(lines: Sequence[command.Line]) -> Table:
    """Flows as rows, gaps as columns."""
    table = Table(box=None, padding=(0, 2, 0, 0), caption_justify="left")
    table.caption = "pixels that people's flow is off; in brackets: of flow where nothing moves"
    table.add_column("flow")
    for gap in dict.fromkeys(line["gap"] for line in lines):
        table.add_column(f"gap {gap}", justify="right")
    for flow in dict.fromkeys(line["flow"] for line in lines):
        mine = [line for line in lines if line["flow"] == flow]
        table.add_row(flow, *(f"{line['people_px']:.2f} ({line['beside_px']:.2f})" for line in mine))
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    options = command.parser("video.flow", __doc__)
    options.add_argument("--work", type=Path, required=True, metavar="FOLDER")
    options.add_argument("--film", type=Path, default=FILM, metavar="FILE")
    options.add_argument("--truth", type=Path, default=default_truth(), metavar="FILE")
    options.add_argument("--threads", type=command.at_least(1), default=1, metavar="N")
    command.add_json(options)
    chosen = options.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    return command.run(lambda: _train_and_test(chosen), chosen.work)


def _train_and_test(chosen: Namespace) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}"))
    with Progress(*columns, TimeRemainingColumn()) as progress:
        task = progress.add_task("steps", total=sum(STEPS), loss="")

        def show(step: TrainingStep) -> None:
            progress.update(task, completed=step.step, loss=f"loss {step.loss:.4f}")

        network = trained_flow(chosen.work, chosen.film, chosen.truth, on_step=show)
        marked = read_mot(chosen.truth)
        film = TrackedFilm(list(read_images(chosen.film, TEST)), [marked.frame(index) for index in TEST])
    flows = {"none": NoFlow(), "dis": DisFlow(), "flownet": FlowNetFlow(network)}
    lines = [
        {"flow": name, "gap": gap, "people_px": round(missed, 3), "beside_px": round(beside, 3)}
        for name, flow in flows.items()
        for gap in GAPS
        for missed, beside in [misses(flow, film, gap)]
    ]
    command.tell(lines, chosen.json, table_of, width=120)


if __name__ == "__main__":
    sys.exit(main())
