"""What is to be learnt? Samples in three splits, and how a model for them is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from bale.errors import CheckpointError
from bale.train.config import TaskConfig
from bale.train.rows import Sample


@dataclass(frozen=True)
class Task:
    """Samples in three splits, what their numbers mean, and how a model for them is made.

    `vocabulary` names the numbers that a model reads (kinds of nodes, words, characters), as far as the data say,
    `classes` the labels; `rest` is the label, if there is one, of whatever has no class of its own; `row` is what a
    label belongs to, where a sample has several: "characters", "words".
    """

    config: TaskConfig
    model: str
    train: Sequence[Sample] = field(repr=False)
    valid: Sequence[Sample] = field(repr=False)
    test: Sequence[Sample] = field(repr=False)
    vocabulary: tuple[str, ...] = field(repr=False)
    classes: tuple[str, ...] = field(repr=False)
    make_model: Callable[[], nn.Module] = field(repr=False)
    rest: int | None = None
    row: str | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What a checkpoint keeps of the task: enough to load it again, and to see that it is the same."""
        return {
            "data": self.config.data_name,
            "model": self.model,
            "hidden": self.config.hidden,
            "limit": self.config.limit,
            "train_samples": len(self.train),
            "classes": list(self.classes),
            "vocabulary": list(self.vocabulary),
        }

    def check_facts(self, facts: dict[str, Any]) -> None:
        """Raise CheckpointError where `facts`, from a checkpoint, are of another task; only the path may differ."""
        for name, mine in self.facts.items():
            if name in ("data", "limit") or facts.get(name) == mine:
                continue
            its = facts.get(name)
            if isinstance(mine, list):
                raise CheckpointError(
                    f"the checkpoint was trained on other data: its {name} ({len(its or ())} entries) is not that of "
                    f"{self.config.data_name} ({len(mine)} entries)"
                )
            raise CheckpointError(f"the checkpoint has {name.replace('_', ' ')} {its}, not {mine}")
