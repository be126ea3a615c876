"""What does a network say of images, and how often is it right?"""

import torch
from torch import Tensor, nn

from bale.data.images import Images
from bale.errors import BaleError


def image_accuracy(model: nn.Module, images: Images, batch_size: int = 256) -> float:
    """Return the share of images whose label gets the largest logit, in eval mode.

    Every module of `model` is left in the mode in which it was. Raises BaleError for no images, for a batch size below
    1, and for labels that the model has no logits for.
    """
    check_numbers(images, batch_size=batch_size)
    largest = int(images.labels.max())
    modes = {module: module.training for module in model.modules()}
    model.eval()
    right = 0
    try:
        with torch.no_grad():
            for start in range(0, len(images), batch_size):
                logits, labels = answers(model, images[start : start + batch_size], largest)
                right += int((logits.argmax(-1) == labels).sum())
    finally:
        for module, training in modes.items():
            module.training = training
    return right / len(images)


def answers(model: nn.Module, images: Images, largest: int) -> tuple[Tensor, Tensor]:
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


def check_numbers(images: Images, **numbers: int) -> None:
    """Raise BaleError, with its name, for a number below 1; and for no images."""
    for name, value in numbers.items():
        if value < 1:
            raise BaleError(f"{name} must be at least 1, got {value}")
    if len(images) == 0:
        raise BaleError(f"{images.name}: has no images; expected at least one")
