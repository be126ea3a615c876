"""How is a detector of centre points trained on pictures and boxes?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import cos, inf, pi
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bale.errors import VideoError
from bale.train.resumable import Resumable, TrainingStep, telling
from bale.video.detectors.augment import Augmentation, crop
from bale.video.detectors.centre_point import CentrePointDetector, centre_loss, targets
from bale.video.detectors.sprites import TinyDetector, sprite_film

_LONGEST_GRADIENT = 10.0  # of all parameters together; the first steps of a fresh head are beyond it
_WARM_UP = 0.05  # share of the steps in which the rate rises from 0
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class FineTuning:
    """How a detector is trained.

    steps          updates of the weights
    batch_size     crops in a step
    rate           highest learning rate of AdamW; it rises first, then falls to 0 along half a cosine
    backbone_rate  share of it for pretrained layers
    frozen         how many of the first pretrained parts stay as they are: they know edges, and cost the most
    decay          AdamW's weight decay
    seed           of the crops
    """

    steps: int = 600
    batch_size: int = 4
    rate: float = 1e-3
    backbone_rate: float = 0.2
    frozen: int = 4
    decay: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch_size", 1), ("frozen", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise VideoError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 < self.rate < inf:
            raise VideoError(f"rate must be above 0 and finite, got {self.rate}")
        for name in ("backbone_rate", "decay"):
            if not 0 <= getattr(self, name) < inf:
                raise VideoError(f"{name} must be at least 0 and finite, got {getattr(self, name)}")

    def share(self, step: int) -> float:
        """The share of the highest rate with which `step`, from 0, is done."""
        rising = max(1, round(_WARM_UP * self.steps))
        if step < rising:
            return (step + 1) / rising
        return (1 + cos(pi * (step - rising) / max(1, self.steps - rising))) / 2


def fine_tune(
    detector: CentrePointDetector,
    images: Sequence[np.ndarray],
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    how: FineTuning | None = None,
    augmentation: Augmentation | None = None,
    *,
    on_step: Callable[[TrainingStep], None] | None = None,
    save: str | PathLike[str] | None = None,
    save_every: int = 50,
    data: str = "",
) -> None:
    """Train `detector` in place on crops of pictures; on the CPU.

    Args:
        detector: of any state; batch normalisation keeps its statistics (of a few crops they would be noise).
        images: uint8 [height, width, 3], red, green, blue; a sequence may read them when asked.
        boxes: float [objects, 4] for each picture: left, top, right, bottom, in pixels.
        labels: int [objects] for each.
        how: steps, rates and seed; by default `FineTuning()`.
        augmentation: of the crops, whose size must be a multiple of the detector's; by default `Augmentation()`.
        on_step: called after every step.
        save: a folder for a checkpoint, written every `save_every` steps, at the end and at Ctrl-C. Where it holds
            one of the same run, training goes on from there, whatever the detector's weights are by then.
        save_every: steps.
        data: what the pictures are, for the checkpoint to tell runs apart.

    The same detector, data and settings give the same weights, bit for bit, on one machine, number of threads and
    versions, with stops or without: crops depend on the seed and the step alone. Ctrl-C comes through as
    KeyboardInterrupt once a step is whole and the checkpoint written.

    Raises VideoError for numbers out of range, boxes and labels that do not fit the pictures, and a loss that is not
    finite; CheckpointError for a folder that cannot be written or whose checkpoint is damaged or of another run.
    """
    how, augmentation = how or FineTuning(), augmentation or Augmentation()
    if save_every < 1:
        raise VideoError(f"save_every must be at least 1, got {save_every}")
    if augmentation.size % detector.multiple:
        raise VideoError(
            f"size of the crops is {augmentation.size}; this detector needs a multiple of {detector.multiple}"
        )
    check_truth(len(images), boxes, labels, len(detector.names))
    groups = _groups(detector, how)
    optimizer = torch.optim.AdamW(groups, lr=how.rate, weight_decay=how.decay)

    run = Resumable(
        model=detector,
        optimizer=optimizer,
        told=telling(on_step, how.steps),
        folder=None if save is None else Path(save),
        facts={
            **asdict(how),
            **{f"crop {name}": value for name, value in asdict(augmentation).items()},
            "crop zoom": list(augmentation.zoom),
            "images": len(images),
            "data": data,
            "detector": type(detector).__name__,
        },
        device=_CPU,
    )

    def update(step: int) -> float:
        random = np.random.default_rng((how.seed, step))
        chosen = [
            crop(images[index], boxes[index], labels[index], augmentation, random)
            for index in random.integers(len(images), size=how.batch_size).tolist()
        ]
        for group in optimizer.param_groups:
            group["lr"] = how.rate * group["share"] * how.share(step)
        return _update(detector, optimizer, chosen, step)

    detector.eval()
    try:
        for group in groups:
            for parameter in group["params"]:
                parameter.requires_grad_(True)
        run.go_on()
        run.train_steps(how.steps, save_every, update, how.batch_size)
    finally:
        detector.zero_grad()
        detector.requires_grad_(False)


def _update(
    detector: CentrePointDetector,
    optimizer: torch.optim.Optimizer,
    crops: Sequence[tuple[Tensor, Tensor, Tensor]],
    step: int,
) -> float:
    """Learn from crops, and return the loss before it; raises VideoError for one that is not finite."""
    images, boxes, labels = zip(*crops, strict=True)
    optimizer.zero_grad()
    maps = detector(torch.stack(images))
    shape = (maps.heat.shape[-2], maps.heat.shape[-1])
    loss = centre_loss(maps, targets(list(boxes), list(labels), len(detector.names), detector.stride, shape))
    value = loss.item()
    if not abs(value) < inf:
        raise VideoError(f"the loss is {value} at step {step + 1}: a lower rate usually helps")
    loss.backward()
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    nn.utils.clip_grad_norm_(trained, _LONGEST_GRADIENT)
    optimizer.step()
    return value


def check_truth(images: int, boxes: Sequence[Tensor], labels: Sequence[Tensor], classes: int) -> None:
    """Raise VideoError, which names the picture, where boxes and labels are not those of so many pictures."""
    if not images or not images == len(boxes) == len(labels):
        raise VideoError(
            f"expected at least one picture, and boxes and labels for each; got {images} pictures, boxes of "
            f"{len(boxes)} and labels of {len(labels)}"
        )
    for index, (its_boxes, its_labels) in enumerate(zip(boxes, labels, strict=True)):
        if its_boxes.dim() != 2 or its_boxes.shape[1] != 4 or its_labels.shape != its_boxes.shape[:1]:
            raise VideoError(
                f"picture {index}: boxes {list(its_boxes.shape)} and labels {list(its_labels.shape)}; expected "
                "[objects, 4] and [objects]"
            )
        if len(its_labels) and not 0 <= int(its_labels.min()) <= int(its_labels.max()) < classes:
            raise VideoError(f"picture {index}: labels {its_labels.tolist()}; there are {classes} classes, from 0")
        if not bool(torch.isfinite(its_boxes).all() and (its_boxes[:, 2:] > its_boxes[:, :2]).all()):
            raise VideoError(f"picture {index}: a box has no area; expected left, top, right, bottom")


def _groups(detector: CentrePointDetector, how: FineTuning) -> list[dict[str, Any]]:
    """The parameters to train, fresh ones first, each with the share of the rate that is its own."""
    parts: Callable[[], list[nn.Module]] = getattr(detector, "backbone_parts", list)
    pretrained = [list(part.parameters()) for part in parts()]
    known = {id(parameter) for part in pretrained for parameter in part}
    fresh = [parameter for parameter in detector.parameters() if id(parameter) not in known]
    gentle = [parameter for part in pretrained[how.frozen :] for parameter in part] if how.backbone_rate else []
    groups = [{"params": fresh, "share": 1.0}, {"params": gentle, "share": how.backbone_rate}]
    return [group for group in groups if group["params"]]


def train_detector(
    *,
    stride: int = 8,
    steps: int = 600,
    films: int = 80,
    seed: int = 0,
    on_step: Callable[[TrainingStep], None] | None = None,
) -> TinyDetector:
    """Return a `TinyDetector` that has learnt from films of sprites, from nothing, in seconds.

    Args:
        stride: of its feature map, 4 or 8.
        steps: updates of its weights, on four pictures each.
        films: from how many films it learns, of four frames each; of frames alone it would know one background.
        seed: of the weights, the films and their order.
        on_step: called after every step.
    """
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        detector = TinyDetector(stride=stride)
    # Every film has seeds of its own; held-out films take others by beginning elsewhere than at seed x 2**20.
    shown = [sprite_film(4, seed=(seed << 20) + film, speed=8.0) for film in range(films)]
    fine_tune(
        detector,
        [image for film in shown for image in film.images],
        [torch.from_numpy(boxes) for film in shown for boxes in film.boxes],
        [torch.from_numpy(labels) for film in shown for labels in film.labels],
        FineTuning(steps=steps, batch_size=4, rate=8e-3, seed=seed),
        Augmentation(size=96, zoom=(1.0, 1.2), light=0.1, colour=0.02),
        on_step=on_step,
    )
    return detector
