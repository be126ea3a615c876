"""`bale policy`: learn a policy, look at it, compare it with all others."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from bale.batching.schedule import POLICIES, Encoding, Policy
from bale.batching.schedule.compare import compare_policies
from bale.batching.schedule.transitions import transitions
from bale.cli.app import app, command
from bale.cli.options import (
    DATA,
    HIDDEN,
    LIMIT,
    MODEL,
    check_json,
    check_picture,
    check_writable,
    given,
    option,
    save_picture,
    write_json,
)
from bale.cli.progress import LearningProgress
from bale.errors import BaleError
from bale.report import (
    comparison_dict,
    comparison_table,
    draw_policy,
    draw_schedule,
    policy_dict,
    policy_facts,
    policy_table,
)
from bale.train import PolicyConfig, Task, TaskConfig, held_out_graphs, learn_for_task, load_task, task_of

_TASK, _CONFIG = TaskConfig(), PolicyConfig()
_THE_FIRST = "what the first policy was learned on, or python"

policy_app = typer.Typer(
    help="Which type of call runs next: learn a policy for a network, look at it, compare it with all others.",
    no_args_is_help=True,
)
app.add_typer(policy_app, name="policy")
_command = partial(command, to=policy_app)

_BATCH_SIZE = option("Samples in a mini-batch.", _CONFIG.batch_size)


@_command
def learn(
    path: Annotated[Path, typer.Argument(help="Where the policy goes, as JSON: NAME.json.")],
    data: Annotated[str | None, option(DATA, "python, or what fits the model")] = None,
    model: Annotated[str | None, option(MODEL, "what fits the data")] = None,
    hidden: Annotated[int | None, option(f"{HIDDEN} A policy is for networks of the same.", _TASK.hidden)] = None,
    limit: Annotated[int | None, option(LIMIT, "all")] = None,
    batch_size: Annotated[int | None, _BATCH_SIZE] = None,
    mini_batches: Annotated[
        int | None, option("Mini-batches to learn on, and as many to compare on.", _CONFIG.mini_batches)
    ] = None,
    encoding: Annotated[
        str | None,
        option(f"What the policy sees of what is ready: {', '.join(map(str, Encoding))}.", _CONFIG.encoding),
    ] = None,
    episodes: Annotated[int | None, option("The most runs to learn from, each way.", _CONFIG.episodes)] = None,
    bootstrap: Annotated[
        bool, typer.Option(help="Value the state at the end of the horizon, which ED-Batch's public code does not.")
    ] = True,
    seed: Annotated[int | None, option("Of the samples' order and of what is tried.", _CONFIG.seed)] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> None:
    """Learn a policy on mini-batches of training samples, and compare it on samples that were held out.

    Nothing is trained, no number computed: the network's forwards are only traced. Use the policy with
    `bale train --policy NAME.json`, or in Python with `bale.batch(model, policy=bale.Policy.load("NAME.json"))`.
    """
    notes = Console(stderr=True)
    if path.suffix != ".json":
        raise BaleError(f"{path}: expected a name that ends in .json, by which `bale train --policy` knows a file")
    if path.exists() and not force:
        raise BaleError(f"{path}: exists already; overwrite it with --force, or choose another name")
    check_writable(path, "expected a file")
    task_config = replace(_TASK, **given(data=data, model=model, hidden=hidden, limit=limit))
    options = given(batch_size=batch_size, mini_batches=mini_batches, encoding=encoding, episodes=episodes, seed=seed)
    config = replace(_CONFIG, bootstrap=bootstrap, **options)
    task = _load(task_config, notes)
    with LearningProgress(notes, config.episodes) as progress:
        learned = learn_for_task(task, config, progress.on_episode)
    learned.save(path)
    out = Console()
    out.print(policy_facts(learned))
    out.print(Text(f"\nwritten to {path}\n"), soft_wrap=True)
    if task.valid or task.test:
        with notes.status("comparing") as status:
            comparison = compare_policies(
                held_out_graphs(task, config),
                {**POLICIES, path.name: learned},
                on_policy=lambda name: status.update(f"comparing: {name}"),
            )
        out.print(comparison_table(comparison))


@_command
def show(
    path: Annotated[Path, typer.Argument(help="A policy that `bale policy learn` has written.")],
    picture: Annotated[
        Path | None, typer.Option(help="Draw the policy, states and what follows them, to this .svg, .png or .pdf.")
    ] = None,
    schedule: Annotated[
        Path | None, typer.Option(help="Draw what the policy makes of a mini-batch to this .svg, .png or .pdf.")
    ] = None,
    data: Annotated[str | None, option(f"Follow the policy on these data. {DATA}", "those it was learned on")] = None,
    model: Annotated[str | None, option(MODEL, "the one it was learned for")] = None,
    hidden: Annotated[int | None, option(HIDDEN, "that of the policy's network")] = None,
    limit: Annotated[int | None, option(LIMIT, "as in learning")] = None,
    batch_size: Annotated[int | None, _BATCH_SIZE] = None,
    seed: Annotated[int | None, option("Of the samples' order.", _CONFIG.seed)] = None,
    every: Annotated[bool, typer.Option("--all", help="Print states that were never met, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print a learned policy's states and what runs in them, and draw it.

    How often a state was met is counted in the last run of learning; or, with --data, --model or --schedule, in a
    mini-batch of samples that were held out.
    """
    policy = Policy.load(path)
    for file in (picture, schedule):
        if file is not None:
            check_picture(file)
    config = replace(_CONFIG, mini_batches=1, **given(batch_size=batch_size, seed=seed))
    steps, graph = None, None
    if schedule is not None or data is not None or model is not None:
        if task_of(policy) is None and data is None and model is None:
            raise BaleError(f"{path}: does not say what it was learned on; name --data and --model for a mini-batch")
        notes = Console(stderr=True)
        task = _load(_task_config([policy], data=data, model=model, hidden=hidden, limit=limit), notes)
        (graph,) = held_out_graphs(task, config)
        steps = transitions(policy, [graph])
    if as_json:
        write_json(policy_dict(policy, steps), Path("-"))
    else:
        Console().print(policy_table(policy, steps, every))
    if picture is not None:
        save_picture(draw_policy(policy, steps), picture)
    if schedule is not None and graph is not None:
        save_picture(draw_schedule(graph, policy(graph)), schedule)


@_command
def compare(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Policies that `bale policy learn` has written.", show_default="none")
    ] = None,
    data: Annotated[str | None, option(DATA, _THE_FIRST)] = None,
    model: Annotated[str | None, option(MODEL, "the one that policy was learned for, or what fits the data")] = None,
    hidden: Annotated[int | None, option(HIDDEN, f"that of its network, or {_TASK.hidden}")] = None,
    limit: Annotated[int | None, option(LIMIT, "as in its learning, or all")] = None,
    batch_size: Annotated[int | None, _BATCH_SIZE] = None,
    mini_batches: Annotated[int | None, option("Mini-batches to compare on.", _CONFIG.mini_batches)] = None,
    seed: Annotated[int | None, option("Of the samples' order.", _CONFIG.seed)] = None,
    json_to: Annotated[
        Path | None, typer.Option("--json", help="Write the comparison as JSON to this file, or to stdout for -.")
    ] = None,
) -> None:
    """Compare all policies, and learned ones, by the batches that they make of samples that were held out.

    Times are those of scheduling alone, and differ from run to run.
    """
    notes = Console(stderr=True)
    policies = _load_policies(paths or [])
    check_json(json_to)
    config = replace(_CONFIG, **given(batch_size=batch_size, mini_batches=mini_batches, seed=seed))
    first = list(policies.values())[:1]
    task = _load(_task_config(first, data=data, model=model, hidden=hidden, limit=limit), notes)
    with notes.status("comparing") as status:
        comparison = compare_policies(
            held_out_graphs(task, config),
            {**POLICIES, **policies},
            on_policy=lambda name: status.update(f"comparing: {name}"),
        )
    write_json(comparison_dict(comparison, task, config), json_to)
    if str(json_to) != "-":
        Console().print(comparison_table(comparison))


def _load(config: TaskConfig, notes: Console) -> Task:
    with notes.status(f"reading {config.data_name}"):
        return load_task(config)


def _load_policies(paths: list[Path]) -> dict[str, Policy]:
    """Policies by the names of their files, or by their whole paths where names are equal."""
    names = [path.name for path in paths]
    return {
        path.name if names.count(path.name) == 1 and path.name not in POLICIES else str(path): Policy.load(path)
        for path in paths
    }


def _task_config(policies: list[Policy], **options: Any) -> TaskConfig:
    """The options that were given, over the task that the first policy was learned for, or over the defaults."""
    learned_for = next((task for policy in policies if (task := task_of(policy)) is not None), _TASK)
    if options["data"] is not None or options["model"] is not None:  # of another task the rest of it need not fit
        learned_for = replace(learned_for, data=None, model=None, limit=None)
    return replace(learned_for, **given(**options))
