"""How does a training run read, to a person and to a program?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bale import __version__
from bale.train import Comparison, FitReport, RunReport, Sample, Task
from bale.train.rows import labels_of

FORMAT = 1


def training_dict(report: RunReport) -> dict[str, Any]:
    """Return the report as JSON can hold it: accuracies from 0 to 1, times in seconds, what was not measured null."""
    trained = report.fit
    return {
        "format": FORMAT,
        "bale": __version__,
        "torch": torch.__version__,
        "threads": report.threads,
        "interrupted": report.interrupted,
        "task": {
            "data": report.task.config.data_name,
            "model": report.task.model,
            "hidden": report.task.config.hidden,
            "limit": report.task.config.limit,
            "parameters": report.parameters,
            "classes": len(report.task.classes),
            "train": len(report.task.train),
            "valid": len(report.task.valid),
            "test": len(report.task.test),
        },
        "config": report.config.to_dict(),
        "step": trained.step,
        "epoch": trained.epoch,
        "steps": trained.steps,
        "samples": trained.samples,
        "rows": trained.rows,
        "epochs": [asdict(record) for record in trained.epochs],
        "accuracy": {
            "test": report.test,
            "test_majority": report.test_majority,
            "test_named": report.named,
            "test_named_majority": report.named_majority,
            "best_valid": trained.best,
            "valid_majority": report.valid_majority,
        },
        "samples_per_second": trained.samples_per_second,
        "per_step": {
            "nodes": _per_step(trained, trained.nodes),
            "batches": _per_step(trained, trained.batches),
            "bound": _per_step(trained, trained.bound),
        },
        "seconds": {**trained.seconds, "wall": trained.wall},
        "comparison": None if report.comparison is None else asdict(report.comparison),
    }


def training_table(report: RunReport) -> RenderableType:
    """Return the report for a rich console."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    for name, value in _facts(report):
        facts.add_row(name, Text(value))
    return Group(facts, Text(), _stages(report.fit)) if report.fit.steps else facts


def _facts(report: RunReport) -> list[tuple[str, str]]:
    task, trained = report.task, report.fit
    rows = [
        ("task", f"{task.config.data_name}: {len(task.train):,} training samples, {len(task.classes)} classes"),
        ("model", f"{task.model}, hidden {task.config.hidden}, {report.parameters:,} parameters"),
        ("trained", _trained(report)),
        ("accuracy", _accuracy(report)),
    ]
    if not trained.steps:
        return rows
    nodes, batches, bound = (count / trained.steps for count in (trained.nodes, trained.batches, trained.bound))
    threads = f"{report.threads} thread{'s' if report.threads > 1 else ''}"
    rows += [
        ("speed", f"{trained.samples_per_second:,.0f} samples/s in training, {threads}"),
        ("batches", f"{batches:,.1f} a step for {nodes:,.0f} nodes; at least {bound:,.1f} are needed"),
    ]
    if report.comparison is not None:
        rows.append(("speed-up", _comparison(report.comparison)))
    return rows


def _trained(report: RunReport) -> str:
    trained = report.fit
    before = trained.step - trained.steps
    text = f"{trained.steps:,} steps, {trained.samples:,} samples in {trained.wall:,.1f} s"
    if before:
        text += f", after {before:,} steps of an earlier run"
    if trained.epochs:
        text += f"; loss {trained.epochs[0].loss:.3f}"
        text += f" -> {trained.epochs[-1].loss:.3f}" if len(trained.epochs) > 1 else ""
    return text + ("; interrupted" if report.interrupted else "")


def _accuracy(report: RunReport) -> str:
    task = report.task
    rest = "" if task.rest is None else task.classes[task.rest]
    named = sum(label != task.rest for label in labels_of(task.test))
    parts = []
    for value, majority, samples in (
        (report.test, report.test_majority, _rows(task, task.test, "test")),
        (report.named, report.named_majority, f"the {named:,} of them that are not `{rest}`, that answer ruled out"),
        (report.fit.best, report.valid_majority, f"{_rows(task, task.valid, 'validation')}, the best epoch"),
    ):
        if value is not None and majority is not None:
            parts.append(f"{value:.1%} on {samples} (the commonest class alone {majority:.1%})")
    return "\n".join(parts) or "not measured"


def _rows(task: Task, samples: Sequence[Sample], split: str) -> str:
    """What accuracy is a share of: samples, or what there are several of in one."""
    text = f"{len(samples):,} {split} samples"
    return text if task.row is None else f"the {sum(1 for _ in labels_of(samples)):,} {task.row} of {text}"


def _comparison(comparison: Comparison) -> str:
    return (
        f"{comparison.speedup:.1f} times the per-sample loop "
        f"({comparison.slowest:.1f} to {comparison.fastest:.1f} on {comparison.mini_batches} mini-batches, "
        f"{1e3 * comparison.batched_seconds:,.0f} ms against {1e3 * comparison.per_sample_seconds:,.0f} ms, "
        f"forward and backward; losses differ by at most {comparison.difference:.0e})"
    )


def _stages(trained: FitReport) -> Table:
    table = Table("stage", title="time of a step", title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("ms", justify="right")
    table.add_column("share", justify="right")
    between = trained.wall - sum(trained.seconds.values())
    for stage, seconds in [*trained.seconds.items(), ("the rest", between), ("step", trained.wall)]:
        table.add_row(stage, f"{1e3 * seconds / trained.steps:.1f}", f"{seconds / trained.wall:.0%}")
    return table


def _per_step(trained: FitReport, count: int) -> float | None:
    return count / trained.steps if trained.steps else None
