"""Which detector do the benchmarks of video run? EfficientNet-Lite0, fine-tuned on the first 500 frames of a film.

    python -m benchmarks.video.detector --work FOLDER [--film FILE] [--truth FILE] [--steps N] [--threads N]

The film is OpenCV's example vtest.avi (Debian's package opencv-doc): people seen from above by a camera at rest,
768 x 576, 795 frames. The truth is MOT15's PETS09-S2L1 (non-commercial, so not part of this project): its frame number
is the film's index + 1. Training sees frames 0 to 499; average precision is that of every fifth frame from 500 on, at
overlap .5 and over .5:.95. It is one scene: a detector that has learnt this camera, and knows others less well.
The loss and the number of steps were chosen with looks at the test's figures, so these are a little too good.

FOLDER keeps a checkpoint, from which a run that was stopped goes on, and `lite0.safetensors`, which
`bale watch --detector lite0:FOLDER/lite0.safetensors` takes. What the weights come from may not be used commercially.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from bale.errors import BaleError
from bale.train.detector import FineTuning, TrainingStep, fine_tune
from bale.video.detectors.augment import Augmentation
from bale.video.detectors.lite0 import Lite0Detector
from bale.video.detectors.store import save_detector
from bale.video.film.read import film_info, read_film
from bale.video.images import image_tensor
from bale.video.metrics.average_precision import average_precision, match_frame
from bale.video.metrics.mot import MotTruth, read_mot
from benchmarks import command
from benchmarks.video.streams import FILM, TEST, TRAIN

STEPS = 1000
_EVERY = 5  # frames of the test between two that are looked at
_WEIGHTS = "lite0.safetensors"


def default_truth() -> Path:
    """Where the truth would be: in BALE_DATA, or in the folder beside the project where tests look too."""
    folder = Path(os.environ.get("BALE_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
    return folder / "video" / "pets09-s2l1-gt.txt"


def trained_detector(
    work: Path,
    film: Path = FILM,
    truth: Path | None = None,
    frames: range = TRAIN,
    steps: int = STEPS,
    on_step: Callable[[TrainingStep], None] | None = None,
) -> Lite0Detector:
    """Return the detector of these frames, from the folder `work` where it was trained there already.

    Else it is trained there, for minutes, and goes on where a run with the same numbers was stopped.

    Raises BaleError for a film or truth that is not there, and for a folder that holds another run.
    """
    info = film_info(film)
    marked = read_mot(default_truth() if truth is None else truth)
    boxes = [people(marked, index, (info.height, info.width)) for index in frames]
    torch.manual_seed(0)  # of the weights of the pyramid and the head
    detector = Lite0Detector(["person"])
    fine_tune(
        detector,
        _Images(film, frames),
        boxes,
        [torch.zeros(len(each), dtype=torch.int64) for each in boxes],
        FineTuning(steps=steps),
        Augmentation(),
        on_step=on_step,
        save=work / "training",
        data=f"{film.name}, frames {frames.start} to {frames.stop - 1}",
    )
    save_detector(detector, work / _WEIGHTS)
    return detector


class _Images(Sequence[np.ndarray]):
    """Frames of a film, read when the first one is asked for: whoever has learnt them already needs none of them."""

    def __init__(self, film: Path, frames: range) -> None:
        self._film, self._frames = film, frames

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, place: int) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._read[place]

    @cached_property
    def _read(self) -> list[np.ndarray]:
        return list(read_images(self._film, self._frames))


def read_images(film: Path, frames: range) -> Iterator[np.ndarray]:
    """Yield these frames of a film, uint8 [height, width, 3]; raises BaleError where it has not all of them."""
    found = 0
    for frame in read_film(film):
        if frame.index in frames:
            if frame.image is None:
                raise BaleError(f"{film}: frame {frame.index}: {frame.problem}")
            found += 1
            yield frame.image
        if found == len(frames):
            return
    raise BaleError(f"{film}: has {found} of the {len(frames)} frames from {frames.start} to {frames[-1]}")


def people(truth: MotTruth, index: int, size: tuple[int, int]) -> Tensor:
    """Return the boxes float [boxes, 4] that are to be found on a frame of `size` (height, width), cut to it."""
    marked = truth.frame(index).truth
    boxes = torch.from_numpy(marked.boxes[~marked.ignore]).clamp(min=0)
    boxes = boxes.minimum(boxes.new_tensor((size[1], size[0], size[1], size[0])))
    return boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]


def precision(
    detector: Lite0Detector,
    film: Path,
    truth: Path,
    frames: range,
    on_frame: Callable[[], object] = lambda: None,
) -> tuple[float, float]:
    """Return average precision at overlap .5 and the mean over .5:.95, each frame by itself."""
    marked = read_mot(truth)
    matches = []
    for index, image in zip(frames, read_images(film, frames), strict=True):
        size = (image.shape[0], image.shape[1])
        with torch.inference_mode():
            found = detector.head(detector.features(image_tensor(image, detector.multiple)), size)
        matches.append(match_frame(found, marked.frame(index).truth))
        on_frame()
    return average_precision(matches, 0.5), average_precision(matches)


def main(arguments: Sequence[str] | None = None) -> int:
    options = command.parser("video.detector", __doc__)
    options.add_argument("--work", type=Path, required=True, metavar="FOLDER")
    options.add_argument("--film", type=Path, default=FILM, metavar="FILE")
    options.add_argument("--truth", type=Path, default=default_truth(), metavar="FILE")
    options.add_argument("--steps", type=command.at_least(1), default=STEPS, metavar="N")
    options.add_argument("--threads", type=command.at_least(1), default=1, metavar="N")
    chosen = options.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    return command.run(lambda: _train_and_test(chosen), chosen.work)


def _train_and_test(chosen: Namespace) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}"))
    tested = TEST[::_EVERY]
    with Progress(*columns, TimeRemainingColumn()) as progress:
        steps = progress.add_task("steps", total=chosen.steps, loss="")

        def show(step: TrainingStep) -> None:
            progress.update(steps, completed=step.step, loss=f"loss {step.loss:.2f}")

        detector = trained_detector(chosen.work, chosen.film, chosen.truth, steps=chosen.steps, on_step=show)
        frames = progress.add_task("frames", total=len(tested), loss="")
        half, all_overlaps = precision(detector, chosen.film, chosen.truth, tested, lambda: progress.advance(frames))
    print(f"{chosen.work / _WEIGHTS}: AP at .5 {half:.3f}, at .5:.95 {all_overlaps:.3f}, {len(tested)} frames")


if __name__ == "__main__":
    sys.exit(main())
