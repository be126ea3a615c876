"""explain says what ran, whichever executor ran it."""

from __future__ import annotations

import pytest
import torch
from tests.batching.test_merge import Norm
from torch import Tensor, nn

import bale


class Twice(nn.Module):
    """Calls one cell on a constant, then on what came of it."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(self.cell(x))


class Nothing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


def samples() -> list[Tensor]:
    return [torch.tensor([k, 1.0]) for k in range(3)]


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize(
    ("cell", "executor"),
    [(nn.Linear(2, 2), "reference"), (Norm(), "planned"), (Norm(), "reference")],
    ids=["asked for", "state is kept", "both"],
)
def test_the_reference_executor_is_explained(
    grad: bool, cell: nn.Module, executor: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with torch.set_grad_enabled(grad):
        explanation = bale.explain(bale.batch(Twice(cell), executor=executor), samples())
    assert explanation.stats.executor == "reference"
    assert sum(line.nodes for line in explanation.types) == explanation.stats.nodes == 6
    assert {line.rung for line in explanation.types} == {"leading" if isinstance(cell, nn.Linear) else "rows"}
    assert all(line.traffic is None for line in explanation.types)  # there is no plan of memory to count
    assert explanation.peak_bytes is None
    printed = capsys.readouterr().out
    assert "executor reference" in printed
    assert "memory for values" not in printed and "launches" not in printed


@pytest.mark.parametrize("executor", ["planned", "reference"])
def test_what_recorded_nothing_is_explained(executor: str) -> None:
    explanation = bale.explain(bale.batch(Nothing(), executor=executor), samples())
    assert (explanation.stats.nodes, explanation.types) == (0, ())
