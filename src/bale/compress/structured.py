"""Which outputs of a layer matter least? Those go, and the layers are really smaller.

Two ways to tell: the L1 norm of an output's own weights (Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for
Efficient ConvNets", ICLR 2017, section 3.1), and that of the weights that read it. Both are baselines: what a method
saves is worth its trouble only where it beats a narrower network.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from bale.compress.compact import remove_outputs_
from bale.compress.config import Config, Filter, Outcome
from bale.compress.consumers import Group, find_groups
from bale.compress.weights import all_weights
from bale.errors import BaleError

By = Literal["filters", "channels"]


@dataclass(frozen=True)
class StructuredConfig(Config):
    """Remove the outputs of layers that matter least, and the inputs of the layers that read them: a smaller network.

    Linear, Conv1d and Conv2d whose outputs reach others by element-wise functions, batch norms, pools and a flatten
    (found by torch.fx, without running the model); of residual blocks the inner convolutions. The layers stay torch's
    own. Comes before other methods.

    keep  the share of each layer's outputs that stays, rounded up
    by    "filters": those whose own weights have the largest L1 norm (Li et al., ICLR 2017); "channels": those whose
          readers' weights for them have
    """

    keep: float = 0.5
    by: By = "filters"
    method: ClassVar[str] = "structured"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(0 < self.keep <= 1, "keep", f"must be above 0 and at most 1, got {self.keep}")

    @classmethod
    def ladder(cls) -> tuple[Self, ...]:
        return tuple(cls(tenths / 10) for tenths in range(9, 0, -1))

    def apply_(self, model: nn.Module, filter_fn: Filter | None) -> Outcome:
        shapes = {name: weight.shape for name, weight in all_weights(model).items()}
        chosen = filter_fn and [name for name, module in model.named_modules() if filter_fn(module, name)]
        pruned = prune_(model, self.keep, self.by, chosen)
        smaller = (name for name, weight in all_weights(model).items() if weight.shape != shapes[name])
        whole = {name: f"keeps all of its {kept.before} outputs, rounded up" for name, kept in pruned.kept.items()
                 if kept.after == kept.before}  # fmt: skip
        return Outcome(tuple(smaller), pruned.unprunable | whole)


@dataclass(frozen=True)
class Kept:
    """The outputs that a layer kept, of the `before` that it had; `indices` rise and are those of before."""

    before: int
    indices: tuple[int, ...]

    @property
    def after(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class Pruned:
    """What each pruned layer kept, by name, and why other layers could not be pruned."""

    kept: dict[str, Kept]
    unprunable: dict[str, str]


def scores(model: nn.Module, group: Group, by: By) -> Tensor:
    """How much each output of `group`'s producer matters: float64 [outputs], on the CPU; more is more.

    "filters": the L1 norm of the weights that make it, biases aside, times the |scales| of the batch norms after it
    (their mean, where the norm has several positions of an output). "channels": the L1 norm of the weights that read
    it, as a part of all of a consumer's, added over the consumers.

    Raises `BaleError` for weights that are NaN or infinite.
    """
    result = _of_filters(model, group) if by == "filters" else _of_channels(model, group)
    if not bool(torch.isfinite(result).all()):
        raise BaleError(
            f"{group.producer}: its weights, or those around it, are NaN or infinite; nothing says what to keep"
        )
    return result


def prune_(model: nn.Module, keep: float, by: By = "filters", chosen: Collection[str] | None = None) -> Pruned:
    """Let every layer that can keep the `keep` of its outputs with the largest scores, rounded up, in place.

    Args:
        keep: a part of the outputs, above 0 and up to 1. Of equal scores the lower index stays.
        by: see `scores`, all of which are computed before anything is removed.
        chosen: names of the layers to prune; None: all. Others keep their outputs, but may lose inputs.

    Optimizers must be made afterwards: parameters are new. Raises `BaleError` for a `keep` out of its range, a name
    that the model has not, numbers that are NaN, and a model that torch.fx cannot trace; nothing is changed then.
    """
    if not 0 < keep <= 1:
        raise BaleError(f"keep: must be above 0 and at most 1, got {keep}")
    if by not in ("filters", "channels"):
        raise BaleError(f"by: must be 'filters' or 'channels', got {by!r}")
    structure = find_groups(model)
    names = {name for name, _ in model.named_modules()}
    for name in chosen or ():
        if name not in names:
            raise BaleError(f"chosen: the model has no module {name!r}")
    groups = {name: group for name, group in structure.groups.items() if chosen is None or name in chosen}
    unprunable = {name: why for name, why in structure.unprunable.items() if chosen is None or name in chosen}
    kept = {name: _largest(scores(model, group, by), keep) for name, group in groups.items()}
    for name, group in groups.items():
        if kept[name].after == kept[name].before:
            continue
        remove_outputs_(model, group, torch.tensor(kept[name].indices))
    return Pruned(kept, unprunable)


def _largest(of_outputs: Tensor, keep: float) -> Kept:
    outputs = len(of_outputs)
    # Rounded first: .07 of 100 outputs is 7.000000000000001 in floats.
    count = max(1, math.ceil(round(keep * outputs, 9)))
    order = torch.sort(of_outputs, descending=True, stable=True).indices
    return Kept(outputs, tuple(sorted(order[:count].tolist())))


def _of_filters(model: nn.Module, group: Group) -> Tensor:
    result = _numbers(model.get_submodule(group.producer)).abs().flatten(1).sum(1)
    for name in group.followers:
        follower = model.get_submodule(name)
        if isinstance(follower, nn.BatchNorm1d | nn.BatchNorm2d) and follower.affine:
            result = result * _numbers(follower).abs().reshape(len(result), -1).mean(1)
    return result


def _of_channels(model: nn.Module, group: Group) -> Tensor:
    outputs = len(_numbers(model.get_submodule(group.producer)))
    result = torch.zeros(outputs, dtype=torch.float64)
    for consumer in group.consumers:
        weight = _numbers(model.get_submodule(consumer.name)).abs()
        of_inputs = weight.transpose(0, 1).reshape(outputs, -1).sum(1)  # an output's columns are consecutive
        total = of_inputs.sum()
        result += of_inputs / total if total != 0 else of_inputs
    return result


def _numbers(module: nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.detach().cpu().double()
