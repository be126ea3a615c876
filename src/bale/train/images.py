"""How are networks of images trained?"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import ceil, inf
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import CosineAnnealingLR

from bale.data.images import Images
from bale.errors import BaleError
from bale.train.checkpoint import holds_checkpoint
from bale.train.files import prepare_folder
from bale.train.image_answers import answers, check_numbers
from bale.train.image_checkpoint import (
    ImageCheckpoint,
    ImagePlace,
    Stateful,
    load_image_checkpoint,
    refuse_all_but_tensors,
)
from bale.train.interrupt import BrokenOff, finish_first
from bale.train.order import mini_batches
from bale.train.randomness import own_randomness


@dataclass(frozen=True)
class ImageStep:
    """What one step did: `step` counts from 1 to `steps`, `epoch` from 0; `loss` is the cross-entropy before it."""

    step: int
    steps: int
    epoch: int
    loss: float


def train_images(
    model: nn.Module,
    images: Images,
    *,
    epochs: int,
    batch_size: int = 64,
    lr: float = 1e-3,
    seed: int = 0,
    on_step: Callable[[ImageStep], None] | None = None,
    penalty: Callable[[], Tensor] | None = None,
    state: Stateful | None = None,
    save: str | PathLike[str] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> list[float]:
    """Train `model` in place by Adam and cross-entropy; return the mean cross-entropy of each epoch.

    Args:
        model: takes pixels [n, channels, height, width], returns logits [n, classes].
        images: what it learns from.
        epochs: how often it sees every image.
        batch_size: images in a step; the last step of an epoch may have fewer.
        lr: the learning rate of the first step, from which it falls to 0 along half a cosine.
        seed: of the order of the images, and of what the model draws (dropout).
        on_step: called after every step.
        penalty: returns a scalar that each step adds to the cross-entropy, called after the model. The losses that
            are reported are without it.
        state: what else changes while training (by `on_step` or `penalty`), saved and restored with the run.
        save: a folder for a checkpoint, written after every epoch and at Ctrl-C. Where it holds one of the same run,
            training goes on from there; where that run was finished, its end is what the model gets, at once.
        facts: what else must be the same for a run to go on, as JSON can hold it, such as what the model started from.

    The same model, images and seed give the same parameters, bit for bit, on one machine, number of threads and
    versions, with stops or without; on a GPU, where torch adds up in any order, nearly the same. The model is
    left in eval mode, torch's random state as it was.

    Ctrl-C, or a KeyboardInterrupt from `on_step`, comes through as KeyboardInterrupt, after the step or the `on_step`
    that is running: the parameters are then those of a whole number of steps. A second Ctrl-C breaks off what is
    running; the last checkpoint then stays. A run that goes on calls `on_step` for every step that the checkpoint does
    not hold as told; one that raised KeyboardInterrupt counts as told, so it should do so after all its work.

    Raises BaleError for numbers out of range, no images, labels that the model has no logits for, a penalty that is no
    scalar, a loss that with its penalty is not finite, and a state_dict or facts that cannot be saved. Raises
    CheckpointError for a folder that cannot be written, or whose checkpoint is damaged, of another model or of a run
    with other numbers or facts; the folder then stays as it was.

    >>> from bale.data import digits
    >>> from bale.models import LeNet5
    >>> from bale.train import image_accuracy
    >>> model = LeNet5(size=16)
    >>> len(train_images(model, digits("train", size=16).take(64), epochs=2))
    2
    >>> 0 <= image_accuracy(model, digits("test", size=16)) <= 1
    True
    """
    check_numbers(images, epochs=epochs, batch_size=batch_size)
    if seed < 0:
        raise BaleError(f"seed must be at least 0, got {seed}")
    if not 0 < lr < inf:
        raise BaleError(f"lr must be above 0 and finite, got {lr}")
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    steps = epochs * ceil(len(images) / batch_size)
    run = _Run(
        model=model,
        images=images,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        on_step=on_step,
        penalty=penalty,
        state=state,
        folder=None if save is None else Path(save),
        facts=_with_others(
            {
                "epochs": int(epochs),
                "batch_size": int(batch_size),
                "lr": float(lr),
                "seed": int(seed),
                "images": len(images),
                "data": images.name,
                "device": device.type,
                "penalty": penalty is not None,
                "state": state is not None,
            },
            facts or {},
        ),
        device=device,
        steps=steps,
        optimizer=optimizer,
        schedule=CosineAnnealingLR(optimizer, T_max=steps),
        largest=int(images.labels.max()),
    )
    try:
        with own_randomness(device, seed):
            run.go_on()
            run.train()
    finally:
        model.eval()
    return list(run.place.losses)


@dataclass
class _Run:
    """What `train_images` was asked for, and below `device` what it makes of that."""

    model: nn.Module
    images: Images
    epochs: int
    batch_size: int
    seed: int
    on_step: Callable[[ImageStep], None] | None
    penalty: Callable[[], Tensor] | None
    state: Stateful | None
    folder: Path | None
    facts: dict[str, Any]
    device: torch.device
    steps: int
    optimizer: torch.optim.Optimizer
    schedule: CosineAnnealingLR
    largest: int  # of the labels
    place: ImagePlace = field(default_factory=ImagePlace)
    saved: ImagePlace | None = None  # the place of the last checkpoint
    whole: bool = True  # else parameters, random state and place may not belong together

    def go_on(self) -> None:
        """Go to the place of the folder's checkpoint; without one, see whether the folder can hold one."""
        if self.folder is None:
            return
        refuse_all_but_tensors(self.model, self.state)
        if not holds_checkpoint(self.folder):
            prepare_folder(self.folder)
            return
        checkpoint = load_image_checkpoint(self.folder)
        checkpoint.check(self.folder, self.model, self.facts)
        checkpoint.restore(self.folder, self.model, self.optimizer, self.state, self.device)
        self.schedule.last_epoch = checkpoint.place.step  # each rate is made from the one before, which Adam keeps
        self.place = self.saved = checkpoint.place

    def train(self) -> None:
        self.model.train()
        try:
            self.tell()  # of a step that Ctrl-C came in
            while self.place.epoch < self.epochs:
                self.epoch()
                self.checkpoint()
        except BrokenOff:
            raise
        except KeyboardInterrupt:
            if self.whole:
                with suppress(KeyboardInterrupt):  # an impatient second one, held back until the checkpoint was whole
                    self.checkpoint()
            raise

    def epoch(self) -> None:
        place = self.place
        for rows in mini_batches(len(self.images), self.batch_size, self.seed, place.epoch, place.position):
            self.step(rows)
            self.tell()
        self.place = self.place.after_epoch()

    def step(self, rows: list[int]) -> None:
        with finish_first():
            self.whole = False
            loss = self.update(self.images[rows])
            self.schedule.step()
            self.place = self.place.after_step(loss, len(rows))
            self.whole = True

    def update(self, images: Images) -> float:
        """Return the cross-entropy before the update; raises BaleError before it for a loss that is not finite."""
        self.optimizer.zero_grad()
        logits, labels = answers(self.model, images, self.largest)
        entropy = cross_entropy(logits, labels)
        loss = entropy if self.penalty is None else _with_penalty(entropy, self.penalty())
        value = loss.item()
        if not abs(value) < inf:
            step = self.place.step + 1
            raise BaleError(f"the loss is {value} at step {step}: a lower learning rate (lr) usually helps")
        loss.backward()
        self.optimizer.step()
        return value if loss is entropy else entropy.item()

    def tell(self) -> None:
        """Call `on_step` for the last step, unless that was done before the checkpoint."""
        loss = self.place.untold
        if loss is None:
            return
        with finish_first():
            self.place = replace(self.place, untold=None)  # first: if it raises KeyboardInterrupt itself, it is done
            if self.on_step is not None:
                self.on_step(ImageStep(self.place.step, self.steps, self.place.epoch, loss))

    def checkpoint(self) -> None:
        if self.folder is None or self.saved == self.place:
            return
        with finish_first():
            checkpoint = ImageCheckpoint.of(self.model, self.optimizer, self.state, self.device, self.place, self.facts)
            checkpoint.save(self.folder)
            self.saved = self.place


def _with_others(own: dict[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """A run's own facts and the caller's, as they come back from a checkpoint, where a tuple is a list."""
    for name in own.keys() & facts.keys():
        raise BaleError(f"facts: {name} is one of the run's own; choose another name")
    try:
        return own | json.loads(json.dumps(dict(facts), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise BaleError(f"facts: {error}; expected what JSON can hold") from error


def _with_penalty(entropy: Tensor, penalty: Tensor) -> Tensor:
    if penalty.dim() != 0:
        raise BaleError(f"a penalty is one number, a tensor of no axes; got {list(penalty.shape)}: sum it up")
    return entropy + penalty
