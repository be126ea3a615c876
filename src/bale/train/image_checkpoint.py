"""What must be kept so that training on images goes on as if it had never stopped?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from bale import __version__
from bale.errors import BaleError, CheckpointError
from bale.train.checkpoint import INDEX, MODEL, OPTIMIZER, holds_checkpoint
from bale.train.files import prepare_folder, read_file, read_index, write_together
from bale.train.randomness import random_state, set_random_state
from bale.train.tensor_bytes import flatten, from_bytes, to_bytes, unflatten

STATE, RANDOM = "state.safetensors", "random.safetensors"
FORMAT = "images 1"  # under the index's name of `bale.train.checkpoint`, so that neither writes into the other's folder


class Stateful(Protocol):
    """What else changes while a network is trained, such as the Z, U and rho of ADMM."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that changes, as tensors under names; they may share memory with what goes on changing."""
        ...

    def load_state_dict(self, state: dict[str, Tensor], /) -> Any:
        """Take over what `state_dict` returned, now on the CPU; raise a BaleError or one of torch's if unfit."""
        ...


@dataclass(frozen=True)
class ImagePlace:
    """How far a run has come.

    step      steps done
    epoch     whole epochs done
    position  images of the present epoch done
    total     the sum of their losses
    losses    the mean loss of each whole epoch
    untold    the loss of the last step, where `on_step` has not been called for it yet
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    total: float = 0.0
    losses: tuple[float, ...] = ()
    untold: float | None = None

    def after_step(self, loss: float, images: int) -> ImagePlace:
        """The place after one more step, of so many images."""
        return replace(
            self,
            step=self.step + 1,
            position=self.position + images,
            total=self.total + loss * images,
            untold=loss,
        )

    def after_epoch(self) -> ImagePlace:
        """The place at the start of the next epoch."""
        return ImagePlace(self.step, self.epoch + 1, losses=(*self.losses, self.total / self.position))


@dataclass(frozen=True)
class ImageCheckpoint:
    """A run at rest: tensors in memory, and what they belong to.

    place       how far the run has come
    facts       what must be the same for the run to go on: numbers and names, as JSON can hold them
    parameters  the names of the model's parameters, in the optimizer's order
    model       the model's state_dict
    optimizer   the optimizer's
    state       that of the caller's `Stateful`; empty without one
    random      the state of torch's generators, as `random_state` returns it

    On disk, a folder: each state_dict and the random state are a .safetensors file, `checkpoint.json` is all the rest.
    """

    place: ImagePlace
    facts: dict[str, Any]
    parameters: list[str] = field(repr=False)
    model: dict[str, Tensor] = field(repr=False)
    optimizer: dict[str, Any] = field(repr=False)
    state: dict[str, Tensor] = field(repr=False)
    random: dict[str, Tensor] = field(repr=False)

    @classmethod
    def of(
        cls,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        state: Stateful | None,
        device: torch.device,
        place: ImagePlace,
        facts: Mapping[str, Any],
    ) -> ImageCheckpoint:
        """Take a checkpoint of a run between two steps; it shares memory with the run."""
        return cls(
            place=place,
            facts=dict(facts),
            parameters=[name for name, _ in model.named_parameters()],
            model=model.state_dict(),
            optimizer=optimizer.state_dict(),
            state={} if state is None else state.state_dict(),
            random=random_state(device),
        )

    def save(self, folder: Path) -> None:
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
            "total": self.place.total,
            "losses": self.place.losses,
            "untold": self.place.untold,
            "facts": self.facts,
            "parameters": self.parameters,
            "optimizer": {"scalars": scalars, "param_groups": self.optimizer["param_groups"]},
        }
        contents = {MODEL: self.model, OPTIMIZER: tensors, STATE: self.state, RANDOM: self.random}
        prepare_folder(folder)
        write_together(folder, INDEX, index, {name: to_bytes(tensors) for name, tensors in contents.items()})

    def check(self, folder: Path, model: nn.Module, facts: Mapping[str, Any]) -> None:
        """Raise CheckpointError, which says what differs, where this is of another model or another run."""
        differing = [
            f"{name} {self.facts.get(name)!r} there, {facts.get(name)!r} here"
            for name in {**facts, **self.facts}
            if self.facts.get(name) != facts.get(name)
        ]
        if differing:
            raise CheckpointError(f"{folder}: is of another run: {'; '.join(differing)}; use another folder")
        difference = _difference(self.model, model.state_dict())
        if difference is None and self.parameters != [name for name, _ in model.named_parameters()]:
            difference = "its parameters are in another order, or share memory in another way"
        if difference is not None:
            raise CheckpointError(f"{folder}: is of another model: {difference}; use another folder")

    def restore(
        self,
        folder: Path,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        state: Stateful | None,
        device: torch.device,
    ) -> None:
        """Set the model, the optimizer, the state and torch's generators; raises CheckpointError where they differ."""
        try:
            model.load_state_dict(self.model)
            optimizer.load_state_dict(self.optimizer)
            if state is not None:
                state.load_state_dict(self.state)
        except (RuntimeError, ValueError, KeyError, BaleError) as error:
            problem = " ".join(str(error).split())
            raise CheckpointError(
                f"{folder}: is of another model, optimizer or state: {problem}; use another folder"
            ) from error
        set_random_state(device, self.random)


def load_image_checkpoint(folder: Path) -> ImageCheckpoint:
    """Read what `ImageCheckpoint.save` wrote; raises CheckpointError where it is missing, damaged or something else."""
    index = _read_index(folder)
    try:
        contents = {name: from_bytes(read_file(folder, index, name)) for name in (MODEL, OPTIMIZER, STATE, RANDOM)}
        optimizer = index["optimizer"]
        return ImageCheckpoint(
            place=ImagePlace(
                step=index["step"],
                epoch=index["epoch"],
                position=index["position"],
                total=index["total"],
                losses=tuple(index["losses"]),
                untold=index["untold"],
            ),
            facts=dict(index["facts"]),
            parameters=index["parameters"],
            model=contents[MODEL],
            optimizer={
                "state": unflatten(contents[OPTIMIZER], optimizer["scalars"]),
                "param_groups": optimizer["param_groups"],
            },
            state=contents[STATE],
            random=contents[RANDOM],
        )
    except (KeyError, TypeError, ValueError, AttributeError, SafetensorError) as error:
        raise CheckpointError(f"{folder / INDEX}: is damaged ({error!r}); use another folder") from error


def refuse_all_but_tensors(model: nn.Module, state: Stateful | None) -> None:
    """Raise BaleError where a state_dict has something that a checkpoint cannot hold: known now, not an epoch later."""
    for owner, values in ("model", model.state_dict()), ("state", {} if state is None else state.state_dict()):
        for name, value in values.items():
            if not isinstance(value, Tensor):
                raise BaleError(
                    f"the state_dict of the {owner} has {name}, a {type(value).__name__}; a checkpoint holds tensors "
                    "only: make it one, or train without save"
                )


def steps_done(folder: str | PathLike[str]) -> int:
    """Return how many steps the run has done whose checkpoint is in `folder`; 0 where there is none.

    For a bar that begins where the run will go on; reads no tensors. Raises CheckpointError for a checkpoint that is
    damaged, or is no `train_images`'.
    """
    path = Path(folder)
    if not holds_checkpoint(path):
        return 0
    step = _read_index(path).get("step")
    if not isinstance(step, int):
        raise CheckpointError(f"{path / INDEX}: is damaged: it names no step; use another folder")
    return step


def _read_index(folder: Path) -> dict[str, Any]:
    index = read_index(folder, INDEX)
    if index.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder / INDEX}: is of format {index.get('format')}; training on images by this bale ({__version__}) "
            f"reads and writes {FORMAT!r}; use another folder"
        )
    return index


def _difference(saved: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str | None:
    """Say what the first difference between two models' tensors is."""
    for name in {**own, **saved}:
        if name not in saved:
            return f"it has no {name}"
        if name not in own:
            return f"it has {name}, the model has not"
        there, here = (f"{list(tensor.shape)} {tensor.dtype}" for tensor in (saved[name], own[name]))
        if there != here:
            return f"{name} is {there} there, {here} here"
    return None
