"""What is a design worth? One candidate: compressed, trained again, laid on its chip, counted, and run there."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bale.codesign.search.budgets import Budgets, Costs
from bale.codesign.search.space import Design
from bale.compress import BlockCirculantConfig, Config, compress_, load_packed_, save_packed
from bale.data import Images
from bale.errors import BaleError, ChipError, CompressionError, DataError, MappingError
from bale.hardware import Chip, Cost, OnChip, Run, cost_on_chip, put_on_chip, run_on_chip
from bale.train import Retraining, compress_and_train

CALIBRATION = 64  # images of training, the first, as `bale simulate` has it
_VALIDATION = 1000  # images at most, and no more than a fifth of all
_REFUSED = (ChipError, CompressionError, MappingError)


@dataclass(frozen=True)
class Splits:
    """Images of training: those that the dense network is trained on, those of these that designs are trained on again,
    and those that designs are compared on, which neither sees.
    """

    dense: Images
    again: Images
    validation: Images


def split(train: Images, again: int | None = None) -> Splits:
    """Hold images out, evenly spaced (a file may be in the order of its classes), none of the first `CALIBRATION`.

    again  how many of the others designs are trained on again, evenly spaced, too; None, or more than there are: all

    Raises DataError where there are too few.
    """
    many = min(_VALIDATION, len(train) // 5)
    if many < 1 or len(train) - many <= CALIBRATION:
        raise DataError(f"{train.name}: has {len(train)} images of training; a search needs 100 at least")
    held = CALIBRATION + torch.arange(many) * (len(train) - CALIBRATION) // many
    rest = torch.ones(len(train), dtype=torch.bool)
    rest[held] = False
    dense = train[rest.nonzero().flatten()]
    few = dense if again is None or again >= len(dense) else dense[torch.arange(again) * len(dense) // again]
    return Splits(dense, few, train[held])


@dataclass(frozen=True)
class Outcome:
    """What became of a design.

    costs     of an image; before training, where it was not trained
    accuracy  on its chip, of the images held out; None: it was not trained
    drop      how much less than the dense network's in floating point that is
    refused   why it was not trained
    """

    costs: Costs | None
    accuracy: float | None = None
    drop: float | None = None
    refused: str | None = None

    @property
    def complete(self) -> bool:
        return self.accuracy is not None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> Outcome:
        costs = given["costs"]
        return cls(**{**given, "costs": None if costs is None else Costs(**costs)})


@dataclass(frozen=True, eq=False)
class Problem:
    """A trained network, images, and all else that a design's worth depends on.

    model        dense and trained, on the CPU; it stays as it is
    train        all images of training, of which the first calibrate ranges of inputs
    again        those that a design is trained on again
    validation   those that it is judged by
    accuracy     the model's, of `validation`, in floating point
    base         the chip whose structure is varied, with its law of converters
    budgets      a design that is beyond them before it is trained is not trained
    how          of each method of a stack; the seed is each stack's own
    folder       networks that were trained lie there, for other chips and for other workers
    """

    model: nn.Module
    train: Images
    again: Images
    validation: Images
    accuracy: float
    base: Chip
    budgets: Budgets
    how: Retraining
    folder: Path

    def evaluate(self, design: Design) -> Outcome:
        """Cheap things first: what the design costs as it is mapped untrained, and only within budgets the rest.

        The outcome depends on the design and the problem alone, not on who evaluates it, or on what was before.
        """
        try:
            costs = costs_of(self.cost(self.on_chip(design, self.untrained(design.methods))))
            if not self.budgets.meets(costs):
                return Outcome(costs, refused="beyond a budget before training")
            model = self.trained(design.methods)
            on_chip = self.on_chip(design, model)
            costs = costs_of(self.cost(on_chip))
            accuracy = _accuracy(run_exactly(on_chip, model, self.validation))
        except _REFUSED as error:
            return Outcome(None, refused=str(error))
        return Outcome(costs, accuracy, self.accuracy - accuracy)

    def untrained(self, methods: Sequence[Config]) -> nn.Module:
        """A copy of the model that is compressed, and not trained again."""
        model = copy.deepcopy(self.model)
        for config in methods:
            compress_(model, config)
        return model

    def trained(self, methods: Sequence[Config]) -> nn.Module:
        """The model compressed and trained again, as its packed file says it is; trained once for all chips."""
        path = self.packed(methods)
        if not path.exists():
            self._train(methods, path)
        model = copy.deepcopy(self.model)
        try:
            load_packed_(model, path)
        except CompressionError as error:  # the file is at fault, not the design
            raise BaleError(f"{error}; without this file the network is trained again") from error
        return model.eval()

    def packed(self, methods: Sequence[Config]) -> Path:
        """The file of a compressed network; its name says by which methods."""
        return self.folder / f"{_digest(methods, 0)}.bale"

    def on_chip(self, design: Design, model: nn.Module) -> OnChip:
        """The network on the design's chip, its converters of the fewest bits that lose nothing of each matrix."""
        chip = design.structure.of(self.base)
        options = {"calibration": CALIBRATION, **mapping_options(design)}
        pixels = self.train[:CALIBRATION].pixels()
        least = put_on_chip(model, chip, pixels, copy=False, **options)
        if design.room == 1:
            return least
        size = 1 if chip.share_tiles else chip.tile_crossbars
        one = sum(-(-each.crossbars // size) * size for each in least.placement.matrices.values())
        return put_on_chip(model, chip, pixels, crossbars=min(design.room * one, chip.crossbars), **options)

    def cost(self, on_chip: OnChip) -> Cost:
        """What an image costs, the first of training."""
        return cost_on_chip(on_chip, self.model, self.train[:CALIBRATION].pixels())

    def _train(self, methods: Sequence[Config], path: Path) -> None:
        how = replace(self.how, epochs=self.how.epochs * len(methods), seed=_seed(methods, self.how.seed))
        model = copy.deepcopy(self.model)
        if methods:
            compress_and_train(model, self.again, methods, how)
        # Another worker may be about to write the same network: each has a name of its own until it is whole.
        own = path.with_name(f"{path.stem}-{os.getpid()}.bale")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_packed(model, own, *methods)
            os.replace(own, path)
        except CompressionError as error:  # the disk is at fault, not the design
            raise BaleError(str(error)) from error
        except OSError as error:
            raise BaleError(f"{path}: cannot be written: {error.strerror or error}") from error


def mapping_options(design: Design) -> dict[str, Any]:
    """How a design's weights become cells, as `put_on_chip` takes it: circulant blocks are stored once."""
    blocks = [config.block for config in design.methods if isinstance(config, BlockCirculantConfig)]
    return {"adc_bits": "exact", "circulant": blocks[0] if blocks else None}


def room_options(design: Design, on_chip: OnChip) -> dict[str, Any]:
    """How much room a design has, as `put_on_chip` and `simulate` take it."""
    return {"copy": False} if design.room == 1 else {"crossbars": on_chip.placement.budget}


def costs_of(cost: Cost) -> Costs:
    """A cost in the units of budgets. What a chip has once, such as its links to others, is no tile's area."""
    once = sum(unit.area_mm2 for unit in cost.chip.all_units if unit.per == "chip")
    return Costs(
        energy=1e-6 * cost.energy.total_pj,
        area=round(cost.area_mm2 - once, 12),  # a difference of larger numbers
        latency=1e-3 * cost.latency_ns,
        crossbars=cost.crossbars,
        tiles=cost.tiles,
        adc_bits=cost.chip.adc.bits,
    )


def run_exactly(on_chip: OnChip, model: nn.Module, images: Images) -> Run:
    """Run images on a chip whose converters lose nothing: every image's outputs are those of the quantised network."""
    run = run_on_chip(on_chip, model, images.pixels(), images.labels)
    assert run.exact and run.output_error == 0, "a chip whose converters are lossless computed something else"
    return run


def _accuracy(run: Run) -> float:
    assert run.accuracy is not None  # there are labels
    return run.accuracy


def _digest(methods: Sequence[Config], seed: int) -> str:
    text = json.dumps([seed, *(config.to_dict() for config in methods)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _seed(methods: Sequence[Config], seed: int) -> int:
    """Of the methods and the search, not of the trial: whoever trains these makes the same network."""
    return int(_digest(methods, seed)[:7], 16)
