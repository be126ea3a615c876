"""How does a training lose nothing when it is stopped? Weights and place change together, and are kept together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from bale.train.checkpoint import holds_checkpoint
from bale.train.files import prepare_folder
from bale.train.image_checkpoint import (
    ImageCheckpoint,
    ImagePlace,
    Stateful,
    load_image_checkpoint,
    refuse_all_but_tensors,
)
from bale.train.interrupt import BrokenOff, finish_first


@dataclass(frozen=True)
class TrainingStep:
    """What one step did: `step` counts from 1 to `steps`; `loss` is that of what it learned from, before it."""

    step: int
    steps: int
    loss: float


@dataclass(kw_only=True)
class Resumable:
    """A training at work: what changes, how far it is, and the folder of its checkpoint.

    told      called with the place after each step that is done, and its loss; once for each, whatever stops it
    folder    of the checkpoint; None keeps none
    facts     what must be the same for a run to go on
    schedule  of the learning rate, a step at a time
    state     what else changes
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    told: Callable[[ImagePlace, float], None]
    folder: Path | None
    facts: dict[str, Any]
    device: torch.device
    schedule: LRScheduler | None = None
    state: Stateful | None = None
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
        if self.schedule is not None:
            self.schedule.last_epoch = checkpoint.place.step  # each rate is made from the one before, the optimizer's
        self.place = self.saved = checkpoint.place

    def train(self, work: Callable[[], None]) -> None:
        """Do the work, which calls `step` and `checkpoint`; Ctrl-C comes through after a last checkpoint."""
        try:
            self._tell()  # of a step that Ctrl-C came in
            work()
        except BrokenOff:
            raise
        except KeyboardInterrupt:
            if self.whole:
                with suppress(KeyboardInterrupt):  # an impatient second one, held back until the checkpoint was whole
                    self.checkpoint()
            raise

    def train_steps(self, steps: int, save_every: int, update: Callable[[int], float], rows: int) -> None:
        """Do steps until there are so many, each by `update` of its number from 0, of so many rows."""

        def work() -> None:
            while self.place.step < steps:
                self.step(lambda: update(self.place.step), rows)
                if self.place.step % save_every == 0:
                    self.checkpoint()
            self.checkpoint()

        self.train(work)

    def step(self, update: Callable[[], float], rows: int) -> None:
        """Do a step, whose `update` changes the weights and returns its loss, and tell of it."""
        with finish_first():
            self.whole = False
            loss = update()
            if self.schedule is not None:
                self.schedule.step()
            self.place = self.place.after_step(loss, rows)
            self.whole = True
        self._tell()

    def checkpoint(self) -> None:
        """Write the checkpoint, where there is a folder and it is not there yet."""
        if self.folder is None or self.saved == self.place:
            return
        with finish_first():
            checkpoint = ImageCheckpoint.of(self.model, self.optimizer, self.state, self.device, self.place, self.facts)
            checkpoint.save(self.folder)
            self.saved = self.place

    def _tell(self) -> None:
        """Tell of the last step, unless that was done before the checkpoint."""
        loss = self.place.untold
        if loss is None:
            return
        with finish_first():
            self.place = replace(self.place, untold=None)  # first: if it raises KeyboardInterrupt itself, it is done
            self.told(self.place, loss)


def telling(on_step: Callable[[TrainingStep], None] | None, steps: int) -> Callable[[ImagePlace, float], None]:
    """Return what tells `on_step`, where there is one, of steps of so many."""

    def told(place: ImagePlace, loss: float) -> None:
        if on_step is not None:
            on_step(TrainingStep(place.step, steps, loss))

    return told
