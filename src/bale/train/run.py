"""A whole run: train on a task, measure on samples that were held out, and compare with the per-sample loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike

import torch
from torch import nn

from bale.batching.api import batch
from bale.train.accuracy import accuracy_and_named, majority_accuracy
from bale.train.checkpoint import Checkpoint
from bale.train.compare import Comparison, compare
from bale.train.config import TrainConfig
from bale.train.loop import fit
from bale.train.meter import FitReport
from bale.train.order import mini_batches
from bale.train.rows import Sample
from bale.train.step import StepRecord
from bale.train.task import Task

Notice = Callable[[str], None]


@dataclass(frozen=True)
class RunReport:
    """What a run learnt and cost. What an interrupt left unmeasured is None.

    test_majority, valid_majority  the accuracy of always answering the training samples' commonest label
    named, named_majority          both on what in the test samples is not of the task's class `rest`, if it has one
    comparison                     against the per-sample loop
    """

    task: Task
    config: TrainConfig
    parameters: int
    threads: int
    fit: FitReport
    test: float | None
    test_majority: float | None
    valid_majority: float | None
    named: float | None
    named_majority: float | None
    comparison: Comparison | None
    interrupted: bool


def train_task(
    task: Task,
    config: TrainConfig,
    *,
    save: str | PathLike[str] | None = None,
    resume: Checkpoint | None = None,
    compared: int = 3,
    on_step: Callable[[StepRecord], None] | None = None,
    on_stage: Notice = lambda text: None,
) -> RunReport:
    """Train a new model on `task` (or go on from `resume`), measure test accuracy, time `compared` mini-batches.

    Sets torch's random state and number of threads. `on_stage` hears what comes next.
    Ctrl-C ends the run early; the report then says `interrupted`. Raises CheckpointError for a checkpoint of another
    task, and what `fit` raises.
    """
    if resume is not None:
        task.check_facts(resume.facts)
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    model = task.make_model()
    batched = batch(model, policy=config.load_policy(), capture="eager")
    trained = fit(
        model,
        task.train,
        config,
        batched=batched,
        valid=task.valid,
        on_step=on_step,
        save=save,
        resume=resume,
        facts=task.facts,
    )
    test, named, comparison, interrupted = None, None, None, trained.interrupted
    try:
        if not interrupted:
            on_stage("measuring test accuracy")
            test, named = accuracy_and_named(batched, task.test, config.batch_size, task.rest)
            on_stage("comparing with the per-sample loop")
            comparison = compare(model, batched, _first_mini_batches(task, config, compared))
    except KeyboardInterrupt:
        interrupted = True
    return RunReport(
        task=task,
        config=config,
        parameters=_count_parameters(model),
        threads=torch.get_num_threads(),
        fit=trained,
        test=test,
        test_majority=majority_accuracy(task.train, task.test),
        valid_majority=majority_accuracy(task.train, task.valid),
        named=named,
        named_majority=None if task.rest is None else majority_accuracy(task.train, task.test, task.rest),
        comparison=comparison,
        interrupted=interrupted,
    )


def _first_mini_batches(task: Task, config: TrainConfig, count: int) -> list[list[Sample]]:
    batches = mini_batches(len(task.train), config.batch_size, config.seed, epoch=0)
    return [[task.train[index] for index in indices] for _, indices in zip(range(count), batches, strict=False)]


def _count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
