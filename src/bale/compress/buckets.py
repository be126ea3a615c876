"""How are powers of two trained from scratch? By bucket switching: enough large updates, and one doubles or halves.

SmartDeal's training variant, as read in the authors' code: coefficients are powers of two at every step, on a mask that
stays; the signs of large updates are counted, and at a bar the magnitude doubles or halves. Second-hand notes: layers
read 8 bits. Our inference: an update is large that is above the mean of its weight's; the bar; and a coefficient of the
smallest magnitude that is pushed on changes its sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from bale.compress.api import compress_
from bale.compress.code import Code
from bale.compress.compressor import check_state
from bale.compress.config import Config, Filter
from bale.compress.powers import PowerOfTwoQuantizer, powers_up_to
from bale.compress.summary import Before, Report, report_of
from bale.compress.weights import coded_weights, compressed_layers
from bale.errors import CompressionError

_INPUT_HIGHEST = 127  # of 8 bits
_LEAST_BAR = 8
_WALK = 1.5  # bars per root of steps; of LeNet-5 on digits, half as many cost 3 to 15 points


@dataclass(eq=False)
class _Switched:
    """A weight's code, its coefficients as they are between steps, and what was counted: int32, + is for doubling."""

    code: Code
    coefficients: Tensor
    counted: Tensor


class Buckets:
    """The compressor that trains coefficients by bucket switching, and bases as any optimizer does.

    The model is compressed in `prepare`. Every step of the optimizer proposes updates of coefficients, which are
    counted and taken back. What compressed layers read is rounded to 8 bits, symmetric to the largest of a batch,
    gradients straight through; `squash` ends that, and training further moves coefficients straight through, too.

    bar   large updates one way, less those the other way, that switch a coefficient: as many as a training's updates
          of no direction seldom come to (`bar_for`), or coefficients never settle
    """

    def __init__(self, config: Config, *, bar: int = _LEAST_BAR) -> None:
        if bar < 1:
            raise CompressionError(f"bar: must be at least 1, got {bar}")
        self.config, self.bar = config, bar
        self._model: nn.Module | None = None
        self._before: Before | None = None
        self._report: Report | None = None
        self._switched: dict[str, _Switched] = {}
        self._hooks: list[RemovableHandle] = []

    @torch.no_grad()
    def prepare(self, model: nn.Module, filter_fn: Filter | None = None) -> Self:
        """Compress the model; raises what `compress_` would."""
        before = Before.of(model)
        self._report = compress_(model, self.config, filter_fn)
        self._model, self._before = model, before
        changed = {weight.name for weight in self._report.weights}
        for weight in coded_weights(model):
            if weight.name in changed and isinstance(weight.code.quantizer, PowerOfTwoQuantizer):
                coefficients = weight.code.values.detach().clone()
                counted = torch.zeros_like(coefficients, dtype=torch.int32)
                self._switched[weight.key] = _Switched(weight.code, coefficients, counted)
        if not self._switched:
            raise CompressionError(f"{self.config.method}: has no powers of two to switch; expected smartdeal")
        codes = {id(each.code) for each in self._switched.values()}
        for layer in compressed_layers(model).values():
            if any(id(code) in codes for code in layer.codes.values()):
                self._hooks.append(layer.register_forward_pre_hook(read_eight_bits))
        return self

    def penalty(self) -> Tensor:
        return torch.zeros(())

    @torch.no_grad()
    def step(self) -> None:
        """Count what the optimizer has done to coefficients, take it back, and switch those at the bar."""
        for each in self._all():
            values = each.code.values
            update = values - each.coefficients
            each.coefficients = _switch(each, update, self.bar)
            values.copy_(each.coefficients)

    def squash(self) -> Report:
        """Let layers read what they are given, and say how the model is compressed now."""
        self._all()
        assert self._model is not None and self._before is not None and self._report is not None
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._switched = [], {}
        changed = [weight.name for weight in self._report.weights]
        return report_of(self._model, self._before, self._report.configs, changed, self._report.skipped)

    def state_dict(self) -> dict[str, Tensor]:
        """Coefficients as they are between steps, and what was counted."""
        state: dict[str, Tensor] = {}
        for key, each in self._switched.items():
            state |= {f"coefficients.{key}": each.coefficients, f"counted.{key}": each.counted}
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue where another left off; raises CompressionError for the state of another model."""
        check_state(self.state_dict(), state)
        for key, each in self._switched.items():
            each.coefficients = state[f"coefficients.{key}"].to(each.coefficients, copy=True)
            each.counted = state[f"counted.{key}"].to(each.counted, copy=True)

    def _all(self) -> list[_Switched]:
        if not self._switched:
            raise CompressionError("prepare(model) comes first")
        return list(self._switched.values())


def bar_for(steps: int) -> int:
    """The bar of a training of so many steps: signs without a direction add up to about the root of their number."""
    return max(_LEAST_BAR, round(_WALK * steps**0.5))


def _switch(each: _Switched, update: Tensor, bar: int) -> Tensor:
    """Count the large updates, in place; return the coefficients, those at the bar switched."""
    code, coefficients, counted = each.code, each.coefficients, each.counted
    assert code.mask is not None and isinstance(code.quantizer, PowerOfTwoQuantizer)
    powers = powers_up_to(code.quantizer.highest, code.quantizer.bits).to(coefficients.dtype)
    update = torch.where(code.mask, update, 0.0)
    large = update.abs() > update.abs().sum() / code.mask.count_nonzero().clamp(min=1)
    counted += torch.where(large, update.sign() * coefficients.sign(), 0.0).to(counted.dtype)
    up, down = counted >= bar, counted <= -bar
    counted.masked_fill_(up | down, 0)
    least = coefficients.abs() <= powers[0]
    doubled = (2 * coefficients).clamp(-powers[-1], powers[-1])
    coefficients = torch.where(up, doubled, coefficients)
    return torch.where(down, torch.where(least, -coefficients, coefficients / 2), coefficients)


def read_eight_bits(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """A hook before a layer's forward: round its first input to 8 bits, where that is a tensor of floating point."""
    if not given or not isinstance(given[0], Tensor) or not given[0].is_floating_point() or not given[0].numel():
        return given
    x = given[0]
    with torch.no_grad():
        step = x.abs().max() / _INPUT_HIGHEST
        step = torch.where(step > 0, step, 1.0)
        grid = (x / step).round() * step
    return (grid + (x - x.detach()), *given[1:])
