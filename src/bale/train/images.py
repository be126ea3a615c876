"""How are networks of images trained, and how often are they right?"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, inf

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import CosineAnnealingLR

from bale.data.images import Images
from bale.errors import BaleError
from bale.train.interrupt import finish_first
from bale.train.order import mini_batches


@dataclass(frozen=True)
class ImageStep:
    """What one step did: `step` counts from 1 to `steps`, `epoch` from 0; `loss` is that before the update."""

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
) -> list[float]:
    """Train `model` in place by Adam and cross-entropy; return the mean loss of each epoch.

    Args:
        model: takes pixels [n, channels, height, width], returns logits [n, classes].
        images: what it learns from.
        epochs: how often it sees every image.
        batch_size: images in a step; the last step of an epoch may have fewer.
        lr: the learning rate of the first step, from which it falls to 0 along half a cosine.
        seed: of the order of the images, and of what the model draws (dropout).
        on_step: called after every step.

    The same model, images and seed give the same parameters, bit for bit, on one machine and number of threads. The
    model is left in eval mode, torch's random state as it was.

    Ctrl-C, or a KeyboardInterrupt from `on_step`, comes through as KeyboardInterrupt, after the step that is running:
    the parameters are then those of a whole number of steps. A second Ctrl-C breaks the step off.

    Raises BaleError for numbers out of range, no images, labels that the model has no logits for, and a loss that is
    not finite.

    >>> from bale.data import digits
    >>> from bale.models import LeNet5
    >>> model = LeNet5(size=16)
    >>> len(train_images(model, digits("train", size=16).take(64), epochs=2))
    2
    >>> 0 <= image_accuracy(model, digits("test", size=16)) <= 1
    True
    """
    _check_numbers(images, epochs=epochs, batch_size=batch_size)
    if seed < 0:
        raise BaleError(f"seed must be at least 0, got {seed}")
    if not 0 < lr < inf:
        raise BaleError(f"lr must be above 0 and finite, got {lr}")
    steps = epochs * ceil(len(images) / batch_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = CosineAnnealingLR(optimizer, T_max=steps)
    largest = int(images.labels.max())
    losses: list[float] = []
    step = 0
    try:
        with _own_randomness(_place(model), seed):
            model.train()
            for epoch in range(epochs):
                total = 0.0
                for rows in mini_batches(len(images), batch_size, seed, epoch):
                    step += 1
                    with finish_first():
                        loss = _train_step(model, optimizer, images[rows], largest, step)
                        schedule.step()
                    total += loss * len(rows)
                    if on_step is not None:
                        on_step(ImageStep(step, steps, epoch, loss))
                losses.append(total / len(images))
    finally:
        model.eval()
    return losses


def image_accuracy(model: nn.Module, images: Images, batch_size: int = 256) -> float:
    """Return the share of images whose label gets the largest logit, in eval mode.

    Every module of `model` is left in the mode in which it was. Raises BaleError for no images, for a batch size below
    1, and for labels that the model has no logits for.
    """
    _check_numbers(images, batch_size=batch_size)
    largest = int(images.labels.max())
    modes = {module: module.training for module in model.modules()}
    model.eval()
    right = 0
    try:
        with torch.no_grad():
            for start in range(0, len(images), batch_size):
                logits, labels = _answers(model, images[start : start + batch_size], largest)
                right += int((logits.argmax(-1) == labels).sum())
    finally:
        for module, training in modes.items():
            module.training = training
    return right / len(images)


def _train_step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Images, largest: int, step: int) -> float:
    """Return the loss before the update; raises BaleError, with the parameters as they were, where it is not finite."""
    optimizer.zero_grad()
    logits, labels = _answers(model, images, largest)
    loss = cross_entropy(logits, labels)
    value = loss.item()
    if not abs(value) < inf:
        raise BaleError(f"the loss is {value} at step {step}: a lower learning rate (lr) usually helps")
    loss.backward()
    optimizer.step()
    return value


def _answers(model: nn.Module, images: Images, largest: int) -> tuple[Tensor, Tensor]:
    """Return the logits [n, classes] and the labels [n] of a mini-batch of images with labels up to `largest`."""
    parameter = next(model.parameters(), None)
    pixels = images.pixels() if parameter is None else images.pixels().to(parameter)
    logits = model(pixels)
    if logits.dim() != 2 or len(logits) != len(images):
        raise BaleError(
            f"a network of images returns logits [n, classes]; for {len(images)} images the model returned "
            f"{list(logits.shape)}"
        )
    if largest >= logits.shape[1]:
        raise BaleError(
            f"{images.name}: an image has the label {largest} ({images.classes[largest]}), and the model returns "
            f"{logits.shape[1]} logits; make it with classes={len(images.classes)}"
        )
    return logits, images.labels.to(logits.device)


def _check_numbers(images: Images, **numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise BaleError(f"{name} must be at least 1, got {value}")
    if len(images) == 0:
        raise BaleError(f"{images.name}: has no images; expected at least one")


def _place(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


@contextmanager
def _own_randomness(device: torch.device, seed: int) -> Iterator[None]:
    """Let what is drawn inside depend on `seed` alone, and what is drawn outside not on the inside."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng([device] if on_gpu else []):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach every GPU, other people's too
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
