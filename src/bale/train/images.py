"""How are networks of images trained?"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from bale.train.image_answers import answers, check_numbers
from bale.train.image_checkpoint import ImagePlace, Stateful
from bale.train.order import mini_batches
from bale.train.randomness import own_randomness
from bale.train.resumable import Resumable


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

    def told(place: ImagePlace, loss: float) -> None:
        if on_step is not None:
            on_step(ImageStep(place.step, steps, place.epoch, loss))

    run = Resumable(
        model=model,
        optimizer=optimizer,
        told=told,
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
        schedule=CosineAnnealingLR(optimizer, T_max=steps),
        state=state,
    )
    largest = int(images.labels.max())

    def work() -> None:
        while run.place.epoch < epochs:
            for rows in mini_batches(len(images), batch_size, seed, run.place.epoch, run.place.position):
                run.step(lambda rows=rows: _update(run, images[rows], largest, penalty), len(rows))
            run.place = run.place.after_epoch()
            run.checkpoint()

    try:
        with own_randomness(device, seed):
            run.go_on()
            model.train()
            run.train(work)
    finally:
        model.eval()
    return list(run.place.losses)


def _update(run: Resumable, images: Images, largest: int, penalty: Callable[[], Tensor] | None) -> float:
    """Return the cross-entropy before the update; raises BaleError before it for a loss that is not finite."""
    run.optimizer.zero_grad()
    logits, labels = answers(run.model, images, largest)
    entropy = cross_entropy(logits, labels)
    loss = entropy if penalty is None else _with_penalty(entropy, penalty())
    value = loss.item()
    if not abs(value) < inf:
        step = run.place.step + 1
        raise BaleError(f"the loss is {value} at step {step}: a lower learning rate (lr) usually helps")
    loss.backward()
    run.optimizer.step()
    return value if loss is entropy else entropy.item()


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
