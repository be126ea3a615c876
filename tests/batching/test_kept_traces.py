"""A trace that is kept gives what the samples themselves give: whole, by key, joined, and only where it still may."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import bale
from bale.batching.keep import MAX_ORIGINS
from bale.data import random_functions
from bale.errors import BaleError, TraceError
from bale.models import BiLSTMTagger, ChildSumTreeLSTM


class Tree(nn.Module):
    """Words at the leaves, a sum and a number at the nodes; returns a structure, not a tensor."""

    def __init__(self):
        super().__init__()
        self.embed, self.cell, self.head = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.shape = "plain"

    def encode(self, tree):
        if isinstance(tree, int):
            return self.embed(torch.tensor(tree))
        return torch.tanh(self.cell(torch.stack([self.encode(child) for child in tree]).sum(0))) * float(len(tree))

    def forward(self, tree):
        state = self.encode(tree)
        return {"logits": self.head(state), "states": (state, state), "leaf": isinstance(tree, int)}


TREES = [3, (1, 2), ((1, 2), 4), (3, (1, (2, 5)), 6), (1, 2), ((4, 4), (1, 2))]
trees = st.recursive(st.integers(0, 8), lambda inner: st.lists(inner, min_size=1, max_size=3).map(tuple), max_leaves=8)


CALLS = []


class Counted(Tree):
    def forward(self, tree):
        note(tree)
        return super().forward(tree)


def note(tree):
    CALLS.append(tree)


def fresh(model_class=Tree, **options):
    torch.manual_seed(0)
    return bale.batch(model_class().double(), **options)


def losses(outputs):
    return sum((out["logits"].sum() + out["states"][0].square().sum() for out in outputs), torch.zeros(()))


def gradients(batched, outputs):
    batched.zero_grad()
    losses(outputs).backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in batched.parameters()]


def assert_same(batched, samples, outputs):
    wanted = [batched.inner(sample) for sample in samples]
    torch.testing.assert_close(outputs, wanted, rtol=1e-10, atol=1e-12)
    got = gradients(batched, outputs)
    torch.testing.assert_close(got, gradients(batched, wanted), rtol=1e-10, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.lists(trees, min_size=1, max_size=6), st.data())
def test_traces_by_key_and_joined_ones_give_what_the_samples_give(samples, data):
    batched = BATCHED
    assert_same(batched, samples, batched(batched.trace(samples)))
    assert_same(batched, samples, batched(batched.trace(samples, key=repr)))
    order = data.draw(st.permutations(range(len(samples))))
    single = [batched.trace([sample], key=repr) for sample in samples]
    assert_same(batched, [samples[k] for k in order], batched([single[k] for k in order]))


BATCHED = fresh()


@pytest.mark.parametrize("executor", ["planned", "reference"])
def test_a_trace_runs_as_often_as_one_likes_and_reads_the_weights_of_now(executor):
    batched = fresh(executor=executor)
    trace = batched.trace(TREES)
    for _ in range(3):
        assert_same(batched, TREES, batched(trace))
        with torch.no_grad():
            for parameter in batched.parameters():
                parameter.mul_(0.9)


def test_samples_of_equal_keys_are_traced_once():
    CALLS.clear()
    batched = fresh(Counted)
    batched.trace(TREES, key=repr)
    assert len(CALLS) == len(set(map(repr, TREES)))
    batched.trace(TREES[::-1], key=repr)
    assert len(CALLS) == len(set(map(repr, TREES)))


def test_a_joined_trace_merges_what_its_samples_have_in_common():
    batched = fresh()
    batched([batched.trace([(1, 2)]), batched.trace([(1, 2)])])
    joined = batched.last
    batched([(1, 2), (1, 2)])
    assert joined.nodes == batched.last.nodes
    assert joined.batches == batched.last.batches


def test_merging_by_value_across_traces_tells_numbers_apart():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

        def forward(self, number):
            return self.weight * number

    batched = fresh(Scaled)
    numbers = [1.0, 1, 2.0, True, 0.0, -0.0, float("nan"), 1.0, -1.0, 2**40]
    outputs = batched([batched.trace([number]) for number in numbers])
    torch.testing.assert_close(
        outputs, [batched.inner(n) for n in numbers], rtol=0, atol=0, equal_nan=True, check_dtype=True
    )
    assert torch.signbit(outputs[5]).all() and not torch.signbit(outputs[4]).any()
    assert batched.last.nodes == 9  # only 1.0 came twice


@pytest.mark.parametrize("workload", ["tagger", "child-sum"])
def test_ragged_and_folded_models(workload):
    torch.manual_seed(0)
    if workload == "tagger":
        model = BiLSTMTagger(9, 3, 4, 4, layers=2).double()
        samples = [torch.randint(9, (n,)) for n in (3, 5, 1, 5)]
    else:
        model = ChildSumTreeLSTM(30, 3, 4).double()
        samples = [tree for tree, _ in random_functions(5, 0, kinds=30)]
    batched = bale.batch(model)
    traces = [batched.trace([sample]) for sample in samples]
    outputs, wanted = batched(traces), [model(sample) for sample in samples]
    torch.testing.assert_close(outputs, wanted, rtol=1e-10, atol=1e-12)
    got = torch.autograd.grad(sum(out.square().sum() for out in outputs), list(model.parameters()))
    want = torch.autograd.grad(sum(out.square().sum() for out in wanted), list(model.parameters()))
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


def test_a_plan_is_used_again_where_only_constants_change():
    calls = []

    def policy(graph):
        calls.append(len(graph))
        return bale.POLICIES["depth"](graph)

    batched = fresh(policy=policy)
    for shift in range(3):
        samples = [((1 + shift, 8), 7), (5, 4 + 2 * (shift % 2))]
        assert_same(batched, samples, batched(samples))
    assert len(calls) == 1
    batched([((1, 2), (3, 4)), (5, 6)])
    assert len(calls) == 2
    unplanned = fresh(policy=policy, reuse_plans=False)
    unplanned(TREES)
    unplanned(TREES)
    assert len(calls) == 4


def test_stacked_outputs():
    class Head(Tree):
        def forward(self, tree):
            return self.head(self.encode(tree))

    batched = fresh(Head, stacked=True)
    assert batched(batched.trace(TREES)).shape == (len(TREES), 2)


def test_keyword_arguments_are_those_of_the_trace():
    class Scaled(Tree):
        def forward(self, tree, scale=1.0):
            return self.head(self.encode(tree)) * scale

    batched = fresh(Scaled)
    twice, once = batched.trace(TREES, key=repr, scale=2.0), batched.trace(TREES, key=repr)
    torch.testing.assert_close(batched(twice), [2 * out for out in batched(once)])
    with pytest.raises(BaleError, match="scale: a trace has its keyword arguments"):
        batched(once, scale=2.0)


# What no longer holds.


def change_training(model):
    model.eval()


def change_attribute(model):
    model.shape = "other"


def change_parameter(model):
    model.cell.weight = nn.Parameter(torch.zeros(4, 4).double())


def freeze(model):
    model.cell.weight.requires_grad_(False)


def add(model):
    model.extra = nn.Linear(1, 1)


CHANGES = {
    change_training: "`training`",
    change_attribute: "the model itself has another `shape`",
    change_parameter: "cell has another `weight`",
    freeze: "cell has another `weight`",
    add: "something was added",
}


@pytest.mark.parametrize(("change", "message"), CHANGES.items(), ids=[change.__name__ for change in CHANGES])
def test_a_model_that_changed_makes_traces_invalid(change, message):
    batched = fresh()
    trace = batched.trace(TREES, key=repr)
    change(batched.inner)
    with pytest.raises(TraceError, match=message):
        batched(trace)
    assert_same_values(batched, batched(batched.trace(TREES, key=repr)))


def assert_same_values(batched, outputs):
    torch.testing.assert_close(outputs, [batched.inner(tree) for tree in TREES], rtol=1e-10, atol=1e-12)


def test_changing_back_finds_the_old_traces():
    CALLS.clear()
    batched = fresh(Counted)
    for _ in range(3):
        for mode in (True, False):
            batched.train(mode)
            assert_same_values(batched, run_all(batched))
    distinct = len(set(map(repr, TREES)))
    assert len(CALLS) == 2 * distinct + 6 * len(TREES)  # the loops of assert_same_values among them


def run_all(batched):
    return batched(batched.trace(TREES, key=repr))


def test_few_ways_of_calling_are_kept():
    batched = fresh()
    for k in range(MAX_ORIGINS + 3):
        batched.inner.shape = str(k)
        batched.trace(TREES[:2], key=repr)
    assert len(batched.registry.kept) == MAX_ORIGINS


def test_gradients_and_modes():
    batched = fresh()
    with torch.no_grad():
        without = batched.trace(TREES)
        assert_same_values(batched, batched(without))
    with pytest.raises(TraceError, match="without gradients"):
        batched(without)
    trace = batched.trace(TREES)
    with torch.no_grad():
        outputs = batched(trace)
        assert not any(out["logits"].requires_grad for out in outputs)
        assert_same_values(batched, outputs)
    with torch.inference_mode():
        assert_same_values(batched, batched(trace))
    with pytest.raises(TraceError, match="autocast"), torch.autocast("cpu", torch.bfloat16):
        batched(trace)


def test_a_sample_written_in_place_after_its_trace():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

        def forward(self, x):
            return self.weight * x

    batched = fresh(Scale)
    sample = torch.ones(2).double()
    trace = batched.trace([sample])
    batched(trace)
    sample.add_(1)
    with pytest.raises(TraceError, match=r"sample 0: a tensor .* was modified in place"):
        batched(trace)


class Writes(Tree):
    def forward(self, tree):
        self.latest = super().forward(tree)
        return self.latest


class Collects(Tree):
    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, tree):
        out = super().forward(tree)
        self.seen.append(out["logits"])
        return out


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x):
        return self.norm(x)


@pytest.mark.parametrize(
    ("model_class", "samples", "message"),
    [
        (Writes, TREES, "writes to the attribute `latest`"),
        (Collects, TREES, "a list, dict or set"),
        (Normed, [torch.randn(3, 2).double()], "norm .* writes to its buffers"),
    ],
)
def test_effects_are_refused_and_nothing_stays_behind(model_class, samples, message):
    batched = fresh(model_class)
    with pytest.raises(TraceError, match=message):
        batched.trace(samples)
    assert not hasattr(batched.inner, "latest")
    assert not getattr(batched.inner, "seen", [])
    batched(samples)  # the next call works


def test_one_sample_that_reads_from_another_cannot_be_kept_alone():
    class Leaks(Tree):
        def forward(self, tree):
            if not memory:
                memory.append(self.encode(tree))
            return self.head(memory[0])

    memory = []
    batched = fresh(Leaks)
    with pytest.raises(TraceError, match="sample 1 uses a lazy value that another sample's forward made"):
        batched.trace(TREES[:2], key=repr)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda b: b.trace(TREES, key=lambda tree: [tree]), r"sample 0: key\(sample\) returned a list"),
        (lambda b: b([b.trace(TREES), TREES[1]]), "element 1 is a tuple among traces"),
        (lambda b: b.trace("abc"), "takes a sequence of samples"),
    ],
)
def test_wrong_use(call, message):
    batched = fresh()
    with pytest.raises(BaleError, match=message):
        call(batched)
    assert_same_values(batched, batched(TREES))


def test_no_samples():
    batched = fresh()
    assert batched(batched.trace([])) == []
    assert batched([batched.trace([]), batched.trace(TREES[:1])])[0]["leaf"]
    assert len(batched.trace([])) == 0


def test_it_prints_itself_and_is_made_of_arrays():
    trace = fresh().trace(TREES)
    assert repr(trace) == f"Trace of 6 samples: {trace.graph}"
    assert trace.pieces[0].stream.dtype == np.int64
