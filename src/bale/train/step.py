"""One training step: what does it do, and where does its time go?"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bale.errors import BaleError
from bale.train.rows import Label, Sample, rows_of

STAGES = ("trace", "schedule", "memory", "execute", "loss", "backward", "optimizer")


@dataclass(frozen=True)
class StepRecord:
    """What one step did and cost.

    `step` counts from 1; `rows` are those of all outputs, one a sample or one for each of its labels; `loss` is the
    mean over them before the update, `correct` counts those that were right; `nodes`, `batches` and `bound` are the
    engine's (`bale.batching.Stats`); `seconds` has the `STAGES`, `wall` is the whole step, which is a little more.
    """

    step: int
    epoch: int
    samples: int
    rows: int
    loss: float
    correct: int
    nodes: int
    batches: int
    bound: int
    seconds: dict[str, float]
    wall: float


def train_step(
    batched: nn.Module, optimizer: torch.optim.Optimizer, samples: Sequence[Sample], step: int, epoch: int
) -> StepRecord:
    """Run forward, backward and the optimizer on one mini-batch.

    Raises BaleError, with the parameters as they were, where the loss is not finite.
    """
    start = perf_counter()
    optimizer.zero_grad()
    outputs = batched([tree for tree, _ in samples])
    before_loss = perf_counter()
    loss, correct, rows = classification_loss(outputs, [label for _, label in samples])
    value = loss.item()
    if not torch.isfinite(loss):
        raise BaleError(f"the loss is {value} at step {step}: a lower learning rate (--lr) usually helps")
    before_backward = perf_counter()
    loss.backward()
    before_optimizer = perf_counter()
    optimizer.step()
    end = perf_counter()
    stats: Any = batched.last
    seconds = {
        **stats.seconds,
        "loss": before_backward - before_loss,
        "backward": before_optimizer - before_backward,
        "optimizer": end - before_optimizer,
    }
    return StepRecord(
        step=step,
        epoch=epoch,
        samples=len(samples),
        rows=rows,
        loss=value,
        correct=correct,
        nodes=stats.nodes,
        batches=stats.batches,
        bound=stats.bound,
        seconds={stage: seconds[stage] for stage in STAGES},
        wall=end - start,
    )


def classification_loss(outputs: Sequence[Tensor], labels: Sequence[Label]) -> tuple[Tensor, int, int]:
    """Return the mean cross-entropy over the rows of per-sample logits, and of how many rows how many are right.

    A sample has one row, [classes], where its label is an int, else one for each label, [labels, classes]. The second
    result counts the rows whose label has the largest logit, the third all rows.
    """
    logits, target = rows_of(outputs, labels)  # [rows, classes], [rows]
    correct = int((logits.detach().argmax(-1) == target).sum())
    return cross_entropy(logits, target), correct, len(target)
