"""How does a training pull weights towards what they are to become? ADMM: Z = P(W + U), U += W - Z.

The alternating direction method of multipliers (Boyd et al., 2011; for pruning Zhang et al., ECCV 2018): the loss is
f(W) + rho / 2 ||W - Z + U||^2, P the nearest weight that a method allows, and rho grows.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from bale.compress.api import compress_
from bale.compress.code import Code
from bale.compress.compressor import check_state
from bale.compress.config import Filter, WeightConfig
from bale.compress.layers import Compressed
from bale.compress.summary import Report
from bale.compress.weights import Weight, coded_weights
from bale.errors import CompressionError


@dataclass(eq=False)
class _Pulled:
    """A weight, with what is stored of it; what its numbers are pulled to, and the scaled dual of that."""

    weight: Weight
    target: Tensor
    dual: Tensor

    @property
    def parameter(self) -> nn.Parameter:
        return self.weight.code.values


class Admm:
    """The compressor that pulls a model's weights to what a method of weights makes of them, and then makes it so.

    rho      of the first update, in units of loss by squared weight
    growth   by which rho is multiplied with each update
    every    steps of the optimizer from one update to the next

    >>> from bale.compress import ADCAwareConfig
    >>> model = nn.Linear(200, 10)
    >>> compressor = Admm(ADCAwareConfig(adc_bits=5), every=1).prepare(model)
    >>> optimizer = torch.optim.Adam(model.parameters())
    >>> for _ in range(3):
    ...     loss = model(torch.ones(1, 200)).square().sum() + compressor.penalty()
    ...     loss.backward()
    ...     optimizer.step()
    ...     compressor.step()
    >>> compressor.squash().weights[0].facts["adc_bits"]
    5
    """

    def __init__(self, config: WeightConfig, *, rho: float = 3e-3, growth: float = 1.5, every: int = 200) -> None:
        for name, holds, value in (
            ("rho", rho > 0, rho),
            ("growth", growth >= 1, growth),
            ("every", every >= 1, every),
        ):
            if not holds:
                raise CompressionError(f"{name}: must be {'above 0' if name == 'rho' else 'at least 1'}, got {value}")
        if not isinstance(config, WeightConfig):
            raise CompressionError(f"config: expected a method that stores weights in another way, got {config!r}")
        self.config, self.rho, self.growth, self.every = config, rho, growth, every
        self.steps = 0
        self._model: nn.Module | None = None
        self._filter: Filter | None = None
        self._pulled: dict[str, _Pulled] = {}

    @torch.no_grad()
    def prepare(self, model: nn.Module, filter_fn: Filter | None = None) -> Self:
        """Find the weights; raises what `compress_` would."""
        trial = copy.deepcopy(model)
        changed = {weight.name for weight in compress_(trial, self.config, filter_fn).weights}
        self._model, self._filter = model, filter_fn
        self._pulled = {}
        for weight in coded_weights(trial):
            if weight.name in changed:
                stored = replace(weight, code=_code(model, weight.key))
                values = stored.code.values.detach()
                self._pulled[weight.name] = _Pulled(stored, values, torch.zeros_like(values))
        self._project()
        return self

    def penalty(self) -> Tensor:
        """rho / 2 ||W - Z + U||^2 over all weights."""
        pulled = self._all()
        terms = [(each.parameter - each.target + each.dual).square().sum() for each in pulled]
        return self.rho / 2 * torch.stack(terms).sum()

    @torch.no_grad()
    def step(self) -> None:
        """Count a step; update Z, U and rho when it is time."""
        pulled = self._all()
        self.steps += 1
        if self.steps % self.every:
            return
        self._project()
        for each in pulled:
            each.dual += each.parameter - each.target
            each.dual /= self.growth  # the scaled dual is the multiplier over rho
        self.rho *= self.growth

    def distance(self) -> float:
        """||W - Z|| / ||W||: how far the weights are from what they are pulled to."""
        pulled = self._all()
        off = sum(float((each.parameter.detach() - each.target).square().sum()) for each in pulled)
        whole = sum(float(each.parameter.detach().square().sum()) for each in pulled)
        return (off / whole) ** 0.5 if whole else 0.0

    def squash(self) -> Report:
        """Compress the model for good."""
        self._all()
        assert self._model is not None
        self._pulled = {}
        return compress_(self._model, self.config, self._filter)

    def state_dict(self) -> dict[str, Tensor]:
        """Targets, duals, rho and how many steps there were."""
        state = {"rho": torch.tensor(self.rho, dtype=torch.float64), "steps": torch.tensor(self.steps)}
        for name, each in self._pulled.items():
            state |= {f"target.{name}": each.target, f"dual.{name}": each.dual}
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue where another left off; raises CompressionError for the state of another model."""
        check_state(self.state_dict(), state)
        self.rho, self.steps = float(state["rho"]), int(state["steps"])
        for name, each in self._pulled.items():
            each.target = state[f"target.{name}"].to(each.parameter, copy=True)
            each.dual = state[f"dual.{name}"].to(each.parameter, copy=True)  # it is added to in place

    def _all(self) -> list[_Pulled]:
        if not self._pulled:
            raise CompressionError("prepare(model) comes first")
        return list(self._pulled.values())

    def _project(self) -> None:
        """Pull each weight to what the method makes of W + U, stored in a layout and left out as the weight is."""
        trials = [replace(each.weight, code=_moved(each.weight.code, each.dual)) for each in self._pulled.values()]
        encode = self.config.encoder(trials)
        for each, trial in zip(self._pulled.values(), trials, strict=True):
            encode(trial)
            same = trial.code.layout == each.weight.code.layout
            each.target = (trial.code.numbers() if same else trial.code()).clone()


def _moved(code: Code, by: Tensor) -> Code:
    """A copy whose values are others."""
    moved = copy.deepcopy(code)
    moved.values = nn.Parameter(code.values.detach() + by)
    return moved


def _code(model: nn.Module, key: str) -> Code:
    """What is stored of a weight."""
    layer, _, name = key.rpartition(".")
    module = model.get_submodule(layer)
    if isinstance(module, Compressed):
        return module.code(name)
    parameter = module._parameters[name]
    assert parameter is not None
    return Code(parameter)
