"""What must be kept so that a run continues as if it had never stopped?"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from bale import __version__
from bale.errors import BaleError, CheckpointError
from bale.train.config import TrainConfig
from bale.train.files import prepare_folder, read_file, read_index, write_together
from bale.train.tensor_bytes import flatten, from_bytes, to_bytes, unflatten

INDEX, MODEL, OPTIMIZER = "checkpoint.json", "model.safetensors", "optimizer.safetensors"
FORMAT = 1


@dataclass(frozen=True)
class Place:
    """How far a run has come: steps done, whole epochs done, samples of the present epoch done, best accuracy."""

    step: int = 0
    epoch: int = 0
    position: int = 0
    best: float | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A run at rest: tensors in memory, and what they belong to. `facts` are the caller's own, as JSON can hold them.

    On disk, a folder: `model.safetensors` (the model's state_dict), `optimizer.safetensors` (the optimizer's tensors)
    and `checkpoint.json` (all the rest).
    """

    place: Place
    config: TrainConfig
    facts: dict[str, Any]
    model: dict[str, Tensor] = field(repr=False)
    optimizer: dict[str, Any] = field(repr=False)
    rng: Tensor = field(repr=False)

    @classmethod
    def of(
        cls,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        place: Place,
        config: TrainConfig,
        facts: Mapping[str, Any],
    ) -> Checkpoint:
        """Take a checkpoint of a run between two steps; it shares memory with the run."""
        return cls(place, config, dict(facts), model.state_dict(), optimizer.state_dict(), torch.get_rng_state())

    def save(self, folder: str | PathLike[str]) -> None:
        """Write the folder, whole or not at all: an interrupt leaves the checkpoint that was there.

        Raises CheckpointError where it cannot be written.
        """
        tensors, scalars = flatten(self.optimizer["state"])
        index = {
            "format": FORMAT,
            "bale": __version__,
            "torch": torch.__version__,
            "step": self.place.step,
            "epoch": self.place.epoch,
            "position": self.place.position,
            "best_accuracy": self.place.best,
            "config": self.config.to_dict(),
            "facts": self.facts,
            "optimizer": {"scalars": scalars, "param_groups": self.optimizer["param_groups"]},
            "rng": base64.b64encode(self.rng.numpy().tobytes()).decode(),
        }
        prepare_folder(Path(folder))
        write_together(Path(folder), INDEX, index, {MODEL: to_bytes(self.model), OPTIMIZER: to_bytes(tensors)})

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Set the model, the optimizer and torch's random state; raises CheckpointError for another model."""
        try:
            model.load_state_dict(self.model)
            optimizer.load_state_dict(self.optimizer)
        except (RuntimeError, ValueError, KeyError) as error:
            problem = " ".join(str(error).split())
            raise CheckpointError(f"the checkpoint is of another model or optimizer: {problem}") from error
        torch.set_rng_state(self.rng)


def holds_checkpoint(folder: str | PathLike[str]) -> bool:
    """Say whether there is a checkpoint in `folder`, sound or not."""
    return (Path(folder) / INDEX).exists()


def load_checkpoint(folder: str | PathLike[str]) -> Checkpoint:
    """Read what `Checkpoint.save` wrote; raises CheckpointError where it is missing, damaged or of another format."""
    path = Path(folder)
    index = read_index(path, INDEX)
    if index.get("format") != FORMAT:
        raise CheckpointError(
            f"{path / INDEX}: is of format {index.get('format')}, this bale ({__version__}) reads {FORMAT}"
        )
    try:
        tensors = from_bytes(read_file(path, index, OPTIMIZER))
        scalars = index["optimizer"]["scalars"]
        state = {"state": unflatten(tensors, scalars), "param_groups": index["optimizer"]["param_groups"]}
        return Checkpoint(
            place=Place(index["step"], index["epoch"], index["position"], index["best_accuracy"]),
            config=TrainConfig.from_dict(index["config"]),
            facts=index["facts"],
            model=from_bytes(read_file(path, index, MODEL)),
            optimizer=state,
            rng=torch.frombuffer(bytearray(base64.b64decode(index["rng"])), dtype=torch.uint8),
        )
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, SafetensorError, BaleError) as error:
        raise CheckpointError(f"{path / INDEX}: is damaged ({error!r}); use another checkpoint") from error
