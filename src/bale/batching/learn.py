"""learn_policy: from samples of a model to a batching policy for it. Forwards are traced, nothing is computed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from bale.batching.api import Batched, as_samples, batch
from bale.batching.engine import graph_of
from bale.batching.schedule import Encoding, Policy
from bale.batching.schedule.learn import learn
from bale.batching.schedule.qlearning import OnEpisode, QLearning
from bale.errors import BaleError, PolicyError


def learn_policy(
    model: nn.Module,
    samples: Iterable[Any],
    *,
    episodes: int = 1000,
    encoding: str | Encoding = "share",
    batch_size: int | None = None,
    backward: bool | None = None,
    bootstrap: bool = True,
    seed: int = 0,
    on_episode: OnEpisode = lambda episode, batches: None,
    **kwargs: Any,
) -> Policy:
    """Learn which type of call to run next, from the graphs of some samples (ED-Batch, ICML 2023, section 2.3).

    Use the result as `bale.batch(model, policy=...)`, or let it compete with all other policies as
    `bale.batch(model, policy=bale.Portfolio((policy,)))`; keep it with `policy.save(path)`, `bale.Policy.load(path)`.

    episodes    the most runs that are learned from, each way; learning stops earlier near the lower bound
    encoding    what the policy sees of the frontier: base, max, sort, or share (see `bale.Encoding`)
    batch_size  samples in a mini-batch; several mini-batches are learned on in turn. None makes one of all samples.
                A policy holds best for mini-batches about as large as those; with share, also for others
    backward    plan the reversed graph; None learns both ways and keeps the better
    bootstrap   value the state at the end of the horizon; False is what ED-Batch's public code does
    on_episode  called with the number of episodes and the fewest batches so far, or None before the first count
    kwargs      go to every forward of the model

    Equal arguments give equal policies. Raises PolicyError where there is nothing to learn from, BaleError for
    arguments that are not among these, and what the forwards raise.
    """
    batched = model if isinstance(model, Batched) else batch(model)
    encodings = {str(known): known for known in Encoding}
    if str(encoding) not in encodings:
        raise BaleError(f"encoding={encoding!r} is unknown; known are {', '.join(encodings)}")
    given = as_samples(samples, batched.settings.star)
    if not given:
        raise PolicyError("a policy is learned from samples, and there are none")
    size = len(given) if batch_size is None else batch_size
    if size < 1:
        raise BaleError(f"batch_size must be at least 1, got {batch_size}")
    with torch.random.fork_rng(devices=[]):  # forwards may draw numbers of their own
        graphs = [
            graph_of(batched.inner, given[low : low + size], kwargs, batched.settings, batched.registry)
            for low in range(0, len(given), size)
        ]
    learning = QLearning(episodes=episodes, bootstrap=bootstrap)
    return learn(graphs, encodings[str(encoding)], learning, backward=backward, seed=seed, on_episode=on_episode)
