"""Random numbers lifted out of cells: drawn once per type, in trace order, before the first batch.

So dropout is independent per node, reproducible under `torch.manual_seed`, and does not depend on the schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

# op -> (distribution, how many leading arguments are shape or destination)
_LIKE = {
    aten.bernoulli_.float: "bernoulli",
    aten.bernoulli.p: "bernoulli",
    aten.native_dropout.default: "dropout",
    aten.uniform_.default: "uniform",
    aten.normal_.default: "normal",
    aten.exponential_.default: "exponential",
    aten.rand_like.default: "rand",
    aten.randn_like.default: "randn",
}
_SIZED = {aten.rand.default: "rand", aten.randn.default: "randn"}
_IN_PLACE = (aten.bernoulli_.float, aten.uniform_.default, aten.normal_.default, aten.exponential_.default)


@dataclass(frozen=True)
class Draw:
    """One random tensor of one row: its distribution, parameters, shape, dtype and device."""

    distribution: str
    parameters: tuple[float, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    def __call__(self, rows: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """[rows, *shape] independent draws."""
        out = torch.empty(rows, *self.shape, dtype=self.dtype, device=self.device)
        if self.distribution in ("bernoulli", "dropout"):
            return out.bernoulli_(*self.parameters, generator=generator)
        if self.distribution in ("uniform", "rand"):
            return out.uniform_(*self.parameters, generator=generator)
        if self.distribution in ("normal", "randn"):
            return out.normal_(*self.parameters, generator=generator)
        return out.exponential_(*self.parameters, generator=generator)


def is_random(func: Any) -> bool:
    return torch.Tag.nondeterministic_seeded in func.tags


def draw_of(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Draw | None:
    """The Draw that a random op makes, or None where its numbers depend on values and cannot be lifted."""
    if func in _SIZED:
        dtype = kwargs.get("dtype") or torch.get_default_dtype()
        device = torch.device(kwargs.get("device") or "cpu")
        return Draw(_SIZED[func], (), tuple(args[0]), dtype, device)
    if func not in _LIKE:
        return None
    like, distribution = args[0], _LIKE[func]
    dtype, device = kwargs.get("dtype") or like.dtype, torch.device(kwargs.get("device") or like.device)
    if distribution == "dropout":
        probability, training = args[1], args[2]
        return Draw("dropout", (1.0 - probability if training else 1.0,), tuple(like.shape), dtype, device)
    defaults = {"bernoulli": (0.5,), "uniform": (0.0, 1.0), "normal": (0.0, 1.0), "exponential": (1.0,)}
    given = tuple(args[1:])
    parameters = given + defaults.get(distribution, ())[len(given) :]
    return Draw(distribution, parameters, tuple(like.shape), dtype, device)


class UnliftableError(RuntimeError):
    """A random op met while replaying draws is not one that was drawn."""


class Replay(TorchDispatchMode):
    """While active, the k-th random op yields `numbers[k]` instead of drawing."""

    def __init__(self, numbers: Sequence[torch.Tensor]):
        super().__init__()
        self.numbers, self.used = numbers, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not is_random(func):
            return func(*args, **kwargs)
        if self.used == len(self.numbers):
            raise UnliftableError(f"{func} draws once more than its first run did")
        number = self.numbers[self.used]
        self.used += 1
        if func is aten.native_dropout.default:
            x, probability, training = args
            if tuple(x.shape) != tuple(number.shape):
                raise UnliftableError(f"{func} has shape {tuple(x.shape)}, drawn was {tuple(number.shape)}")
            mask = number.bool()
            scale = 0.0 if probability == 1.0 else 1.0 / (1.0 - probability)
            return (x * mask * scale, mask) if training else (x, mask)
        shape = tuple(args[0]) if func in _SIZED else tuple(args[0].shape)
        if len(shape) == number.dim() + 1:
            # one row of a ragged call is a call of length one: its draw has that axis too
            axis = 0 if shape[1:] == tuple(number.shape) else 1
            number = number.unsqueeze(axis)
        if shape != tuple(number.shape):
            raise UnliftableError(f"{func} has shape {shape}, drawn was {tuple(number.shape)}")
        if func in _IN_PLACE:
            return args[0].copy_(number)
        return number.clone()
