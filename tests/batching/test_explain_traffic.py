"""explain's views, gathers, bytes, launches and memory, against what is counted by hand on tiny trees."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.batching.cell_modules import Of, StraightThrough, TreeLSTM, linear
from torch import Tensor, nn

import bale
from bale.batching.execute.account import Copies, TypeAccount
from bale.batching.explain import Explanation
from bale.batching.trace import recording

WIDTH = 4
ROW = 4 * WIDTH  # bytes of one value in float32


class Trees(nn.Module):
    """A leaf makes (h, c) from a word's vector, an inner node from those of two children."""

    def __init__(self) -> None:
        super().__init__()
        self.leaf = Of(lambda m, x: (m.h(x).tanh(), m.c(x)), h=linear(), c=linear())
        self.inner = TreeLSTM()

    def forward(self, tree: Any) -> Any:
        if isinstance(tree, Tensor):
            return self.leaf(tree)
        return self.inner(self(tree[0]), self(tree[1]))


class Reread(Trees):
    """The first leaf is read at two levels."""

    def forward(self, tree: Any) -> Any:
        first, second = self.leaf(tree[0]), self.leaf(tree[1])
        return self.inner(self.inner(first, second), first)[0]


def vector() -> Tensor:
    return torch.randn(WIDTH)


def explained(model: nn.Module, samples: list[Any], **options: Any) -> tuple[Explanation, dict[str, TypeAccount]]:
    explanation = bale.explain(bale.batch(model, **options), samples)
    traffic = {line.name.split(" ")[0]: line.traffic for line in explanation.types}
    return explanation, {name: counted for name, counted in traffic.items() if counted is not None}


def balanced_and_not() -> list[Any]:
    """Seven leaves, five inner nodes: three right above leaves, two roots."""
    return [((vector(), vector()), (vector(), vector())), (vector(), (vector(), vector()))]


def test_trees(capsys: pytest.CaptureFixture[str]) -> None:
    explanation, traffic = explained(Trees(), balanced_and_not())
    # leaf, one batch: two products and a kernel; backward a kernel, since words need no gradients. The gradient of c is
    # what its weights' gradients read as rows of all batches, so it is gathered; that of h is read where it lies.
    assert traffic["leaf"] == TypeAccount(
        views=0, gathers=0, forward=Copies(), backward=Copies(1, 7 * ROW, 7 * ROW), launches=3 + 1 + 1
    )
    # inner, two batches: both h are gathered side by side for the product, both c are read through an index.
    # A product and a kernel forward, a kernel and a product backward, in each batch.
    assert traffic["inner"] == TypeAccount(
        views=2 * 2, gathers=2 * 2, forward=Copies(4, 5 * 2 * ROW, 5 * 2 * ROW), backward=Copies(),
        launches=2 * 4 + 2 * 2,
    )  # fmt: skip
    # Gradients: a row of zeros, one left free before pairs begin, 5 inner nodes' 4 operands, 2 roots' 2 results.
    # Buffers: the leaves' tanh' for the weights; both h of inner nodes, their 5 gates, and tanh of c.
    values, gradients, buffers = 12 * 2 * ROW, (1 + 1 + 5 * 4 + 2 * 2) * ROW, (7 * 1 + 5 * (2 + 5 + 1)) * ROW
    printed = capsys.readouterr().out
    assert "memory for values and gradients" in printed
    assert explanation.peak_bytes == values + gradients + buffers


def test_a_value_with_two_readers_has_its_gradient_summed_first() -> None:
    _, traffic = explained(Reread(), [(vector(), vector()) for _ in range(3)])
    # h and c of three leaves are read twice. The gradient of h is read by a kernel, as the sum of two rows where they
    # lie; that of c as rows of all batches for the weights' gradients, and so gathered.
    assert traffic["leaf"].backward == Copies(1, 6 * ROW, (3 * 2 + 3) * ROW)
    assert traffic["inner"].backward == Copies()
    assert (traffic["inner"].views, traffic["inner"].gathers) == (2 * 2, 2 * 2)


def test_without_gradients_nothing_is_gathered_backward() -> None:
    model = Trees()
    model.requires_grad_(False)
    _, traffic = explained(model, balanced_and_not())
    assert {t.backward for t in traffic.values()} == {Copies()}
    assert traffic["inner"].launches == 2 * 2 + 2 * 2, "two batches of a product and a kernel, and four gathers"


def test_operands_from_more_than_one_type_of_value_are_gathered() -> None:
    """Rows of float32 lie in one arena whoever wrote them, but an index leads into one arena only."""

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.cell = linear(WIDTH, 2 * WIDTH), Of(lambda m, a, b: a * b)

        def forward(self, x: Tensor) -> Tensor:
            left, right = self.wide(x).view(2, WIDTH).unbind(0)
            return self.cell(left, self.cell(right, left))

    explanation, traffic = explained(Mixed(), [vector() for _ in range(3)])
    cell = traffic["cell"]
    assert cell.views + cell.gathers == 2 * 2
    # the second operand comes from two kinds of rows in the two batches, so it is gathered in both
    assert (cell.gathers, cell.forward.written) == (2, 2 * 3 * ROW)
    assert explanation.stats.executor == "planned"


def test_the_rung_counts_views_of_consecutive_rows() -> None:
    """A type that is not captured reads consecutive rows, or one row for all, where they lie."""

    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.step = linear(), Of(lambda m, a: StraightThrough.apply(a))

        def forward(self, x: Tensor) -> Tensor:
            return self.step(self.cell(x))

    explanation, traffic = explained(Chain(), [vector() for _ in range(3)])
    assert {line.rung for line in explanation.types if line.name.startswith("step")} == {"leading"}
    # what the rung returns is copied to where it shall lie, as the gradient that it returns is
    assert traffic["step"] == TypeAccount(
        views=1, gathers=0, forward=Copies(1, 3 * ROW, 3 * ROW), backward=Copies(2, 6 * ROW, 6 * ROW), launches=1 + 3
    )


def test_recording_in_python_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "Recorder", recording.PythonRecorder)
    explanation, _ = explained(Trees(), balanced_and_not())
    assert explanation.warnings[0].startswith("calls are recorded in Python")
