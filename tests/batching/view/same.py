"""The law as one assertion: a batched model equals the per-sample loop, in values and in gradients."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import bale
from bale.errors import BaleError

RELATIVE = 1e-10  # of the tensor's largest magnitude, in float64
SMALL = 1e-3  # magnitudes below it count as this one, so that gradients that cancel may leave rounding behind


@dataclass(frozen=True)
class Observed:
    """The flat outputs of all samples, how they nest, and the gradients of one weighted sum of them."""

    outputs: list[Any]
    nesting: Any
    gradients: dict[str, torch.Tensor | None]


# All policies are asked in test_law.py and test_models_batched.py; these differ most in what they make of a graph.
DIFFERENT = ("depth", "agenda", "sufficient", "auto")


def assert_same(
    model: nn.Module,
    samples: Sequence[Any],
    *,
    kwargs: dict[str, Any] | None = None,
    relative: float = RELATIVE,
    gradient_relative: float | None = None,
    **options: Any,
) -> bale.Batched:
    """Assert that `bale.batch(model, **options)` is the loop over `samples`, for `DIFFERENT` policies or the one given.

    Returns the batched model after its last call. The model must be free of side effects: it runs once per policy.
    """
    kwargs = kwargs or {}
    star = options.get("star", False)
    policies = [options.pop("policy")] if "policy" in options else DIFFERENT
    wanted = observe(
        lambda: [model(*s, **kwargs) if star else model(s, **kwargs) for s in samples], model, samples, kwargs
    )
    current = policies[0]
    options.setdefault("check", "always")
    # one batched model for all policies: the first call makes the types, the others find them made
    batched = bale.batch(model, policy=lambda graph: bale.POLICIES[current](graph), **options)
    for current in policies:
        got = observe(lambda: batched(samples, **kwargs), model, samples, kwargs)
        try:
            assert_observed(got, wanted, relative, gradient_relative or relative)
        except AssertionError as error:
            error.add_note(f"policy {current}")
            raise
        given = pytree.tree_leaves([samples, kwargs, list(model.parameters())])
        assert_identities(got.outputs, wanted.outputs, given)
    return batched


def observe(run: Callable[[], Any], model: nn.Module, samples: Any, kwargs: Any = None) -> Observed:
    """Run under a fixed seed; gradients of parameters and of the tensors that the samples and arguments hold."""
    torch.manual_seed(0)
    outputs, nesting = pytree.tree_flatten(run())
    sources = dict(model.named_parameters())
    for k, leaf in enumerate(pytree.tree_leaves([samples, kwargs])):
        if isinstance(leaf, torch.Tensor) and leaf.requires_grad:
            sources[f"input {k}"] = leaf
    sources = {name: tensor for name, tensor in sources.items() if tensor.requires_grad}
    loss = weighted_sum(outputs)
    if loss is None or not sources:
        return Observed(outputs, nesting, dict.fromkeys(sources))
    found = torch.autograd.grad(loss, list(sources.values()), allow_unused=True)
    return Observed(outputs, nesting, dict(zip(sources, found, strict=True)))


def weighted_sum(outputs: Any) -> torch.Tensor | None:
    """A scalar that depends on every element of every output that has gradients, each with a weight of its own."""
    total = None
    for k, leaf in enumerate(pytree.tree_leaves(outputs)):
        if isinstance(leaf, torch.Tensor) and leaf.requires_grad:
            weight = torch.rand(leaf.shape, generator=torch.Generator().manual_seed(k), dtype=torch.float64) + 0.5
            part = (leaf.double() * weight).sum()
            total = part if total is None else total + part
    return total


def assert_observed(got: Observed, wanted: Observed, relative: float, gradient_relative: float) -> None:
    assert got.nesting == wanted.nesting
    for k, (out, want) in enumerate(zip(got.outputs, wanted.outputs, strict=True)):
        if isinstance(want, torch.Tensor):
            assert type(out) is type(want), f"output {k} is a {type(out).__name__}"
            assert out.requires_grad == want.requires_grad, f"output {k}: requires_grad is {out.requires_grad}"
            assert_close(out, want, relative, f"output {k}")
        else:
            assert type(out) is type(want) and out == want, f"output {k}: {out!r} is not {want!r}"
    assert got.gradients.keys() == wanted.gradients.keys()
    for name, want in wanted.gradients.items():
        assert_close_gradient(got.gradients[name], want, gradient_relative, f"gradient of {name}")


def assert_close_gradient(
    out: torch.Tensor | None, want: torch.Tensor | None, relative: float = RELATIVE, what: str = "gradient"
) -> None:
    """No gradient and a gradient of zeros are alike here."""
    if out is None or want is None:
        some = want if out is None else out
        assert some is None or not some.any(), f"{what}: {'none' if out is None else 'some'} where the loop differs"
    else:
        assert_close(out, want, relative, what)


def assert_close(out: torch.Tensor, want: torch.Tensor, relative: float = RELATIVE, what: str = "tensor") -> None:
    assert out.shape == want.shape, f"{what}: shape {tuple(out.shape)} is not {tuple(want.shape)}"
    assert out.dtype == want.dtype, f"{what}: {out.dtype} is not {want.dtype}"
    assert out.device == want.device, f"{what}: on {out.device}, not {want.device}"
    if not (want.is_floating_point() or want.is_complex()):
        assert torch.equal(out, want), f"{what}: {out} is not {want}"
        return
    out, want = out.detach(), want.detach()
    finite = want[torch.isfinite(want)].abs()
    allowed = relative * max(float(finite.max()) if finite.numel() else 0.0, SMALL)
    assert torch.allclose(out, want, rtol=0.0, atol=allowed, equal_nan=True), (
        f"{what}: differs by {(out - want).abs().max().item():.2g}, allowed {allowed:.2g}\n{out}\n{want}"
    )


def assert_all_close(got: Any, wanted: Any, relative: float = RELATIVE) -> None:
    """Two pytrees of tensors are equal."""
    out, nesting = pytree.tree_flatten(got)
    want, expected = pytree.tree_flatten(wanted)
    assert nesting == expected
    for k, (a, b) in enumerate(zip(out, want, strict=True)):
        assert_close(a, b, relative, f"leaf {k}")


def assert_identities(got: Sequence[Any], wanted: Sequence[Any], given: Sequence[Any]) -> None:
    """What the loop returns as the very object that it was given, or twice, the batched model does too."""
    by_id = {id(thing): thing for thing in given if isinstance(thing, torch.Tensor)}
    first: dict[int, int] = {}
    for k, (out, want) in enumerate(zip(got, wanted, strict=True)):
        if not isinstance(want, torch.Tensor):
            continue
        if id(want) in by_id:
            assert out is want, f"output {k} is a copy of what was given"
        earlier = first.setdefault(id(want), k)
        assert out is got[earlier], f"output {k} is the same tensor as output {earlier} in the loop"


def assert_same_or_error(model: nn.Module, samples: Sequence[Any], *says: str, **options: Any) -> None:
    """Either the law holds, or a BaleError says what is wrong, with each of `says` in its message. Never silence."""
    try:
        assert_same(model, samples, **options)
    except BaleError as error:
        for part in says:
            assert part in str(error), f"{part!r} is not in: {error}"


def in_child(function: Callable[[], Any]) -> None:
    """Run `function` in a forked process, so that a crash of the interpreter is a failure here and not the end."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            function()
        except BaseException:
            os.write(writer, traceback.format_exc()[-4000:].encode())
            os._exit(1)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        report = pipe.read()
    _, status = os.waitpid(child, 0)
    assert not os.WIFSIGNALED(status), f"the process died of signal {os.WTERMSIG(status)}"
    assert status == 0, report


def line_of(file: str, marker: str) -> int:
    """The number of the one line of `file` that ends in the comment `# <- marker`."""
    lines = [k for k, line in enumerate(Path(file).read_text().splitlines(), 1) if line.endswith(f"# <- {marker}")]
    assert len(lines) == 1, f"{len(lines)} lines of {file} are marked {marker}"
    return lines[0]


@contextmanager
def raises_at(kind: type[Exception], file: str, marker: str, sample: int) -> Iterator[pytest.ExceptionInfo[Any]]:
    """The block raises `kind`, whose message names the sample and the marked line of `file`."""
    with pytest.raises(kind) as caught:
        yield caught
    message = str(caught.value)
    assert f"sample {sample}" in message, message
    assert f"{Path(file).name}:{line_of(file, marker)}" in message, message
