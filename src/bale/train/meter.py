"""What did a training run do and cost? A meter adds the steps up; a frozen report says the sums."""

from __future__ import annotations

from dataclasses import dataclass, field

from bale.train.step import STAGES, StepRecord


@dataclass(frozen=True)
class EpochRecord:
    """One epoch, or the part of it that this run trained: means over its samples; `valid` where it was measured."""

    epoch: int
    samples: int
    loss: float
    accuracy: float
    valid: float | None = None


@dataclass(frozen=True)
class FitReport:
    """A run of `fit`. Counts and seconds are of this run alone; `step` and `epoch` count from the first run.

    seconds      per stage (`bale.train.STAGES`), summed over the steps
    wall         seconds in steps, with what lies between the stages
    epochs       one record per epoch, oldest first
    best         the best accuracy on the validation samples so far, an earlier run's included
    interrupted  Ctrl-C ended the run
    """

    step: int
    epoch: int
    steps: int
    samples: int
    nodes: int
    batches: int
    bound: int
    seconds: dict[str, float]
    wall: float
    epochs: tuple[EpochRecord, ...]
    best: float | None
    interrupted: bool

    @property
    def samples_per_second(self) -> float | None:
        """Samples per second of training, evaluation left out; None before the first step."""
        return self.samples / self.wall if self.wall else None


@dataclass
class Meter:
    """Adds up the steps of a run."""

    steps: int = 0
    samples: int = 0
    nodes: int = 0
    batches: int = 0
    bound: int = 0
    wall: float = 0.0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    epochs: list[EpochRecord] = field(default_factory=list)

    def add(self, record: StepRecord) -> None:
        """Count one step."""
        self.steps += 1
        self.samples += record.samples
        self.nodes += record.nodes
        self.batches += record.batches
        self.bound += record.bound
        self.wall += record.wall
        for stage, seconds in record.seconds.items():
            self.seconds[stage] += seconds
        self._add_to_epoch(record)

    def _add_to_epoch(self, record: StepRecord) -> None:
        loss_sum, correct, samples = record.loss * record.samples, record.correct, record.samples
        if self.epochs and self.epochs[-1].epoch == record.epoch:
            last = self.epochs.pop()
            loss_sum += last.loss * last.samples
            correct += last.accuracy * last.samples
            samples += last.samples
        self.epochs.append(EpochRecord(record.epoch, samples, loss_sum / samples, correct / samples))

    def set_valid(self, epoch: int, valid: float | None) -> None:
        """Note the accuracy on the validation samples after `epoch`, if this run trained any of it."""
        if self.epochs and self.epochs[-1].epoch == epoch:
            last = self.epochs[-1]
            self.epochs[-1] = EpochRecord(last.epoch, last.samples, last.loss, last.accuracy, valid)

    def report(self, step: int, epoch: int, best: float | None, interrupted: bool) -> FitReport:
        """Return the sums so far."""
        return FitReport(
            step=step,
            epoch=epoch,
            steps=self.steps,
            samples=self.samples,
            nodes=self.nodes,
            batches=self.batches,
            bound=self.bound,
            seconds=dict(self.seconds),
            wall=self.wall,
            epochs=tuple(self.epochs),
            best=best,
            interrupted=interrupted,
        )
