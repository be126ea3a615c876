"""The law for cells of every kind: batched values and gradients are those of the per-sample loop, call after call."""

from __future__ import annotations

import contextlib
import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import pytest
import torch
from tests.batching.cell_modules import Noisy, Of, linear
from tests.batching.random_cells import CASES, NOISE, Case, Net, samples
from tests.batching.view.same import assert_close, assert_close_gradient, weighted_sum
from torch import nn
from torch.utils import _pytree as pytree

import bale
from bale.batching.api import EXECUTORS

SIZES = (5, 1, 13, 5)  # the last call repeats the structures of the first
TOLERANCE = {torch.float64: (1e-10, 1e-10), torch.float32: (1e-5, 1e-4), torch.bfloat16: (4 * 2**-7, 16 * 2**-7)}
SEVERAL_POLICIES = ("lstm cell", "matrices and vectors", "tree lstm", "embedding and a layer", "batch norm in training")


# Not autouse: a test of one executor would run once for each.
@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> str:
    return request.param


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def twins(make: Callable[[], nn.Module], training: bool = True) -> tuple[nn.Module, nn.Module]:
    """The same model twice: one to batch, one for the loop, whose buffers then change alike."""
    made = []
    for _ in range(2):
        torch.manual_seed(3)
        made.append(make().train(training))
    return made[0], made[1]


def trained(model: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters with gradients, those that no module has registered among them."""
    found = dict(model.named_parameters())
    for name, module in model.named_modules():
        found |= {f"{name}.{k}": v for k, v in vars(module).items() if isinstance(v, nn.Parameter)}
    return {name: parameter for name, parameter in found.items() if parameter.requires_grad}


def gradients(outputs: Any, model: nn.Module, given: Any) -> dict[str, torch.Tensor | None]:
    sources = trained(model)
    inputs = [leaf for leaf in pytree.tree_leaves(given) if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
    sources |= {f"input {k}": leaf for k, leaf in enumerate(inputs)}
    found = torch.autograd.grad(weighted_sum(outputs), list(sources.values()), allow_unused=True)
    return dict(zip(sources, found, strict=True))


def assert_equal_runs(
    got: Any, wanted: Any, models: tuple[nn.Module, nn.Module], given: Any, precision: torch.dtype
) -> None:
    relative, gradient_relative = TOLERANCE[precision]
    flat, nesting = pytree.tree_flatten(got)
    flat_wanted, nesting_wanted = pytree.tree_flatten(wanted)
    assert nesting == nesting_wanted
    for k, (out, want) in enumerate(zip(flat, flat_wanted, strict=True)):
        if not isinstance(want, torch.Tensor):
            assert out == want
            continue
        assert out.requires_grad == want.requires_grad
        assert_close(out, want, relative, f"output {k}")
    found, expected = gradients(got, models[0], given), gradients(wanted, models[1], given)
    for name, want in expected.items():
        assert_close_gradient(found[name], want, gradient_relative, f"gradient of {name}")
    for (name, buffer), (_, want) in zip(models[0].named_buffers(), models[1].named_buffers(), strict=True):
        assert_close(buffer, want, relative, f"buffer {name}")


def assert_law(
    cases: list[Case],
    executor: str,
    policies: Sequence[str] = ("auto",),
    dtype: torch.dtype = torch.float64,
    autocast: bool = False,
) -> bale.Batched:
    with default_dtype(dtype):
        model, single = twins(lambda: Net(cases), cases[0].training)
        policy = policies[0]
        # one batched model for all policies, which find the types that the first made
        batched = bale.batch(
            model, executor=executor, policy=lambda graph: bale.POLICIES[policy](graph), check="always"
        )
        for (number, size), policy in product(enumerate(SIZES), policies):  # noqa: B007  (the lambda reads it)
            given = samples(number % 3, size, numbers=number)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                got, wanted = batched(given), [single(sample) for sample in given]
            assert_equal_runs(got, wanted, (model, single), given, torch.bfloat16 if autocast else dtype)
            change(model)
            change(single)
    return batched


def change(model: nn.Module) -> None:
    """A step of training, in a way that no version counter sees."""
    for parameter in {id(p): p for p in [*model.parameters(), *trained(model).values()]}.values():
        parameter.data.mul_(0.9)


def test_there_are_many_cells() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize("name", CASES)
def test_float64(name: str, executor: str) -> None:
    case = CASES[name]
    batched = assert_law([case], executor)
    descended = [path for path in batched.registry.descended if path.startswith(("leaf", "cells"))]
    assert bool(descended) == case.python, batched.registry.descended


# Those that autocast takes partly to bfloat16 take turns: in float32, under autocast, in float64 only. Only the planned
# executor has code of its own for float32.
@pytest.mark.parametrize("name", [name for k, name in enumerate(CASES) if k % 3 == 1 or not CASES[name].autocast])
def test_float32(name: str) -> None:
    assert_law([CASES[name]], "planned", dtype=torch.float32)


@pytest.mark.parametrize("name", [name for name in list(CASES)[::3] if CASES[name].autocast])
def test_autocast(name: str) -> None:
    assert_law([CASES[name]], "planned", dtype=torch.float32, autocast=True)


@pytest.mark.parametrize("name", SEVERAL_POLICIES)
def test_every_policy(name: str, executor: str) -> None:
    assert_law([CASES[name]], executor, list(bale.POLICIES))


@pytest.mark.parametrize("seed", range(6))
def test_several_cells_in_one_model(seed: int, executor: str) -> None:
    rng = random.Random(seed)
    plain = [case for case in CASES.values() if case.vector and case.training]
    assert_law(rng.sample(plain, 4), executor, [rng.choice(list(bale.POLICIES))])


DEFAULT_DTYPE = {
    "a number times a whole number": lambda m, x: m.cell(x).argmax() * 0.1,
    "what a cell returns": lambda m, x: m.line(m.cell(x)).dtype,
}


@pytest.mark.parametrize("name", DEFAULT_DTYPE)
def test_another_default_dtype(name: str, executor: str) -> None:
    model = Of(DEFAULT_DTYPE[name], cell=nn.Embedding(5, 3), line=Of(lambda m, x: x.argmax() + torch.linspace(0, 1, 3)))
    batched, word = bale.batch(model, executor=executor), torch.tensor(2)
    for dtype in (torch.float32, torch.float64):
        with default_dtype(dtype):
            (got,), want = batched([word]), model(word)
            if isinstance(want, torch.Tensor):
                assert_close(got, want)
            else:
                assert got == want


# Random cells, given equal draws.


class Given(nn.Module):
    """Hands out what was drawn before, in order."""

    def __init__(self, masks: list[torch.Tensor]) -> None:
        super().__init__()
        self.masks = iter(masks)

    def forward(self, ones: torch.Tensor) -> torch.Tensor:
        return next(self.masks)


class NoisyNet(nn.Module):
    """A chain of random cells; returns every state and every mask."""

    def __init__(self, draw: nn.Module) -> None:
        super().__init__()
        self.leaf, self.cell = linear(), Noisy(draw)

    def forward(self, sample: Any) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        _, vectors, _ = sample
        h, states, masks = self.leaf(vectors[0]), [], []
        for vector in vectors:
            h, mask = self.cell(h, vector)
            states.append(h)
            masks.append(mask)
        return states, masks


@pytest.mark.parametrize("name", NOISE)
def test_random_cells_given_equal_draws(name: str, executor: str) -> None:
    with default_dtype(torch.float64):
        model, single = twins(lambda: NoisyNet(NOISE[name]()))
        batched = bale.batch(model, executor=executor, check="always")
        for size in SIZES:
            given = samples(zlib.crc32(name.encode()), size)
            got = batched(given)
            masks = [mask.detach() for _, drawn in got for mask in drawn]
            assert len({tuple(mask.tolist()) for mask in masks}) > 1, "every call has the same mask"
            single.cell.draw = Given(masks)
            wanted = [single(sample) for sample in given]
            assert_equal_runs([s for s, _ in got], [s for s, _ in wanted], (model, single), given, torch.float64)
