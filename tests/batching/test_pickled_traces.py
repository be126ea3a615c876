"""A trace travels to another process, or another copy of the model, and gives there what it gives here."""

import copy
import pickle

import pytest
import torch
from tests.batching.test_kept_traces import TREES, Tree, assert_same, fresh
from torch import nn
from torch.utils.data import DataLoader

import bale
from bale.errors import TraceError


def sent(trace):
    return pickle.loads(pickle.dumps(trace))


@bale.cell
def squashed(x, scale):
    return torch.tanh(x) * scale


class Many(nn.Module):
    """Calls of every kind: modules, marked functions and methods, torch functions, properties, constants, numbers."""

    def __init__(self):
        super().__init__()
        self.embed, self.cell = nn.Embedding(9, 4), nn.LSTMCell(4, 4)
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.table = nn.Parameter(torch.randn(2, 4))
        self.register_buffer("shift", torch.randn(4))

    @bale.cell
    def mixed(self, x, y):
        return self.layers[1](x) * y + self.shift

    def forward(self, sample):
        words, features = sample
        rows = self.embed(words)
        h, c = self.cell(features, (self.shift, self.shift))
        states = []
        for k in range(len(words)):
            h, c = self.cell(rows[k], (h, c))
            states.append(self.mixed(h, self.table[k % 2]) + squashed(c, 0.5 * k))
        stacked = torch.stack(states)
        weights = torch.softmax(stacked.sum(-1), 0)
        out = (weights @ stacked) / len(words) + self.layers[0](stacked).mean(0) + stacked.T.sum(-1)
        return torch.cat([out, features * 2, torch.where(out > 0, out, -out)]), stacked


def samples():
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randint(9, (n,), generator=generator), torch.randn(4, generator=generator).double())
        for n in (3, 1, 4, 3, 2)
    ]


@pytest.mark.parametrize("key", [None, id], ids=["whole", "by key"])
def test_every_kind_of_call_is_made_anew_in_another_copy(key):
    here, given = fresh(Many), samples()
    trace = sent(here.trace(given, key=key))
    there = fresh(Many)
    outputs, wanted = there(trace), [here.inner(sample) for sample in given]
    torch.testing.assert_close(outputs, wanted, rtol=1e-10, atol=1e-12)
    got, want = (
        torch.autograd.grad(sum(a.square().sum() + b.sum() for a, b in found), list(model.parameters()))
        for found, model in ((outputs, there), (wanted, here))
    )
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


def test_it_is_bound_here_too_and_travels_on():
    batched = fresh()
    trace = sent(batched.trace(TREES))
    assert_same(batched, TREES, batched(trace))
    assert_same(batched, TREES, batched(sent(trace)))  # without having been run
    assert_same(batched, TREES * 2, batched([trace, batched.trace(TREES)]))  # from here and there
    batched([trace, batched.trace(TREES)])
    together = batched.last
    batched(TREES * 2)
    assert together.nodes == batched.last.nodes  # equal whole numbers merge wherever they come from


def test_types_are_those_of_the_calls_here():
    batched = fresh()
    batched(TREES)
    types = len(batched.registry.types)
    batched(sent(batched.trace(TREES)))
    assert len(batched.registry.types) == types


def test_workers_of_a_data_loader():
    batched = fresh()
    loader = DataLoader(TREES, batch_size=2, num_workers=1, collate_fn=batched.trace)
    outputs = [out for trace in loader for out in batched(trace)]
    assert_same(batched, TREES, outputs)


def test_constants_travel_in_few_tensors():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

        def forward(self, rows):
            return sum(self.weight * row for row in rows)

    batched = fresh(Sum)
    given = [[torch.randn(2).double() for _ in range(n)] for n in (20, 30)]
    trace = batched.trace(given)
    assert len(pickle.dumps(trace)) < 8000  # fifty tensors would take twenty thousand
    torch.testing.assert_close(batched(sent(trace)), [batched.inner(rows) for rows in given])


def test_a_model_that_differs():
    trace = sent(fresh().trace(TREES))
    other = fresh()
    other.eval()
    with pytest.raises(TraceError, match="the model is not as it was where the trace was made: `training`"):
        other(trace)

    class Deeper(Tree):
        def __init__(self):
            super().__init__()
            self.more = nn.Linear(1, 1)

    with pytest.raises(TraceError, match="where the trace was made"):
        fresh(Deeper)(trace)
    wider = fresh()
    wider.inner.cell = nn.Linear(5, 4).double()
    with pytest.raises(TraceError, match="`in_features` of cell differs"):
        wider(trace)


def test_what_cannot_travel():
    class Scaled(Tree):
        def forward(self, tree, scale=None):
            return super().forward(tree)["logits"] * scale

    batched = fresh(Scaled)
    with pytest.raises(TraceError, match="mul is given a tensor that is neither the sample's nor the model's"):
        pickle.dumps(batched.trace(TREES, scale=torch.ones(2).double()))


def test_a_copy_of_the_model_runs_it():
    batched = fresh()
    twin = copy.deepcopy(batched)
    assert_same(twin, TREES, twin(sent(batched.trace(TREES))))
    with pytest.raises(TraceError, match="the model itself is another module"):
        twin(batched.trace(TREES))  # unpickled, it belongs to the model that made it
