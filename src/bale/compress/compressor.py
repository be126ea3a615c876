"""When does a method act while a model is trained? Three verbs, those of torch.ao.pruning: prepare, step, squash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, Self

import torch
from torch import Tensor, nn

from bale.compress.api import compress_
from bale.compress.config import Config, Filter
from bale.compress.summary import Report
from bale.errors import CompressionError


class Compressor(Protocol):
    """What goes along with a training.

    prepare   before the optimizer is made: the model's parameters may be others afterwards
    penalty   what is added to the loss of each step, a scalar
    step      after each step of the optimizer
    squash    at the end of the first part of the training: the model is compressed, and says how. Train it further

    `state_dict` and `load_state_dict`: what else a training needs to continue, as tensors.
    """

    def prepare(self, model: nn.Module, filter_fn: Filter | None = None) -> Self: ...

    def penalty(self) -> Tensor: ...

    def step(self) -> None: ...

    def squash(self) -> Report: ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...


class Once:
    """The compressor of a method that acts at once, in `prepare`: what is compressed stays so while it is trained."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.report: Report | None = None

    def prepare(self, model: nn.Module, filter_fn: Filter | None = None) -> Self:
        self.report = compress_(model, self.config, filter_fn)
        return self

    def penalty(self) -> Tensor:
        return torch.zeros(())

    def step(self) -> None:
        pass

    def squash(self) -> Report:
        if self.report is None:
            raise CompressionError("squash: comes after prepare(model)")
        return self.report

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        pass


def check_state(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Raise CompressionError where a state has other keys or shapes than a compressor's own: its model is another."""
    different = sorted(own.keys() ^ given.keys())
    if different:
        raise CompressionError(
            f"{different[0]}: is in the state or in the model only; it is the state of another model"
        )
    for key, tensor in own.items():
        if given[key].shape != tensor.shape:
            raise CompressionError(
                f"{key}: is {list(given[key].shape)} in the state, and {list(tensor.shape)} in the model; it is the "
                "state of another model"
            )
