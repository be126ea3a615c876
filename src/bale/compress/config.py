"""What is a method, and which layers of a model does it meet? The base of all configs, and of those of weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, get_args, get_origin, get_type_hints

import torch
from torch import nn

from bale.compress.code import Code, UnsuitableError
from bale.compress.layers import attach_
from bale.compress.weights import Weight, detach_unchanged, layers_of, suitable_layers, weights_of
from bale.errors import CompressionError

if TYPE_CHECKING:
    from bale.compress.compressor import Compressor

# (module, its name) -> shall it be compressed?
Filter = Callable[[nn.Module, str], bool]


@dataclass(frozen=True)
class Outcome:
    """What a method did to a model.

    changed   weights it has changed
    skipped   layers and weights it has left as they are, and why
    """

    changed: tuple[str, ...]
    skipped: dict[str, str]


@dataclass(frozen=True)
class Config(ABC):
    """A method with its numbers: a frozen dataclass that goes to JSON and back."""

    method: ClassVar[str]

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            if name in self.__dataclass_fields__:
                self.check(
                    _is_of(getattr(self, name), kind), name, f"must be {_named(kind)}, got {getattr(self, name)!r}"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return the config as JSON can hold it."""
        return {"method": self.method, **self.numbers()}

    def numbers(self) -> dict[str, Any]:
        """The fields by name; not what is attached and makes no other config, such as a chip's traffic."""
        return {name: getattr(self, name) for name in self._names()}

    @classmethod
    def _names(cls) -> list[str]:
        return [field.name for field in fields(cls) if field.compare]

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> Self:
        """Return the config that `to_dict` made; raises CompressionError for another method and unknown fields."""
        numbers = dict(given)
        method = numbers.pop("method", None)
        if method != cls.method:
            raise CompressionError(f"method: {method!r} is not {cls.__name__}'s, which is {cls.method!r}")
        known = cls._names()
        unknown = [name for name in numbers if name not in known]
        if unknown:
            raise CompressionError(f"{cls.method}.{unknown[0]}: no such field; there are {', '.join(known)}")
        return cls(**numbers)

    @property
    def acts_in_training(self) -> bool:
        """Has it a compressor that pulls weights while a model is trained?"""
        return False

    def compressor(self, steps: int | None = None, epochs: int | None = None) -> Compressor:
        """What goes along with a training, of so many steps and epochs where these are known; see `Compressor`."""
        from bale.compress.compressor import Once  # it compresses by `apply_`

        return Once(self)

    @classmethod
    @abstractmethod
    def ladder(cls) -> tuple[Self, ...]:
        """Settings from mild to strong, for those who know what they want to reach and not by which numbers."""

    @abstractmethod
    def apply_(self, model: nn.Module, filter_fn: Filter | None) -> Outcome:
        """Compress the model in place."""

    def facts(self, code: Code) -> dict[str, float]:
        """What the method has to say of a weight that it has changed, as it is now."""
        return {}

    def facts_of(self, name: str, code: Code) -> dict[str, float]:
        """The same, of the weight of that name."""
        return self.facts(code)

    def check(self, holds: bool, field: str, problem: str) -> None:
        """Raise CompressionError, which names the field, unless what it needs holds."""
        if not holds:
            raise CompressionError(f"{self.method}.{field}: {problem}")


@dataclass(frozen=True)
class WeightConfig(Config):
    """A method that stores weights in another way, one by one."""

    keeps_ends: ClassVar[bool] = False  # does it leave the first and the last layer as they are, unless told otherwise?

    @abstractmethod
    def encode(self, weight: Weight) -> None:
        """Change the code of a weight; raises UnsuitableError to leave it as it is."""

    def encoder(self, weights: Sequence[Weight]) -> Callable[[Weight], None]:
        """`encode` for each of these weights; a method that weighs them against one another looks at all here."""
        return self.encode

    def encoder_of(self, model: nn.Module, weights: Sequence[Weight]) -> Callable[[Weight], None]:
        """`encoder`; a method that looks at what is around the weights, too, does so here."""
        return self.encoder(weights)

    @torch.no_grad()
    def apply_(self, model: nn.Module, filter_fn: Filter | None) -> Outcome:
        chosen, skipped = self._chosen(model, filter_fn)
        layers = {name: attach_(layer) for name, layer in chosen.items()}
        changed: list[str] = []
        try:
            weights = [weight for name, layer in layers.items() for weight in weights_of(name, layer)]
            encode = self.encoder_of(model, weights) if weights else self.encode
            for weight in weights:
                try:
                    encode(weight)
                    weight.code.values.grad = None  # of what it was before
                except UnsuitableError as unsuitable:
                    skipped[weight.name] = str(unsuitable)
                else:
                    changed.append(weight.name)
        finally:
            detach_unchanged(layers.values())
        return Outcome(tuple(changed), skipped)

    def _chosen(self, model: nn.Module, filter_fn: Filter | None) -> tuple[dict[str, nn.Module], dict[str, str]]:
        """The layers to compress, and why not the others; the filter, which may raise, meets all as they were."""
        layers, skipped = suitable_layers(model)
        ends = _ends([name for name, _ in layers_of(model)]) if self.keeps_ends and filter_fn is None else {}
        for name, layer in layers.items():
            if name in ends:
                skipped[name] = f"is registered {ends[name]}; a filter_fn can choose it"
            elif filter_fn is not None and not filter_fn(layer, name):
                skipped[name or type(layer).__name__] = "filter_fn leaves it out"
        return {name: layer for name, layer in layers.items() if (name or type(layer).__name__) not in skipped}, skipped


def _ends(names: list[str]) -> dict[str, str]:
    """Which of a model's layers are its first and its last; of two only the last, and none of one."""
    if len(names) > 2:
        return {names[0]: "first", names[-1]: "last"}
    return {names[-1]: "last"} if len(names) == 2 else {}


def _is_of(value: Any, kind: Any) -> bool:
    """Is a value of the kind that a field is declared to be? A whole number is a number, too."""
    options = get_args(kind)
    if get_origin(kind) is Literal:
        return value in options
    if options:
        return any(_is_of(value, option) for option in options)
    return type(value) is kind or (kind is float and type(value) is int)


def _named(kind: Any) -> str:
    options = get_args(kind)
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, options))
    if options:
        return " or ".join(_named(option) for option in options)
    return {int: "a whole number", float: "a number", type(None): "none"}.get(kind, str(kind.__name__))
