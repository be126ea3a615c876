"""What did a training run do and cost? A meter adds the steps up; a frozen report says the sums."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bale.train.step import STAGES, StepRecord


@dataclass(frozen=True)
class EpochRecord:
    """One epoch, or the part of it that this run trained: means over its rows; `valid` where it was measured.

    A sample has one row, or one for each of its labels.
    """

    epoch: int
    samples: int
    rows: int
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
    rows: int
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
    rows: int = 0
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
        self.rows += record.rows
        self.nodes += record.nodes
        self.batches += record.batches
        self.bound += record.bound
        self.wall += record.wall
        for stage, seconds in record.seconds.items():
            self.seconds[stage] += seconds
        self._add_to_epoch(record)

    def _add_to_epoch(self, record: StepRecord) -> None:
        loss_sum, correct, samples, rows = record.loss * record.rows, record.correct, record.samples, record.rows
        if self.epochs and self.epochs[-1].epoch == record.epoch:
            last = self.epochs.pop()
            loss_sum += last.loss * last.rows
            correct += last.accuracy * last.rows
            samples += last.samples
            rows += last.rows
        self.epochs.append(EpochRecord(record.epoch, samples, rows, loss_sum / rows, correct / rows))

    def set_valid(self, epoch: int, valid: float | None) -> None:
        """Note the accuracy on the validation samples after `epoch`, if this run trained any of it."""
        if self.epochs and self.epochs[-1].epoch == epoch:
            self.epochs[-1] = replace(self.epochs[-1], valid=valid)

    def report(self, step: int, epoch: int, best: float | None, interrupted: bool) -> FitReport:
        """Return the sums so far."""
        return FitReport(
            step=step,
            epoch=epoch,
            steps=self.steps,
            samples=self.samples,
            rows=self.rows,
            nodes=self.nodes,
            batches=self.batches,
            bound=self.bound,
            seconds=dict(self.seconds),
            wall=self.wall,
            epochs=tuple(self.epochs),
            best=best,
            interrupted=interrupted,
        )
