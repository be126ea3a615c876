"""Captured code in whole calls, from the first call on: does its memory fit what arenas and other types provide?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from tests.batching.cell_modules import Of, linear
from tests.batching.view.same import assert_same
from torch import Tensor, nn

import bale
from bale.batching.cells import planned as cell_planning
from bale.batching.cells.backend import Backend
from bale.batching.execute import planned

WIDTH = 4


class Model(nn.Module):
    """`run(cell, vectors)` of a sample's vectors."""

    def __init__(self, cell: nn.Module, run: Callable[..., Any]):
        super().__init__()
        self.cell, self.run = cell, run

    def forward(self, vectors: Sequence[Tensor]) -> Any:
        return self.run(self.cell, vectors)


def sentences(lengths: Sequence[int] = (3, 5, 2)) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [[torch.randn(WIDTH, generator=generator).requires_grad_() for _ in range(n)] for n in lengths]


def assert_captured(
    cell: nn.Module, run: Callable[..., Any], samples: Sequence[Any], others: Sequence[str] = ()
) -> bale.Batched:
    """The law, for every policy; and every cell but `others` ran as captured code."""
    batched = assert_same(Model(cell, run), samples, relative=1e-5, gradient_relative=1e-4, capture="eager")
    rungs = {cell.name: (cell.shown_rung, cell.reasons) for cell in batched.registry.cell_types()}
    assert {name: why for name, why in rungs.items() if why[0] != "planned" and name not in others} == {}
    return batched


def chain(cell: nn.Module, vectors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Each step reads the three results before it."""
    values = [vector * 1.5 for vector in vectors[:3]]
    for _ in vectors:
        values.append(cell(*values[-3:]))
    return tuple(values)


@pytest.mark.parametrize("word_first", [False, True])
def test_gradients_of_nodes_and_of_a_samples_own_tensors_side_by_side(word_first: bool) -> None:
    """Both are slices of one product, but only the first lies in the adjoint memory."""

    def recur(cell: nn.Module, vectors: Sequence[Tensor]) -> Tensor:
        state = vectors[0]
        for vector in vectors[1:]:
            state = cell(vector, state) if word_first else cell(state, vector)
        return state

    cell = Of(lambda self, a, b: self.linear(torch.cat([a, b], -1)).tanh(), linear=linear(2 * WIDTH))
    assert_captured(cell, recur, sentences())


@pytest.mark.parametrize("first", [False, True])
def test_a_gradient_in_a_block_that_another_gradient_reads(first: bool) -> None:
    """The gradients of a and b lie side by side; that of c reads a's there, in blocks that begin after odd sizes."""

    def forward(self: Any, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return self.linear(torch.cat([a + 2 * c, b] if first else [b, a + 2 * c], -1)).tanh()

    assert_captured(Of(forward, linear=linear(2 * WIDTH)), chain, sentences((3, 5, 4)))


def test_a_mean_beside_a_row() -> None:
    """Only the gradients of the mean are divided by its count."""

    def run(cell: nn.Module, vectors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        values = [vector * 1.5 for vector in vectors]
        for _ in range(3):
            values.append(cell(values[-1], torch.stack(values[-3:]).mean(0)))
            values.append(cell(torch.stack(values[-2:]).mean(0), values[-1]))
        return tuple(values)

    cell = Of(lambda self, a, b: self.linear(torch.cat([a, b], -1)).tanh(), linear=linear(2 * WIDTH))
    assert_captured(cell, run, sentences(), others=("stack", "mean"))


@pytest.mark.parametrize("make", [lambda a: a.new_zeros(WIDTH), lambda a: a.new_full((WIDTH,), 2.0)], ids=["0", "2"])
def test_a_vector_that_every_batch_makes_anew(make: Callable[[Tensor], Tensor]) -> None:
    cell = Of(lambda self, a, b, c: (self.linear(a) * b).tanh() + make(a) * c, linear=linear())
    assert_captured(cell, chain, sentences((3, 5, 4)))


def test_an_output_whose_halves_are_read() -> None:
    """The gates are a result, and their halves lie in it."""

    def run(cell: nn.Module, vectors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        state, found = vectors[0] * 1.0, []
        for vector in vectors:
            gates, state = cell(state, vector * 1.0)
            found.append(gates)
        return (*found, state)

    def forward(self: Any, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        gates = self.linear(torch.cat([a, b], -1))
        left, right = gates.chunk(2, -1)
        return gates, self.out(left.tanh() * right)

    assert_captured(Of(forward, linear=linear(2 * WIDTH, 2 * WIDTH), out=linear()), run, sentences())


class Started(nn.Module):
    """A weight is read by operations and is also one of the constants that are stacked; those are read in another
    order than they were recorded in."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.cell = nn.Parameter(torch.randn(WIDTH)), linear()

    def forward(self, vectors: Sequence[Tensor]) -> Tensor:
        values = [self.cell(vector * 1.0) for vector in vectors]
        late = torch.stack([vectors[0], values[0]]).mean(0)
        early = torch.stack([*values, self.start]).amax(0) * self.start
        return torch.stack([late, self.cell(self.cell(early))]).mean(0)


@pytest.mark.parametrize("capture", ["eager", "lazy"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_weight_among_the_values_gets_its_gradient_once(capture: str, dtype: torch.dtype) -> None:
    samples = [[vector.detach().to(dtype).requires_grad_() for vector in sample] for sample in sentences()]
    assert_same(Started().to(dtype), samples, relative=1e-5, gradient_relative=1e-4, capture=capture)


def test_a_cell_that_another_thread_captured_meanwhile_is_not_captured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    batched = bale.batch(Model(linear(), lambda cell, vectors: cell(vectors[0] * 1.0)))
    batched(sentences())
    (cell,) = (cell for cell in batched.registry.cell_types() if cell.name.startswith("cell"))
    assert cell.emitted is None

    class Waiting:
        """The lock, where another thread captures the cell while this one waits for it."""

        def __enter__(self) -> None:
            cell.emitted = planned.plan_cell(cell, Backend())
            self.found = cell.emitted

        def __exit__(self, *_: object) -> None:
            assert cell.emitted is self.found

    monkeypatch.setattr(planned, "_capturing", Waiting())
    planned._settle(cell, 0, Backend())
    assert cell.emitted is not None


def test_a_graph_that_no_code_can_be_written_for_leaves_the_cell_on_its_rung(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("an operation that nobody thought of")

    monkeypatch.setattr(cell_planning, "emit", fail)
    model = Model(linear(), lambda cell, vectors: cell(vectors[0] * 1.0))
    batched = assert_same(model, sentences(), relative=1e-5, gradient_relative=1e-4, capture="eager")
    assert {reason for cell in batched.registry.cell_types() for reason in cell.reasons} == {
        "not planned: its code cannot be written: KeyError: 'an operation that nobody thought of'"
    }


class Refuses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        if gradient.abs().max() > 1e6:
            raise ValueError("this gradient explodes")
        return gradient * 2


def test_a_backward_that_fails_names_the_samples_of_its_batch() -> None:
    class Explodes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = Of(lambda m, x: Refuses.apply(x))

        def forward(self, vectors: Sequence[Tensor]) -> Tensor:
            return self.cell(vectors[0] * 1.0) * 1e9

    outputs = bale.batch(Explodes())(sentences())
    with pytest.raises(ValueError, match="this gradient explodes") as caught:
        torch.stack(list(outputs)).sum().backward()
    assert any("a batch of cell (Of) (3 calls) of samples 0, 1, 2" in note for note in caught.value.__notes__)
