"""The bytes that `account` counts from a plan are those that copies write when the plan runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.batching.cell_modules import WIDTH, Of, StraightThrough, linear
from tests.batching.copies import counting
from tests.batching.programs import OPERATIONS, Interpreter, Structure, features, structures
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import bale
from bale.batching.engine import run_samples
from bale.batching.execute import memory
from bale.batching.execute.account import Account, account
from bale.models import BiLSTMTagger

REDUCED_BY_THE_RUNG = ("max", "amax")  # a maximum is found by torch in more than one pass, none of them a copy


def assert_counted(model: nn.Module, samples: list[Any]) -> Account:
    """Run a call forward and backward, and compare what is written with its account, which is returned."""
    batched = bale.batch(model, capture="eager", check="off")
    with counting() as copied:
        result = run_samples(batched.inner, samples, {}, batched.settings, batched.registry)
        assert result.stats.executor == "planned"
        counted = account(result.call)
        assert sum(t.forward.written for t in counted.types) == copied.take()
        outputs = [out for out in pytree.tree_leaves(result.outputs) if isinstance(out, Tensor) and out.requires_grad]
        if outputs:
            torch.stack([out.sum() for out in outputs]).sum().backward()
        assert sum(t.backward.written for t in counted.types) == copied.take()
    return counted


@settings(max_examples=20)
@given(
    grad=st.booleans(),
    program=st.lists(st.sampled_from([name for name in OPERATIONS if name not in REDUCED_BY_THE_RUNG]), min_size=1,
                     max_size=4).map(tuple),
    given_structures=st.lists(structures(), min_size=1, max_size=3),
    single=st.booleans(),
)  # fmt: skip
def test_what_is_counted_is_what_is_written(
    grad: bool, program: tuple[str, ...], given_structures: list[Structure], single: bool
) -> None:
    model, dtype = Interpreter(program, 0), torch.float32 if single else torch.float64
    samples = [(structure, features(k).to(dtype)) for k, structure in enumerate(given_structures)]
    with torch.set_grad_enabled(grad):
        assert_counted(model.to(dtype), samples)


def test_operands_of_early_products_are_copied_by_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, sentences = BiLSTMTagger(9, 3, 4, 4), [torch.randint(9, (n,)) for n in (3, 5, 2, 4)]
    batched, called = bale.batch(model, capture="eager", check="off", merge=False), []
    for name in ("take", "take_pieces"):
        function = getattr(memory, name)
        monkeypatch.setattr(memory, name, lambda *given, f=function, n=name: called.append(n) or f(*given))
    counted = account(run_samples(batched.inner, sentences, {}, batched.settings, batched.registry).call)
    assert sum(t.gathers for t in counted.types) == len(called)
    assert called.count("take_pieces") == 4  # a type for first steps and one for others, from each end


class Matrices(nn.Module):
    """A matrix is read as a whole and row by row: its gradients come from two classes of rows."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.add = linear(WIDTH, 2 * WIDTH), Of(lambda m, a, b: (a * b).tanh())
        self.norm = Of(lambda m, a: a * a.sum())

    def forward(self, x: Tensor) -> Tensor:
        rows = self.wide(x).view(2, WIDTH)
        left, right = self.norm(rows).unbind(0)
        return self.add(left, self.add(right, rows[0]))


class Rungs(nn.Module):
    """Types that are not captured, whose results must be copied to where they lie."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.round = linear(), Of(lambda m, a: StraightThrough.apply(a))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.round(self.first(x))
        return torch.stack([self.round(x), self.round(x * 2)]).mean(0)


@pytest.mark.parametrize("make", [Matrices, Rungs])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_of_several_classes_and_rungs(make: type[nn.Module], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    assert_counted(make().to(dtype), [torch.randn(WIDTH, dtype=dtype) for _ in range(5)])
