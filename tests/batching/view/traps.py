"""A cell with any body, for the traps, and the two ways to pass them: equal to the loop, or a clear error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from same import assert_all_close, weighted_sum
from small import WIDTH, UseModel, vectors
from torch import nn

import bale
from bale.errors import BaleError


def linear() -> nn.Linear:
    return nn.Linear(WIDTH, WIDTH)


class Cell(nn.Module):
    """A linear layer and `body(self, h)`."""

    def __init__(self, body: Callable[..., Any], **attributes: Any):
        super().__init__()
        self.linear = linear()
        self.body = body
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x: torch.Tensor) -> Any:
        return self.body(self, self.linear(x))


def one_cell(body: Callable[..., Any], **attributes: Any) -> UseModel:
    return UseModel(lambda m, x: m.cell(x), cell=Cell(body, **attributes))


def equal_across(model: nn.Module, changes: Sequence[Callable[[], Any]]) -> None:
    """After each of `changes` (made between outer calls) the batched model is the loop."""
    samples = vectors(3)
    batched = bale.batch(model, check="always")
    for change in changes:
        change()
        outputs, loop = batched(samples), [model(s) for s in samples]
        assert_all_close(outputs, loop)
        parameters = list(model.parameters())
        got = torch.autograd.grad(weighted_sum(outputs), parameters, allow_unused=True)
        wanted = torch.autograd.grad(weighted_sum(loop), parameters, allow_unused=True)
        assert_all_close([g for g in got if g is not None], [g for g in wanted if g is not None])


def or_clear(run: Callable[[], Any], *says: str) -> None:
    """`run` holds the law or raises a BaleError."""
    try:
        run()
    except BaleError as error:
        assert any(word in str(error) for word in says), error
