"""How does a network of flow learn, whatever from? By Adam, a rate that falls along half a cosine, and checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from bale.errors import VideoError
from bale.train.randomness import own_randomness
from bale.train.resumable import Resumable, TrainingStep, telling
from bale.video.flow.flownet import FlowNetS


def learn(
    network: FlowNetS,
    loss_of: Callable[[int], Tensor],
    facts: Mapping[str, Any],
    *,
    steps: int,
    seed: int,
    lr: float,
    on_step: Callable[[TrainingStep], None] | None,
    save: str | PathLike[str] | None,
    save_every: int,
    longest_gradient: float = inf,
) -> float:
    """Do all steps; return their mean loss.

    loss_of           of a step, counted from 0: what `network` learns from
    facts             beside the numbers here, what must be the same for a run to go on from the folder `save`
    longest_gradient  that of all parameters together is cut to

    Raises VideoError for a loss that is not finite; CheckpointError for a folder that cannot be written, or whose
    checkpoint is damaged or of another run.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    run = Resumable(
        model=network,
        optimizer=optimizer,
        told=telling(on_step, steps),
        folder=None if save is None else Path(save),
        facts={"steps": steps, "lr": lr, "seed": seed, **facts},
        device=next(network.parameters()).device,
        schedule=CosineAnnealingLR(optimizer, T_max=max(1, steps)),
    )

    def update(step: int) -> float:
        optimizer.zero_grad()
        loss = loss_of(step)
        value = loss.item()
        if not value < inf:
            raise VideoError(f"the loss is {value} at step {step + 1}: a lower learning rate (lr) usually helps")
        loss.backward()
        if longest_gradient < inf:
            nn.utils.clip_grad_norm_(network.parameters(), longest_gradient)
        optimizer.step()
        return value

    with own_randomness(run.device, seed):  # a checkpoint restores torch's random state, not ours to change
        run.go_on()
        run.train_steps(steps, save_every, update, 1)
    return run.place.total / max(1, run.place.position)


def check_numbers(*, steps: int, seed: int, batch_size: int, save_every: int, lr: float) -> None:
    """Raise VideoError for a number that no training can have."""
    least = {"steps": (steps, 0), "seed": (seed, 0), "batch_size": (batch_size, 1), "save_every": (save_every, 1)}
    for name, (value, smallest) in least.items():
        if value < smallest:
            raise VideoError(f"{name} must be at least {smallest}, got {value}")
    if not 0 < lr < inf:
        raise VideoError(f"lr must be above 0 and finite, got {lr}")
