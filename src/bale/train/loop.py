"""The training loop: many steps, with checkpoints, until the config's end or Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from os import PathLike
from time import perf_counter
from typing import Any

import torch
from torch import nn

from bale.batching.api import batch
from bale.train.accuracy import accuracy
from bale.train.checkpoint import Checkpoint, Place
from bale.train.config import TrainConfig
from bale.train.interrupt import finish_first
from bale.train.meter import FitReport, Meter
from bale.train.order import mini_batches
from bale.train.rows import Sample
from bale.train.step import StepRecord, train_step


def fit(
    model: nn.Module,
    samples: Sequence[Sample],
    config: TrainConfig | None = None,
    *,
    batched: nn.Module | None = None,
    valid: Sequence[Sample] = (),
    on_step: Callable[[StepRecord], None] | None = None,
    save: str | PathLike[str] | None = None,
    resume: Checkpoint | None = None,
    facts: Mapping[str, Any] | None = None,
) -> FitReport:
    """Train `model`, written for one sample, on `samples` in mini-batches; the model is changed in place.

    Args:
        model: takes one sample, returns logits [classes], or [labels, classes] for a sample with several labels.
        samples: (sample, label) pairs; a label is the index of a class, or a tuple with one for each row of the output.
        config: how to train; `TrainConfig()` where it is not given.
        batched: `bale.batch(model)`, where the caller has one already; `config.policy` is then not looked at.
        valid: samples on which accuracy is measured after every epoch.
        on_step: called after every step.
        save: a folder for a checkpoint every `config.save_every` steps, after every epoch and at the end.
        resume: a checkpoint to continue from; the run then ends with the parameters, bit for bit, that a run without
            the stop would have had (given the same samples, config, threads and versions).
        facts: what else the checkpoints should carry.

    Ctrl-C, or a KeyboardInterrupt from `on_step`, ends training after the step that is running, with a checkpoint and
    `interrupted` in the report. A second one breaks the step off; the last checkpoint then stays.

    Raises BaleError for a loss that is not finite, CheckpointError for a checkpoint that cannot be written or is of
    another model.

    >>> from bale.data import random_functions
    >>> from bale.models import ChildSumTreeLSTM
    >>> model = ChildSumTreeLSTM(kinds=20, classes=4, hidden=8)
    >>> report = fit(model, random_functions(8, seed=0, kinds=20, classes=4), TrainConfig(steps=2, batch_size=4))
    >>> report.steps, report.samples
    (2, 8)
    """
    config = config or TrainConfig()
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
    place = Place()
    if resume is not None:
        resume.restore(model, optimizer)
        place = resume.place
        for group in optimizer.param_groups:
            group["lr"] = config.lr
    run = _Run(
        model=model,
        batched=batch(model, policy=config.load_policy(), capture="eager") if batched is None else batched,
        optimizer=optimizer,
        config=config,
        place=place,
        save=save,
        facts=facts or {},
    )
    try:
        run.train(samples, valid, on_step)
        run.checkpoint()
    except KeyboardInterrupt:
        run.interrupted = True
        if run.between_steps:
            with suppress(KeyboardInterrupt):  # an impatient second one, held back until the checkpoint was whole
                run.checkpoint()
    return run.meter.report(run.place.step, run.place.epoch, run.place.best, run.interrupted)


@dataclass
class _Run:
    """What changes while `fit` runs."""

    model: nn.Module
    batched: nn.Module
    optimizer: torch.optim.Optimizer
    config: TrainConfig
    place: Place
    save: str | PathLike[str] | None
    facts: Mapping[str, Any]
    meter: Meter = field(default_factory=Meter)
    start: float = field(default_factory=perf_counter)
    saved: Place | None = None  # the place of the last checkpoint
    between_steps: bool = True  # else parameters, random state and place may not belong together
    interrupted: bool = False

    def train(
        self, samples: Sequence[Sample], valid: Sequence[Sample], on_step: Callable[[StepRecord], None] | None
    ) -> None:
        self.batched.train()
        while samples and not self.at_end():
            place = self.place
            for indices in mini_batches(
                len(samples), self.config.batch_size, self.config.seed, place.epoch, place.position
            ):
                record = self.step([samples[index] for index in indices])
                if on_step is not None:
                    on_step(record)
                if self.at_end():
                    break
                if record.step % self.config.save_every == 0:
                    self.checkpoint()
            if self.place.position >= len(samples):
                self.end_epoch(valid)

    def step(self, samples: Sequence[Sample]) -> StepRecord:
        with finish_first():
            self.between_steps = False
            record = train_step(self.batched, self.optimizer, samples, self.place.step + 1, self.place.epoch)
            self.place = replace(self.place, step=record.step, position=self.place.position + len(samples))
            self.meter.add(record)
            self.between_steps = True
        return record

    def end_epoch(self, valid: Sequence[Sample]) -> None:
        # Measured before the place moves on: a run that is stopped in here measures again when it is resumed.
        right = accuracy(self.batched, valid, self.config.batch_size)
        self.meter.set_valid(self.place.epoch, right)
        best = max((value for value in (right, self.place.best) if value is not None), default=None)
        self.place = Place(self.place.step, self.place.epoch + 1, 0, best)
        self.checkpoint()

    def at_end(self) -> bool:
        config, place = self.config, self.place
        return (
            (config.steps is not None and place.step >= config.steps)
            or (config.last_epoch is not None and place.epoch >= config.last_epoch)
            or (config.minutes is not None and perf_counter() - self.start >= 60 * config.minutes)
        )

    def checkpoint(self) -> None:
        if self.save is None or self.saved == self.place:
            return
        with finish_first():
            Checkpoint.of(self.model, self.optimizer, self.place, self.config, self.facts).save(self.save)
            self.saved = self.place
