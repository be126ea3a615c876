"""The law: a batched model equals the per-sample loop, in values and gradients, for any program and any structure."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.batching.programs import OPERATIONS, Interpreter, Structure, features, programs, structures
from torch.utils import _pytree as pytree

import bale


def weighted(outputs: object, scaled: bool = False) -> torch.Tensor:
    """A scalar that depends on every number of the outputs in its own way.

    `scaled`: of each tensor relative to its largest magnitude. The sine of 3e5 has a slope whose error is 3e5 times
    that of its argument: more than the law allows, between any two orders of summation.
    """
    total = torch.zeros((), dtype=torch.float64)
    for k, leaf in enumerate(pytree.tree_leaves(outputs)):
        if isinstance(leaf, torch.Tensor):
            if scaled and leaf.numel():
                leaf = leaf / leaf.detach().abs().max().clamp(min=1)
            total = total + (
                leaf * torch.linspace(1, 2, leaf.numel(), dtype=leaf.dtype).view(leaf.shape)
            ).sin().sum() * (k + 1)
    return total


def gradients(outputs: object, wanted: list[torch.Tensor]) -> list[torch.Tensor | None]:
    total = weighted(outputs, scaled=True)
    if not total.requires_grad:
        return [None] * len(wanted)
    return list(torch.autograd.grad(total, wanted, allow_unused=True))


def assert_close(got: object, want: object, tolerance: float = 1e-10) -> None:
    left, spec = pytree.tree_flatten(got)
    right, other = pytree.tree_flatten(want)
    assert spec == other
    for a, b in zip(left, right, strict=True):
        if not isinstance(b, torch.Tensor):
            assert a == b
            continue
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance * max(1.0, b.abs().max().item() if b.numel() else 1.0))


def assert_law(model: Interpreter, structures: list[Structure], policy: str) -> None:
    assert_equal_runs(model, bale.batch(model, policy=policy, check="always"), structures, (1e-10, 1e-10))


def assert_equal_runs(
    model: Interpreter, batched: bale.Batched, structures: list[Structure], tolerances: tuple[float, float]
) -> None:
    """Within `tolerances` of values and of gradients, relative to each tensor's largest magnitude."""
    dtype = model.start.dtype
    inputs = [features(k).to(dtype).requires_grad_(k % 2 == 0) for k in range(len(structures))]
    samples = list(zip(structures, inputs, strict=True))
    leaves = [*model.parameters(), *(x for x in inputs if x.requires_grad)]
    expected = [model(sample) for sample in samples]
    got = batched(samples)
    assert_close(got, expected, tolerances[0])
    zero = [torch.zeros_like(leaf) for leaf in leaves]
    wanted = [z if g is None else g for g, z in zip(gradients(expected, leaves), zero, strict=True)]
    found = [z if g is None else g for g, z in zip(gradients(got, leaves), zero, strict=True)]
    assert_close(found, wanted, tolerances[1])
    assert batched.last is not None
    assert batched.last.batches >= batched.last.bound


@pytest.mark.parametrize("policy", list(bale.POLICIES))
@given(program=programs(), samples=st.lists(structures(), min_size=1, max_size=4), seed=st.integers(0, 3))
def test_batched_equals_the_loop(policy: str, program: tuple[str, ...], samples: list[Structure], seed: int) -> None:
    assert_law(Interpreter(program, seed), samples, policy)


@pytest.mark.parametrize("operation", OPERATIONS)
@settings(max_examples=5)
@given(samples=st.lists(structures(), min_size=2, max_size=4))
def test_every_operation_alone(operation: str, samples: list[Structure]) -> None:
    assert_law(Interpreter((operation, "linear"), 0), samples, "height")


@functools.cache
def captured(dtype: torch.dtype) -> tuple[Interpreter, bale.Batched]:
    """One model of all operations for all examples, so that each type is captured once, at its first call."""
    model = Interpreter(OPERATIONS, 2).to(dtype)
    return model, bale.batch(model, capture="eager", check="always")


@pytest.mark.parametrize(("dtype", "tolerances"), [(torch.float64, (1e-10, 1e-10)), (torch.float32, (1e-5, 1e-4))])
@settings(max_examples=15)
@given(
    samples=st.lists(structures(), min_size=1, max_size=3),
    kinds=st.lists(st.integers(0, len(OPERATIONS) - 1), min_size=5, max_size=5),
)
def test_captured_code_equals_the_loop_from_the_first_call(
    dtype: torch.dtype, tolerances: tuple[float, float], samples: list[Structure], kinds: list[int]
) -> None:
    """`kinds` are the operations that the five kinds of a drawn structure stand for."""
    model, batched = captured(dtype)
    chosen = [tuple(replace(step, kind=kinds[step.kind]) for step in structure) for structure in samples]
    assert_equal_runs(model, batched, chosen, tolerances)


@settings(max_examples=5)
@given(program=programs(), samples=st.lists(structures(), min_size=1, max_size=3))
def test_policies_give_the_same_numbers(program: tuple[str, ...], samples: list[Structure]) -> None:
    model = Interpreter(program, 1)
    given = [(structure, features(k)) for k, structure in enumerate(samples)]
    results = [bale.batch(model, policy=policy)(given) for policy in bale.POLICIES]
    for result in results[1:]:
        assert_close(result, results[0])


SMOOTH = ("gate", "child_sum", "attention", "select_weight", "in_place", "mixing")


@settings(max_examples=4)
@given(samples=st.lists(structures(), min_size=1, max_size=2))
def test_gradcheck(samples: list[Structure]) -> None:
    batched = bale.batch(Interpreter(SMOOTH, 0))

    def run(*inputs: torch.Tensor) -> torch.Tensor:
        return weighted(batched(list(zip(samples, inputs, strict=True))))

    inputs = [features(k).requires_grad_() for k in range(len(samples))]
    weight = batched.get_parameter("gate.linear.weight")
    assert torch.autograd.gradcheck(lambda w, *x: run(*x), (weight, *inputs), check_batched_grad=False)


@settings(max_examples=4)
@given(samples=st.lists(structures(), min_size=1, max_size=2))
def test_second_derivatives(samples: list[Structure]) -> None:
    model = Interpreter((*SMOOTH, "logsumexp", "max"), 0)
    inputs = [features(k) for k in range(len(samples))]
    given = list(zip(samples, inputs, strict=True))
    parameters = list(model.parameters())

    def second(outputs: object) -> list[torch.Tensor]:
        first = torch.autograd.grad(weighted(outputs), parameters, create_graph=True, allow_unused=True)
        total = sum((g**2).sum() for g in first if g is not None and g.requires_grad)
        if not isinstance(total, torch.Tensor):
            return []
        found = torch.autograd.grad(total, parameters, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]

    assert_close(second(bale.batch(model)(given)), second([model(sample) for sample in given]))
