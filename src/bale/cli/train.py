"""`bale train`: options in, a report out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bale.batching.schedule import POLICIES
from bale.cli.app import INTERRUPTED, command
from bale.cli.options import DATA, HIDDEN, LIMIT, MODEL, check_writable, given, option
from bale.cli.progress import TrainingProgress
from bale.errors import BaleError, CheckpointError
from bale.report import training_dict, training_table
from bale.train import Checkpoint, RunReport, TaskConfig, TrainConfig, load_checkpoint, load_task, train_task
from bale.train.checkpoint import holds_checkpoint
from bale.train.config import DEFAULT_EPOCHS
from bale.train.files import prepare_folder

_LIMITS = ("epochs", "steps", "minutes")
_TASK, _TRAIN = TaskConfig(), TrainConfig()


@command
def train(
    data: Annotated[str | None, option(DATA, "python, or what fits the model")] = None,
    model: Annotated[str | None, option(MODEL, "what fits the data")] = None,
    hidden: Annotated[int | None, option(HIDDEN, _TASK.hidden)] = None,
    limit: Annotated[int | None, option(LIMIT, "all")] = None,
    batch_size: Annotated[int | None, option("Samples in a mini-batch.", _TRAIN.batch_size)] = None,
    lr: Annotated[float | None, option("Adam's learning rate.", _TRAIN.lr)] = None,
    epochs: Annotated[int | None, option("End after so many epochs.", f"{DEFAULT_EPOCHS}, without --steps")] = None,
    steps: Annotated[int | None, typer.Option(help="End after so many steps.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="End training after so long; the result then depends on the machine.")
    ] = None,
    seed: Annotated[int | None, option("Of the first weights and the order.", _TRAIN.seed)] = None,
    policy: Annotated[
        str | None,
        option(
            f"How batches are chosen: {', '.join(POLICIES)}, or the file of a learned policy, NAME.json, which then "
            "competes with all others as in auto.",
            _TRAIN.policy,
        ),
    ] = None,
    threads: Annotated[int | None, option("torch's threads.", _TRAIN.threads)] = None,
    compare: Annotated[int, typer.Option(help="Mini-batches timed against the per-sample loop.")] = 3,
    save: Annotated[Path | None, option("Folder for checkpoints.", "the one of --resume")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on from this folder's checkpoint, with its options where none are given.")
    ] = None,
    json_to: Annotated[
        Path | None, typer.Option("--json", help="Write the report as JSON to this file, or to stdout for -.")
    ] = None,
) -> None:
    """Train a network on real input and report accuracy, speed and what each step cost.

    The report goes to stdout, progress to stderr. Ctrl-C ends the run after the present step, with a checkpoint
    (where --save is given) and the report so far, and exit code 130.
    """
    notes = Console(stderr=True)
    checkpoint = None if resume is None else load_checkpoint(resume)
    task_config, config = _configs(
        checkpoint,
        {"data": data, "model": model, "hidden": hidden, "limit": limit},
        {
            "batch_size": batch_size,
            "lr": lr,
            "epochs": epochs,
            "steps": steps,
            "minutes": minutes,
            "seed": seed,
            "policy": policy,
            "threads": threads,
        },
    )
    if compare < 0:
        raise BaleError(f"compare must be at least 0, got {compare}")
    folder = resume if save is None else save
    config.load_policy()  # a file that is missing is an error now, not after the data are read
    _check_outputs(folder, resume, json_to)
    with notes.status(f"reading {task_config.data_name}"):
        task = load_task(task_config)
    done = 0 if checkpoint is None else checkpoint.place.step
    with TrainingProgress(notes, _planned_steps(config, len(task.train)), done) as progress:
        report = train_task(
            task,
            config,
            save=folder,
            resume=checkpoint,
            compared=compare,
            on_step=progress.on_step,
            on_stage=progress.on_stage,
        )
    _print_report(report, json_to)
    if report.interrupted:
        if folder is not None and holds_checkpoint(folder):
            notes.print(f"to go on: bale train --resume {folder}", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(INTERRUPTED)


def _configs(
    checkpoint: Checkpoint | None, task_options: dict[str, Any], train_options: dict[str, Any]
) -> tuple[TaskConfig, TrainConfig]:
    """Put the options that were given over the checkpoint's, or over the defaults."""
    task, config = _TASK, _TRAIN
    if checkpoint is not None:
        try:
            task = TaskConfig(**{name: checkpoint.facts[name] for name in task_options})
        except KeyError as error:
            raise CheckpointError(f"the checkpoint names no {error}: it was not written by `bale train`") from error
        config = checkpoint.config
        if train_options["seed"] not in (None, config.seed):
            raise CheckpointError(f"the checkpoint has seed {config.seed}, not {train_options['seed']}")
    if any(train_options[name] is not None for name in _LIMITS):
        config = replace(config, **dict.fromkeys(_LIMITS))  # new limits take the place of all the old ones
    return replace(task, **given(**task_options)), replace(config, **given(**train_options))


def _check_outputs(folder: Path | None, resume: Path | None, json_to: Path | None) -> None:
    """Find out now, not after an hour of training, that results cannot be written."""
    if folder is not None:
        if folder != resume and holds_checkpoint(folder):
            raise CheckpointError(f"{folder}: holds a checkpoint already; continue it with --resume, or save elsewhere")
        prepare_folder(folder)
    if json_to is not None and str(json_to) != "-":
        check_writable(json_to, "--json expects - or a file")


def _planned_steps(config: TrainConfig, samples: int) -> int:
    """The step at which training ends, time limits left aside."""
    by_epochs = None if config.last_epoch is None else config.last_epoch * -(-samples // config.batch_size)
    return min(steps for steps in (by_epochs, config.steps) if steps is not None)


def _print_report(report: RunReport, json_to: Path | None) -> None:
    as_json = json.dumps(training_dict(report), indent=1)
    if str(json_to) == "-":
        typer.echo(as_json)
        return
    Console().print(training_table(report))
    if json_to is not None:
        json_to.write_text(as_json + "\n")
