"""How does a command come by images, and by networks whose weights mean something?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import nn

from bale.cli.progress import ImageProgress
from bale.data import Images, default_image_data, image_data
from bale.errors import BaleError
from bale.train import CLASSIFIERS, load_weights, steps_done, train_images
from bale.train.classifiers import is_own
from bale.train.weights import check_weights_file

FEW = 10_000  # of fewer images there are few steps in an epoch
EPOCHS, EPOCHS_OF_FEW = 3, 30
EPOCHS_TEXT = f"{EPOCHS}, or {EPOCHS_OF_FEW} of fewer than {FEW:,} images"
BATCH_SIZE = 64
IMAGE_DATA = "Images: fashion-mnist, digits, or idx:FOLDER with files as MNIST has them."
NETWORK = f"{', '.join(CLASSIFIERS)}, FILE.py:NAME or package.module:NAME, a module or what returns one."


@dataclass(frozen=True)
class ReadImages:
    """Images of training and of the test, and which they are, for people."""

    train: Images
    test: Images
    name: str
    text: str


@dataclass(frozen=True)
class Trained:
    """A network with its weights, and where they are from, for people and for programs."""

    name: str
    model: nn.Module
    text: str
    facts: dict[str, Any]
    random: bool


def check_at_least(least: int, **numbers: int | None) -> None:
    """Raise BaleError for a number that was given and is below `least`."""
    for name, value in numbers.items():
        if value is not None and value < least:
            raise BaleError(f"--{name.replace('_', '-')} must be at least {least}, got {value}")


def check_weights(weights: Path | None, epochs: int | None) -> None:
    """Raise BaleError, before anything is read, for weights that cannot be, or that would be trained once more."""
    if weights is None:
        return
    check_weights_file(weights)
    if epochs is not None:
        raise BaleError("--weights has what was trained, and --epochs trains; give one of them")


def read_images(data: str | None, download: bool, notes: Console) -> ReadImages:
    """Read the images that `--data` names; without it Fashion-MNIST where it is installed, else digits, and say so."""
    name = data or ("fashion-mnist" if download else default_image_data())
    with notes.status(f"reading {name}"):
        train, test = image_data(name, download)
    default = "" if data or name == "fashion-mnist" else " (Fashion-MNIST is not installed; --download fetches it)"
    if default:
        notes.print(f"data: {name}{default}", highlight=False, markup=False, soft_wrap=True)
    shape = " x ".join(map(str, train.images.shape[1:]))
    return ReadImages(train, test, name, f"{name}{default}: {shape}, {len(train.classes)} classes")


def of_amount(train: Images, of_many: int, of_few: int) -> int:
    """How many epochs make sense of so many images."""
    return of_many if len(train) >= FEW else of_few


def with_weights(
    spec: str,
    name: str,
    model: nn.Module,
    train: Images,
    weights: Path | None,
    epochs: int | None,
    seed: int,
    notes: Console,
    save: Path | None = None,
) -> Trained:
    """Load a network's weights, or train it (with checkpoints in `save`), or let it be."""
    if weights is not None:
        load_weights(model, weights)
        return Trained(name, model, f"from {weights}", {"file": str(weights)}, False)
    if epochs is None:
        epochs = of_amount(train, EPOCHS, EPOCHS_OF_FEW)
    if not epochs:
        text = f"as {name} made them" if is_own(spec) else f"random, from seed {seed}"
        return Trained(name, model, text, {"epochs": 0, "random": not is_own(spec)}, not is_own(spec))
    steps = epochs * -(-len(train) // BATCH_SIZE)
    done = 0 if save is None else steps_done(save)
    with ImageProgress(notes, f"training {name}", steps, done) as progress:
        losses = train_images(
            model, train, epochs=epochs, batch_size=BATCH_SIZE, seed=seed, on_step=progress.on_step, save=save
        )
    text = f"trained here for {epochs} epoch{'s' if epochs > 1 else ''} on {len(train):,} images, loss {losses[-1]:.3f}"
    return Trained(name, model, text, {"epochs": epochs, "losses": losses, "seed": seed}, False)
