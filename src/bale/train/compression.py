"""How is a trained network compressed, and trained again so that it finds its accuracy back?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from bale.compress import Config, Filter, Report, compress_
from bale.compress.compressor import Compressor
from bale.compress.summary import Before, report_of
from bale.data.images import Images
from bale.errors import BaleError
from bale.train.images import ImageStep, train_images
from bale.train.tensor_bytes import short_digest


@dataclass(frozen=True)
class Retraining:
    """How a network is trained while it is compressed and afterwards.

    epochs      of all methods together: each gets an equal part, the last what is left over. A method that acts during
                training, such as ADC-aware pruning by ADMM, acts for half of its part, rounded down
    batch_size  images in a step
    lr          of Adam, in the first step of each part, from which it falls to 0 along half a cosine
    seed        of the order of images; every part has one of its own
    """

    epochs: int = 6
    batch_size: int = 64
    lr: float = 3e-3
    seed: int = 0


@dataclass(frozen=True)
class Part:
    """A part of the training: what the model is then, and for how many epochs."""

    name: str
    epochs: int
    pulled: bool  # by a compressor that acts during training


def parts_of(configs: Sequence[Config], epochs: int) -> tuple[tuple[Part, ...], ...]:
    """The parts of each method, in order, so that a progress bar can know them; a part has an epoch at least.

    >>> from bale.compress import ADCAwareConfig
    >>> [[(part.name, part.epochs) for part in parts] for parts in parts_of([ADCAwareConfig()], 6)]
    [[('adc-aware, pulled', 3), ('adc-aware', 3)]]
    """
    each, of_config = epochs // len(configs), []
    for place, config in enumerate(configs):
        mine = epochs - each * (len(configs) - 1) if place == len(configs) - 1 else each
        pull = mine // 2 if config.acts_in_training else 0
        parts = (Part(f"{config.method}, pulled", pull, True), Part(config.method, mine - pull, False))
        of_config.append(tuple(part for part in parts if part.epochs))
    return tuple(of_config)


def compress_and_train(
    model: nn.Module,
    images: Images,
    configs: Sequence[Config],
    how: Retraining | None = None,
    *,
    filter_fn: Filter | None = None,
    on_part: Callable[[int, Part], None] | None = None,
    on_step: Callable[[ImageStep], None] | None = None,
    save: str | PathLike[str] | None = None,
) -> Report:
    """Compress a trained model in place by one method after the other, and train it again after each.

    Args:
        model: takes pixels [n, channels, height, width], returns logits [n, classes].
        images: what it was trained on.
        configs: methods, in the order in which they stack.
        how: for how long, and by which steps; `Retraining()` where it is not given.
        filter_fn: which layers; see `bale.compress_`.
        on_part: called with its number, from 0, before each of `parts_of(configs, how.epochs)`.
        on_step: called after every step; its `step` begins anew in each part.
        save: a folder for checkpoints. Where it holds those of this run, of the same methods on the same model, it goes
            on where it was.

    Returns the report on the model at the end, compared with the model as it was given. The model is left in eval mode.

    Ctrl-C comes through as from `train_images`; the model is then somewhere on its way. Raises CompressionError for a
    method that fits no layer, and what `train_images` raises, such as CheckpointError for a folder of another run.
    """
    how = how or Retraining()
    if not configs:
        raise BaleError("configs: expected at least one method")
    if how.epochs < 0:
        raise BaleError(f"epochs must be at least 0, got {how.epochs}")
    before = Before.of(model)
    start = None if save is None else _digest(model)
    changed: set[str] = set()
    reasons: dict[str, list[str]] = {}
    place = 0
    for number, (config, parts) in enumerate(zip(configs, parts_of(configs, how.epochs), strict=True), 1):
        facts = {"methods": [each.to_dict() for each in configs[:number]], "model before, SHA-256": start}
        pulled = sum(part.epochs for part in parts if part.pulled)
        steps = pulled * ceil(len(images) / how.batch_size)
        compressor = config.compressor(steps, pulled).prepare(model, filter_fn) if steps else None
        report = None if compressor else compress_(model, config, filter_fn)
        for part in parts:
            if on_part is not None:
                on_part(place, part)
            _train(model, images, part, place, how, compressor if part.pulled else None, on_step, save, facts)
            place += 1
            if compressor and part.pulled:
                report = compressor.squash()
        assert report is not None
        changed |= {weight.name for weight in report.weights}
        for name, why in report.skipped.items():
            reasons.setdefault(name, []).append(f"{config.method}: {why}" if len(configs) > 1 else why)
    model.eval()
    return report_of(model, before, tuple(configs), changed, _left(model, changed, reasons))


def _left(model: nn.Module, changed: set[str], reasons: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Which layers and weights no method has changed, and why."""
    modules = dict(model.named_modules())
    # A weight has its layer's name, and its own after that where the layer has several.
    layers = {name if name in modules else name.rpartition(".")[0] for name in changed}
    return {name: "; ".join(whys) for name, whys in reasons.items() if name not in changed | layers}


def _train(
    model: nn.Module,
    images: Images,
    part: Part,
    place: int,
    how: Retraining,
    compressor: Compressor | None,
    on_step: Callable[[ImageStep], None] | None,
    save: str | PathLike[str] | None,
    facts: Mapping[str, Any],
) -> None:
    def tell(step: ImageStep) -> None:
        if compressor is not None:
            compressor.step()
        if on_step is not None:
            on_step(step)

    train_images(
        model,
        images,
        epochs=part.epochs,
        batch_size=how.batch_size,
        lr=how.lr,
        seed=how.seed + place,
        on_step=tell,
        penalty=None if compressor is None else compressor.penalty,
        state=compressor,
        save=None if save is None else part_folder(save, place),
        facts=facts,
    )


def _digest(model: nn.Module) -> str:
    """Of a model's tensors; `train_images` says of anything else in its state_dict that it cannot be saved."""
    return short_digest({name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)})


def part_folder(save: str | PathLike[str], place: int) -> Path:
    """Where a part keeps its checkpoint."""
    return Path(save) / f"part-{place + 1}"
