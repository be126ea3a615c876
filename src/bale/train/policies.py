"""Which policy fits a task? One is learned on its training samples; all are compared on samples that were held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from bale.batching.api import batch
from bale.batching.engine import graph_of
from bale.batching.graph import Graph
from bale.batching.learn import learn_policy
from bale.batching.schedule import Policy
from bale.batching.schedule.qlearning import OnEpisode
from bale.errors import DataError
from bale.train.config import PolicyConfig, TaskConfig
from bale.train.order import mini_batches
from bale.train.rows import Sample
from bale.train.task import Task


def learn_for_task(task: Task, config: PolicyConfig, on_episode: OnEpisode = lambda episode, batches: None) -> Policy:
    """Learn a policy for the task's model on its first mini-batches of training samples; see `bale.learn_policy`.

    The policy's `learned` also says on what: "task" (data, model, hidden, limit) and "batch_size". torch's random state
    stays as it was.
    """
    with torch.random.fork_rng(devices=[]):
        policy = learn_policy(
            task.make_model(),
            [sample for some in _mini_batches(task.train, config) for sample in some],
            episodes=config.episodes,
            encoding=config.encoding,
            batch_size=config.batch_size,
            bootstrap=config.bootstrap,
            seed=config.seed,
            on_episode=on_episode,
        )
    facts = {
        "data": task.config.data_name,
        "model": task.model,
        "hidden": task.config.hidden,
        "limit": task.config.limit,
    }
    return replace(policy, learned={**policy.learned, "task": facts, "batch_size": config.batch_size})


def task_of(policy: Policy) -> TaskConfig | None:
    """The task that `learn_for_task` learned a policy for; None where the policy does not say."""
    try:
        return TaskConfig(**policy.learned["task"])
    except (KeyError, TypeError):
        return None


def held_out_graphs(task: Task, config: PolicyConfig) -> list[Graph]:
    """The graphs of the first mini-batches of samples that were held out: for validation, or else for testing.

    Nothing is computed. Raises DataError where nothing is held out.
    """
    held_out = task.valid or task.test
    if not held_out:
        raise DataError(f"{task.config.data_name}: no sample is held out, for validation or testing: read more of them")
    with torch.random.fork_rng(devices=[]):
        batched = batch(task.make_model())
        return [
            graph_of(batched.inner, some, {}, batched.settings, batched.registry)
            for some in _mini_batches(held_out, config)
        ]


def _mini_batches(samples: Sequence[Sample], config: PolicyConfig) -> list[list[Any]]:
    """The samples, without their labels, of the first mini-batches of an epoch, as few as there are."""
    order = mini_batches(len(samples), config.batch_size, config.seed, epoch=0)
    return [
        [samples[index][0] for index in indices] for _, indices in zip(range(config.mini_batches), order, strict=False)
    ]
