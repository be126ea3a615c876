"""Traps of memory and numbers: what shares memory, what is written before it is read, what a number is computed as."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import bale
from bale.errors import TraceError


class Twice(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = x * 2
        return y, y


class Nested(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y = x * 2
        return y, (y.view(2, 2), x + 1)


class Parts(nn.Module):
    """Parts of one piece of memory that lie apart."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(4, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.wide(x).chunk(2, -1)


class Given(nn.Module):
    def __init__(self, function: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.l, self.k = nn.Linear(4, 4), nn.Parameter(torch.randn(9, 4))
        self.twice, self.nested, self.parts = Twice(), Nested(), Parts()
        self.function = [function]

    def forward(self, x: Tensor) -> Any:
        return self.function[0](self, x)


def written_before_it_is_used(m: Given, x: Tensor) -> Tensor:
    with torch.no_grad():  # in the loop, too, gradients would need what is written over
        h = m.l(x)
        scores = h @ h.T  # not recorded before it is read
        h += 1
        changed = scores @ h
    return changed + m.l(x)


def one_tensor_twice(m: Given, x: Tensor) -> Any:
    one, other = m.twice(m.l(x[0]))
    one += 1
    return one, other


def parts_that_lie_apart(m: Given, x: Tensor) -> Any:
    one, other = m.parts(x[0])
    third, fourth = m.parts(x[1])
    return one.sigmoid() + third, other * fourth


def rows_of_unlike_lengths(m: Given, x: Tensor) -> Any:
    h = m.l(x[0])
    return [h[torch.tensor([0, 1])], h[torch.tensor([0])], h[h.argmax()], h[h.argsort()]]


def arrays_as_indices(m: Given, x: Tensor) -> Any:
    h = m.l(x)
    mask = np.zeros(len(x), bool)
    mask[0] = True
    return [h[np.array([0, 1])], h[mask], h[np.int64(1)], h[np.array(1)]]


FITS = {
    "a value is written before what reads it is recorded": written_before_it_is_used,
    "a cell returns one tensor twice": one_tensor_twice,
    "a cell returns parts of one piece of memory": parts_that_lie_apart,
    "indices of unlike lengths": rows_of_unlike_lengths,
    "arrays as indices": arrays_as_indices,
    "a mask without axes": lambda m, x: [m.l(x)[0][torch.tensor(True)], m.l(x)[0][torch.tensor(False)]],
    "a number beside a condition": lambda m, x: torch.where(m.l(x) > 9, m.l(x), 0.1),
    "a power": lambda m, x: m.l(x) ** 2,
}


def samples() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(n, 4, dtype=torch.float64) for n in (3, 2, 3)]


@pytest.mark.parametrize("function", FITS.values(), ids=FITS)
def test_values_and_gradients_are_those_of_the_loop(function: Callable[[Any, Tensor], Any]) -> None:
    model, given = Given(function).double(), samples()
    batched = bale.batch(model)
    for _ in range(3):
        found, wanted = batched(given), [model(sample) for sample in given]
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
        gradients = []
        for outputs in (found, wanted):
            loss = sum(leaf.square().sum() for leaf in pytree.tree_leaves(outputs))
            gradients.append(torch.autograd.grad(loss, list(model.parameters()), allow_unused=True))
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(*(torch.zeros(()) if g is None or not g.any() else g for g in (one, other)))


def view_of_what_is_put_off(m: Given, x: Tensor) -> Any:
    scores = m.l(x) @ x.T
    row = scores[0]
    scores += 1
    return row * 1


def view_beside_another_result(m: Given, x: Tensor) -> Any:
    one, (other, _) = m.nested(m.l(x[0]))
    one += 1
    return other


def parameter_changed_after_use(m: Given, x: Tensor) -> Any:
    y = x @ m.k[:4]
    with torch.no_grad():
        m.k.mul_(0.5)
    return y


REFUSED = {
    "a row of what is put off": (view_of_what_is_put_off, "shares its memory"),
    "a result beside another": (view_beside_another_result, "shares its memory"),
    "a parameter that changes": (parameter_changed_after_use, r"shape \[9, 4\].* was changed"),
}


@pytest.mark.parametrize(("function", "told"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_followed_is_an_error(function: Callable[[Any, Tensor], Any], told: str) -> None:
    batched = bale.batch(Given(function).double())
    for _ in range(2):
        with pytest.raises(TraceError, match=told):
            batched(samples())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_number_too_large_for_a_half_type_is_computed_as_torch_does(dtype: torch.dtype) -> None:
    model = Given(lambda m, x: (1 - (x > 0).to(dtype)) * -1e9 + x.to(dtype) * 0.1)
    given = samples()
    torch.testing.assert_close(bale.batch(model)(given), [model(sample) for sample in given])


def test_a_state_carried_over_detached_is_no_part_of_the_next_backward() -> None:
    model = Given(lambda m, x: m.l(x[0]) + x[1].detach())
    batched = bale.batch(model)
    state, gradients = torch.zeros(4), []
    for way in (lambda rows: batched([rows])[0], model):
        model.zero_grad()
        state = torch.zeros(4)
        for row in torch.ones(3, 4):
            state = way((row, state))
            state.square().sum().backward()
        gradients.append(model.l.weight.grad)
    torch.testing.assert_close(*gradients)


def test_sums_of_complex_values() -> None:
    model = Given(lambda m, x: (m.l(x) * 1j).sum(0) + torch.stack([row * 2j for row in m.l(x)]).mean(0)).double()
    given = samples()
    torch.testing.assert_close(bale.batch(model)(given), [model(sample) for sample in given])


def test_a_trace_of_one_sample_has_all_that_its_forward_returns() -> None:
    model, given = Given(lambda m, x: [m.l(x).T, m.l(x) @ m.l(x).T]).double(), samples()
    batched = bale.batch(model)
    for _ in range(2):
        kept = batched.trace(given, key=id)
        torch.testing.assert_close(batched(kept), [model(sample) for sample in given])


@pytest.mark.parametrize("function", [lambda m, x: m.l(x) ** 2, lambda m, x: m.l(x) + m.k[: len(x)]])
def test_traces_of_powers_and_of_rows_of_parameters_are_pickled(function: Callable[[Any, Tensor], Any]) -> None:
    model, given = Given(function).double(), samples()
    batched = bale.batch(model)
    kept = pickle.loads(pickle.dumps(batched.trace(given)))
    torch.testing.assert_close(batched(kept), [model(sample) for sample in given])
