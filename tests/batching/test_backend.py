"""Backends give the results of the per-sample loop; products in bfloat16 are off by no more than is stated."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import bale
from bale.batching.cells import half
from bale.batching.cells.backend import Backend
from bale.batching.cells.rule import machine_rule, rule_path
from bale.batching.cells.shared import shared
from bale.batching.tune import tune
from bale.data import random_functions
from bale.errors import BaleError
from bale.models import BiLSTMTagger, ChildSumTreeLSTM

ALWAYS = bale.Rule(packed_from=0, shared_from=0, half_from=0)


def relative(got, want):
    return (got - want).abs().max().item() / want.abs().max().item()


def models(hidden):
    torch.manual_seed(0)
    functions = [tree for tree, _ in random_functions(6, 0, kinds=30)]
    sentences = [torch.randint(9, (n,)) for n in (3, 5, 1, 5, 4)]
    return (ChildSumTreeLSTM(30, 3, hidden), functions), (BiLSTMTagger(9, 3, hidden, hidden), sentences)


def run(batched, samples):
    """The outputs of the third call, flat, and the gradient of a weighting of them."""
    for _ in range(3):
        batched.zero_grad()
        outputs = torch.cat([out.flatten() for out in batched(samples)])
        (outputs * torch.linspace(-1, 1, outputs.numel())).sum().backward()
    return outputs.detach(), torch.cat([p.grad.flatten() for p in batched.parameters()])


# On the CPU "auto" is "numba": one model shows it.
@pytest.mark.parametrize(
    ("which", "backend"), [(0, "auto"), (0, "numba"), (0, "torch"), (1, "numba"), (1, "torch")],
    ids=["tree-auto", "tree-numba", "tree-torch", "tagger-numba", "tagger-torch"],
)  # fmt: skip
def test_every_backend_gives_the_same(which, backend):
    model, samples = models(8)[which]
    batched = bale.batch(model, backend=backend, check="always")
    outputs, gradient = run(batched, samples)
    wanted, gradient_wanted = run(bale.batch(model, executor="reference"), samples)
    assert relative(outputs, wanted) < 1e-5
    assert relative(gradient, gradient_wanted) < 1e-4
    compiled = any("kernel" in cell.emitted.source for cell in batched.registry.cell_types() if cell.emitted)
    assert compiled == (backend != "torch")


@pytest.mark.parametrize("which", [0, 1], ids=["tree", "tagger"])
def test_bfloat16_products_are_near_and_not_the_same(which):
    model, samples = models(32)[which]
    wanted, gradient_wanted = run(bale.batch(model, executor="reference"), samples)
    outputs, gradient = run(bale.batch(model, products="bfloat16", rule=ALWAYS, check="always"), samples)
    assert 1e-5 < relative(outputs, wanted) < 0.02
    assert 1e-5 < relative(gradient, gradient_wanted) < 0.05
    rare = bale.Rule(half_from=1 << 30)
    assert relative(run(bale.batch(model, products="bfloat16", rule=rare), samples)[0], wanted) < 1e-5


def test_bfloat16_leaves_float64_alone():
    model, samples = models(8)[0]
    model.double()
    wanted, _ = run(bale.batch(model), samples)
    outputs, _ = run(bale.batch(model, products="bfloat16", rule=ALWAYS), samples)
    assert torch.equal(outputs, wanted)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 70), st.integers(1, 9), st.integers(0, 2**31), st.booleans())
def test_the_stated_error_of_a_product_holds(rows, inner, outer, seed, with_start):
    generator = torch.Generator().manual_seed(seed)
    x, w, start = (torch.randn(shape, generator=generator) for shape in ((rows, inner), (inner, outer), (rows, outer)))
    out = torch.empty(rows, outer)
    exact = x.double() @ w.double()
    terms = x.abs().double() @ w.abs().double()
    allowed = (2**-7 + 2**-16) * terms + 2**-8 * exact.abs() + 1e-6 * (1 + terms + start.abs())
    if with_start:
        half.addmm(start, x, w, out)
        assert ((out - start).double() - exact).abs().le(allowed).all()
        half.addmm(out.copy_(start), x, w, out)
        assert ((out - start).double() - exact).abs().le(allowed).all()
    else:
        half.mm(x, w, out)
        assert (out.double() - exact).abs().le(allowed).all()
        assert (half.whole_mm(x, w).double() - exact).abs().le(allowed).all()


def test_kernels_shared_by_threads_give_the_same():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        model, samples = models(16)[0]
        wanted = run(bale.batch(model), samples)
        torch.set_num_threads(3)
        got = run(bale.batch(model, rule=bale.Rule(shared_from=0)), samples)
    finally:
        torch.set_num_threads(before)
    assert relative(got[0], wanted[0]) < 1e-6  # products may be summed in another order
    assert relative(got[1], wanted[1]) < 1e-5


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_sharing_divides_rows_without_gaps(threads):
    before = torch.get_num_threads()
    seen = np.zeros((2, 40), int)

    def kernel(rows, width, array, low, other):
        array[0, low : low + rows] += width
        array[1, other : other + rows] += 1

    try:
        torch.set_num_threads(threads)
        shared(kernel, 2, 0)(23, 5, seen, 4, 9)
        assert (seen[0] == 5 * ((np.arange(40) >= 4) & (np.arange(40) < 27))).all()
        assert (seen[1] == ((np.arange(40) >= 9) & (np.arange(40) < 32))).all()
        shared(kernel, 2, 23 * 5 + 1)(23, 5, seen, 4, 9)  # too few: in one go
        assert seen[0].max() == 10
        torch.set_num_threads(1)
        assert shared(kernel, 2, 0) is kernel
    finally:
        torch.set_num_threads(before)


# The rule.


def test_a_rule_is_saved_and_read(tmp_path):
    rule = bale.Rule(packed_from=3, half_from=7, measured={"threads": 2})
    rule.save(tmp_path / "new" / "rule.json")
    assert bale.Rule.load(tmp_path / "new" / "rule.json") == rule


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "rule.json: is not the JSON of a rule"),
        ('{"format": "other"}', 'rule.json: is no rule: expected an object whose "format" is "bale rule"'),
        ('{"format": "bale rule", "version": 9}', "this bale reads version 1: measure again with `bale tune`"),
        ('{"format": "bale rule", "version": 1}', "rule.json: packed_from is missing"),
        (
            json.dumps({"format": "bale rule", "version": 1, "packed_from": -1, "packed_up_to": 1, "shared_from": 1,
                        "half_from": 1, "measured": {}}),
            "rule.json: packed_from is -1; expected a whole number",
        ),
    ],
)  # fmt: skip
def test_a_file_that_is_no_rule(tmp_path, text, message):
    (tmp_path / "rule.json").write_text(text)
    with pytest.raises(BaleError, match=message):
        bale.Rule.load(tmp_path / "rule.json")
    with pytest.raises(BaleError, match=r"none\.json: cannot be read"):
        bale.Rule.load(tmp_path / "none.json")


def test_the_machines_rule_is_the_default_of_batch(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    machine_rule.cache_clear()
    try:
        assert bale.batch(nn.Linear(1, 1)).settings.backend == Backend()
        machine_rule.cache_clear()
        bale.Rule(packed_from=5).save(rule_path())
        assert bale.batch(nn.Linear(1, 1)).settings.backend.rule.packed_from == 5
        assert (
            bale.batch(nn.Linear(1, 1), rule=bale.Rule()).settings.backend.rule.packed_from == bale.Rule().packed_from
        )
    finally:
        machine_rule.cache_clear()


def test_tuning_measures_every_number():
    seen = []
    rule, tried = tune(repeats=1, progress=seen.append)
    assert seen == ["packed_from", "packed_up_to", "shared_from", "half_from"]
    assert {each.name for each in tried} >= {"packed_from", "packed_up_to", "half_from"}
    assert rule.measured["repeats"] == 1
    assert all(each.without > 0 and each.with_it > 0 for each in tried)


@pytest.mark.parametrize("option", ["backend", "products"])
def test_unknown_options(option):
    with pytest.raises(BaleError, match=f"{option}='gpu' is unknown; known are"):
        bale.batch(nn.Linear(1, 1), **{option: "gpu"})
