"""What is a method, and which layers of a model does it meet? The base of all configs, and of those of weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import nn

from bale.compress.code import Code
from bale.compress.layers import attach_
from bale.compress.weights import Weight, detach_unchanged, layers_of, suitable_layers, weights_of
from bale.errors import CompressionError

if TYPE_CHECKING:
    from bale.compress.compressor import Compressor

# (module, its name) -> shall it be compressed?
Filter = Callable[[nn.Module, str], bool]


class UnsuitableError(Exception):
    """A weight that a method leaves as it is; the message says why, and becomes part of the report."""


@dataclass(frozen=True)
class Outcome:
    """What a method did to a model.

    changed   weights it has changed, and what it says of each
    skipped   layers and weights it has left as they are, and why
    """

    changed: dict[str, dict[str, float]]
    skipped: dict[str, str]


@dataclass(frozen=True)
class Config(ABC):
    """A method with its numbers: a frozen dataclass that goes to JSON and back."""

    method: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """Return the config as JSON can hold it."""
        return {"method": self.method, **asdict(self)}

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> Self:
        """Return the config that `to_dict` made; raises CompressionError for another method and unknown fields."""
        numbers = dict(given)
        method = numbers.pop("method", None)
        if method != cls.method:
            raise CompressionError(f"method: {method!r} is not {cls.__name__}'s, which is {cls.method!r}")
        known = [field.name for field in fields(cls)]
        unknown = [name for name in numbers if name not in known]
        if unknown:
            raise CompressionError(f"{cls.method}.{unknown[0]}: no such field; there are {', '.join(known)}")
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in numbers.items()})

    def compressor(self) -> Compressor:
        """What goes along with a training; see `Compressor`."""
        from bale.compress.compressor import Once  # it compresses by `apply_`

        return Once(self)

    @abstractmethod
    def apply_(self, model: nn.Module, filter_fn: Filter | None) -> Outcome:
        """Compress the model in place."""

    def check(self, holds: bool, field: str, problem: str) -> None:
        """Raise CompressionError, which names the field, unless what it needs holds."""
        if not holds:
            raise CompressionError(f"{self.method}.{field}: {problem}")

    def check_numbers(self, whole: bool, *names: str) -> None:
        """Raise CompressionError, which names the field, for what is no number, or no whole one."""
        for name in names:
            value = getattr(self, name)
            fits = isinstance(value, int) or (isinstance(value, float) and not whole)
            what = "a whole number" if whole else "a number"
            self.check(fits and not isinstance(value, bool), name, f"must be {what}, got {value!r}")


@dataclass(frozen=True)
class WeightConfig(Config):
    """A method that stores weights in another way, one by one."""

    keeps_ends: ClassVar[bool] = False  # does it leave the first and the last layer as they are, unless told otherwise?

    @abstractmethod
    def encode(self, code: Code, weight: Weight) -> dict[str, float]:
        """Change the code of a weight, and say what there is to say of it; raises UnsuitableError to leave it."""

    @torch.no_grad()
    def apply_(self, model: nn.Module, filter_fn: Filter | None) -> Outcome:
        suitable, skipped = suitable_layers(model)
        ends = _ends([name for name, _ in layers_of(model)]) if self.keeps_ends and filter_fn is None else {}
        chosen: dict[str, nn.Module] = {}
        for name, layer in suitable.items():
            if name in ends:
                skipped[name] = f"is the {ends[name]} layer; a filter_fn can choose it"
            elif filter_fn is not None and not filter_fn(layer, name):
                skipped[name or type(layer).__name__] = "filter_fn leaves it out"
            else:
                chosen[name] = layer
        # The filter, which may raise, has met all layers as they were before any is changed.
        layers = {name: attach_(layer) for name, layer in chosen.items()}
        changed: dict[str, dict[str, float]] = {}
        try:
            for name, layer in layers.items():
                for weight in weights_of(name, layer):
                    try:
                        changed[weight.name] = self.encode(weight.code, weight)
                    except UnsuitableError as unsuitable:
                        skipped[weight.name] = str(unsuitable)
        finally:
            detach_unchanged(layers.values())
        return Outcome(changed, skipped)


def _ends(names: list[str]) -> dict[str, str]:
    """Which of a model's layers are its first and its last; of two only the last, and none of one."""
    if len(names) > 2:
        return {names[0]: "first", names[-1]: "last"}
    return {names[-1]: "last"} if len(names) == 2 else {}
