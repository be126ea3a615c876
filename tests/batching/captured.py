"""Small rungs to capture, and what they compute at any number of rows under plain autograd."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from tests.batching.cell_modules import Highway, Of, TreeGRU, TreeLSTM, TwoNames, linear, matrix
from torch import Tensor, nn

from bale.batching.cells.call import Kind
from bale.batching.cells.capture import Captured, Subject, capture
from bale.batching.cells.draws import Draw, Replay
from bale.batching.cells.emit import Emitted
from bale.batching.cells.planned import _Uneven
from bale.batching.cells.rungs import Operands
from bale.batching.graph import Spec

WIDTH = 4
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Small:
    """`function(module, *columns)` of columns [rows, *shape]; integers stand for ids below 5, `draws` for masks."""

    function: Callable[..., Any]
    module: Callable[[], nn.Module] = nn.Identity
    shapes: tuple[Any, ...] = ((WIDTH,), (WIDTH,))
    draws: int = 0


@dataclass(frozen=True)
class Values:
    """Outputs, gradients of the columns, and of what is trained; None where there is none."""

    outputs: list[Tensor]
    columns: list[Tensor | None]
    trained: list[Tensor | None]


class Toy:
    """A Small with weights of one dtype, as the subject of a capture."""

    def __init__(self, small: Small, dtype: torch.dtype):
        torch.manual_seed(5)
        self.module = small.module().to(dtype)
        self.small, self.dtype = small, dtype
        held = [*self.module.parameters()]
        for unregistered in (vars(v) for v in vars(self.module).values() if isinstance(v, SimpleNamespace)):
            for name, weight in unregistered.items():
                unregistered[name] = nn.Parameter(weight.detach().to(dtype))
                held.append(unregistered[name])
        self.trained = tuple({id(p): p for p in held if p.requires_grad}.values())
        self.specs = [
            Spec((), torch.int64, CPU) if shape is int else Spec(shape, dtype, CPU, requires_grad=True)
            for shape in small.shapes
        ]
        samples = [torch.tensor([0, 3, 4, 1, 2]) if spec.dtype is torch.int64 else None for spec in self.specs]
        draws = [Draw("dropout", (0.5,), (WIDTH,), dtype, CPU)] * small.draws
        kinds = [Kind.VALUE] * len(self.specs)
        self.operands = Operands(self.specs, kinds, samples, draws, list(self.trained))
        self.numbers = self.operands.numbers
        columns, numbers = self.operands.columns(2, positive=False), self.numbers(2)
        with torch.no_grad(), Replay(numbers):
            found = self.rung(columns)
        self.outputs = [Spec(tuple(out.shape[1:]), out.dtype, CPU, out.is_floating_point()) for out in found]

    def rung(self, columns: Sequence[Tensor]) -> list[Tensor]:
        found = self.small.function(self.module, *columns)
        return list(found) if isinstance(found, (tuple, list)) else [found]

    def capture(self) -> Captured:
        grads = tuple(spec.requires_grad for spec in self.outputs)
        return capture(Subject(self.rung, contextlib.nullcontext, self.operands, self.trained, grads))

    def columns(self, rows: int) -> list[Tensor]:
        found = self.operands.columns(rows, positive=False)
        return [c.requires_grad_(spec.requires_grad) for c, spec in zip(found, self.specs, strict=True)]

    def gradients(self, rows: int) -> list[Tensor]:
        """One per output that carries gradients."""
        generator = torch.Generator().manual_seed(rows)
        return [
            torch.randn(rows, *spec.shape, generator=generator, dtype=torch.float64).to(spec.dtype)
            for spec in self.outputs
            if spec.requires_grad
        ]

    def values(self, run: Callable[[Sequence[Tensor]], list[Tensor]], rows: int) -> Values:
        """What `run` computes under autograd."""
        columns, numbers = self.columns(rows), self.numbers(rows)
        with Replay(numbers):
            outputs = run(columns)
        leaves = [t for t in (*columns, *self.trained) if t.requires_grad]
        carries = [out for out, spec in zip(outputs, self.outputs, strict=True) if spec.requires_grad]
        found = iter(torch.autograd.grad(carries, leaves, self.gradients(rows), allow_unused=True))
        return Values(
            [out.detach() for out in outputs],
            [next(found) if c.requires_grad else None for c in columns],
            [next(found) for _ in self.trained],
        )

    def code(self, emitted: Emitted) -> Callable[[Sequence[Tensor]], list[Tensor]]:
        """Emitted code as a rung that runs its rows in two batches."""
        cell: Any = SimpleNamespace(node_type=SimpleNamespace(outputs=self.outputs), operands=self.operands)
        return _Uneven(emitted, cell)


@cache
def captured_cell(name: str, dtype: torch.dtype) -> tuple[Toy, Captured]:
    """One of SMALL, captured once: nothing changes a captured graph."""
    toy = Toy(SMALL[name], dtype)
    return toy, toy.capture()


def assert_same_values(got: Values, want: Values, tolerance: float) -> None:
    """No gradient and a gradient of zeros are alike."""
    pairs = [*zip(got.outputs, want.outputs, strict=True), *zip(got.columns, want.columns, strict=True)]
    for a, b in [*pairs, *zip(got.trained, want.trained, strict=True)]:
        if a is None or b is None:
            assert (a is None or not a.any()) and (b is None or not b.any())
            continue
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        size = float(b.abs().max()) if b.numel() and b.is_floating_point() else 1.0
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance * max(size, 1e-3), equal_nan=True)


def of(**parts: Callable[[], Any]) -> Callable[[], nn.Module]:
    return lambda: Of(lambda m: None, **{name: make() for name, make in parts.items()})


def lstm(m: Any, x: Tensor, h: Tensor, c: Tensor) -> Any:
    return m(x, (h, c))


def attention(m: Any, query: Tensor, keys: Tensor) -> Tensor:
    """One query [WIDTH] over keys [3, WIDTH] of its own row."""
    weights = torch.softmax((keys @ query.unsqueeze(-1)).squeeze(-1), -1)
    return m((weights.unsqueeze(-1) * keys).sum(-2))


def gated(m: Any, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A result of which two others read halves."""
    gates = m(torch.cat([a, b], -1))
    left, right = gates.chunk(2, -1)
    return gates, left.sigmoid() * a, right.tanh() - b


TWO = {"module": lambda: linear(2 * WIDTH)}

SMALL: dict[str, Small] = {
    "linear": Small(lambda m, a, b: m(a) + b, linear),
    "products of both": Small(lambda m, a, b: (m(a) * m(b)).tanh(), linear),
    "lstm cell": Small(lstm, lambda: nn.LSTMCell(WIDTH, WIDTH), ((WIDTH,),) * 3),
    "gru cell": Small(lambda m, x, h: m(x, h), lambda: nn.GRUCell(WIDTH, WIDTH)),
    "tree lstm": Small(lambda m, h, c, g, d: m((h, c), (g, d)), TreeLSTM, ((WIDTH,),) * 4),
    "tree gru": Small(lambda m, a, b: m(a, b), TreeGRU),
    "highway": Small(lambda m, a, b: m(a) * b, Highway),
    "layer norm": Small(lambda m, a, b: m(a) * b, lambda: nn.LayerNorm(WIDTH)),
    "group norm": Small(lambda m, a, b: m(torch.stack([a, b], -1)).flatten(1), lambda: nn.GroupNorm(2, WIDTH)),
    "convolution": Small(lambda m, a: m(a), lambda: nn.Conv1d(2, 3, 3, padding=1), ((2, 5),)),
    "softmax": Small(lambda m, a, b: torch.softmax(m(a), -1) * torch.log_softmax(b, -1), linear),
    "attention": Small(attention, linear, ((WIDTH,), (3, WIDTH))),
    "embedding": Small(lambda m, word, b: m(word).tanh() * b, lambda: nn.Embedding(5, WIDTH), (int, (WIDTH,))),
    "embedding with padding": Small(
        lambda m, word, b: m(word) * b, lambda: nn.Embedding(5, WIDTH, padding_idx=3), (int, (WIDTH,))
    ),
    "several outputs": Small(lambda m, a, b: (m(torch.cat([a, b], -1)), a * b, a.sum(-1)), **TWO),
    "an integer output": Small(lambda m, a, b: (m(a) + b, (a > b).long()), linear),
    "its input": Small(lambda m, a, b: (a, m(b)), linear),
    "the same input twice": Small(lambda m, a, b: (a, a, b.tanh()), linear),
    "a slice of its input": Small(lambda m, a, b: (a[..., 1:3], m(b)), linear),
    "a result and its halves": Small(gated, lambda: linear(2 * WIDTH, 2 * WIDTH)),
    "a column in two concatenations": Small(
        lambda m, a, b: m.one(torch.cat([a, b], -1)) * m.two(torch.cat([b, a.tanh(), a], -1)),
        of(one=lambda: linear(2 * WIDTH), two=lambda: linear(3 * WIDTH)),
    ),
    "a concatenation of concatenations": Small(
        lambda m, a, b: m(torch.cat([a, torch.cat([b, a * b], -1)], -1)), lambda: linear(3 * WIDTH)
    ),
    "twice the same in one concatenation": Small(lambda m, a, b: m(torch.cat([a, a], -1)) + b, **TWO),
    "an empty slice": Small(lambda m, a, b: (m(torch.cat([a, b[..., :0], b], -1)), b[..., :0]), **TWO),
    "a column of one number": Small(lambda m, a, b: m(a) * b + b, linear, ((WIDTH,), (1,))),
    "a number per row": Small(lambda m, a, b: m(a) * b.unsqueeze(-1), linear, ((WIDTH,), ())),
    "a norm by hand": Small(lambda m, a, b: m(a) / (b * b).sum(-1, keepdim=True), linear),
    "biases": Small(
        lambda m, a, b: (m.vector + a * m.row) * m.scalar - b / (m.one * m.one + 1),
        of(
            vector=lambda: matrix(WIDTH),
            row=lambda: matrix(1, WIDTH),
            scalar=lambda: nn.Parameter(torch.tensor(0.7)),
            one=lambda: matrix(1),
        ),
    ),
    "numbers": Small(lambda m, a, b: 2 - a * 3 + b / 4 - 0.5 * -a, nn.Identity),
    "relu": Small(lambda m, a, b: torch.relu(m(a)) - torch.relu(b - 0.2), linear),
    "steps beyond the ends": Small(lambda m, a, b: m(a[..., -99:100]) * b[..., -1:] + b[..., -3:2], linear),
    "every second number": Small(lambda m, a, b: m(a)[..., ::2] * b[..., 1::2], linear),
    "a vector made per batch": Small(lambda m, a, b: m(a) + a.new_ones(WIDTH) * b, linear),
    "a weight of two names": Small(lambda m, a, b: m(a, b), TwoNames),
    "a weight that no module has registered": Small(
        lambda m, a, b: a @ m.held.weight + b, of(held=lambda: SimpleNamespace(weight=matrix()))
    ),
    "a weight alone": Small(lambda m, a, b: a * b + (m.weight * m.weight).sum(), linear),
    "weights of weights": Small(lambda m, a, b: F.linear(a, m.weight / m.weight.norm()) + b, linear),
    "dropout": Small(lambda m, a, b: F.dropout(m(a), 0.5) * b, linear, draws=1),
    "in place": Small(lambda m, a, b: m(a).mul_(b).add_(1.0), linear),
    "detached": Small(lambda m, a, b: m(a.detach()) * b, linear),
}
