"""Learning a policy for a model only looks at it; with the policy the model is still the loop, here and elsewhere."""

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.batching.view.same import RELATIVE, assert_observed, observe
from tests.models.made import CASES, drawn, made
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import bale
from bale.errors import BaleError, PolicyError

SIZES = (3, 1, 7, 2, 5, 1, 9, 4)
# A recurrence over sentences, trees and lattices.
SOME = ("BiLSTMTagger", "NaryTreeLSTM", "LatticeLSTM")


def learn(model, samples, *, encoding="sort", **options):
    """Of the order of types there are many states, even here; shares are hardly in doubt on samples this small."""
    return bale.learn_policy(model, samples, episodes=60, encoding=encoding, **options)


class Keeper(nn.Module):
    """Leaves behind whatever a forward can: buffers, attributes, lists and dicts, of tensors and of plain numbers."""

    def __init__(self):
        super().__init__()
        self.cell = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("mean", torch.zeros(3))
        self.states, self.by_name, self.calls, self.latest = [], {"state": None}, [0], None

    def forward(self, x):
        state = self.dropout(self.cell(x))
        self.norm(torch.stack([state, x]))
        self.mean = 0.9 * self.mean + 0.1 * state.detach()
        self.states.append(state)
        self.by_name["state"] = state
        self.by_name[f"state {len(self.states)}"] = state
        self.calls[0] += 1
        self.latest = state
        return self.cell(state)


class Noisy(nn.Module):
    """Draws numbers in its own forward, not only inside of cells."""

    def __init__(self):
        super().__init__()
        self.cell = nn.Linear(3, 3)

    def forward(self, x):
        return self.cell(self.cell(x + torch.randn(3)) + torch.rand(()))


class Repeated(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.again = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x, times=1):
        x = self.first(x)
        for _ in range(times):
            x = torch.tanh(self.again(x))
        return x


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, a, b):
        return self.right(self.left(a) + b)


class Counted(TorchDispatchMode):
    """Counts what torch really computes."""

    def __init__(self):
        super().__init__()
        self.operations = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.operations[str(function)] += 1
        return function(*args, **(kwargs or {}))


def vectors(count):
    return [torch.arange(3.0) + k for k in range(count)]


def snapshot(model):
    """All that could change: values and versions of tensors, gradients, modes, generators."""
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    return {
        "values": {name: tensor.detach().tolist() for name, tensor in tensors.items()},
        "versions": {name: tensor._version for name, tensor in tensors.items()},
        "identities": {name: id(tensor) for name, tensor in tensors.items()},
        "gradients": {name: tensor.grad for name, tensor in tensors.items()},
        "modes": [module.training for module in model.modules()],
        "torch": torch.get_rng_state().tolist(),
        "python": random.getstate(),
        "numpy": repr(np.random.get_state()),  # noqa: NPY002  what the forwards of others may draw from
    }


@pytest.mark.parametrize("name", CASES)
def test_nothing_of_the_model_changes(name):
    model, samples = made(name), drawn(name, SIZES)
    before = snapshot(model)
    policy = learn(model, samples, batch_size=4)
    assert snapshot(model) == before
    assert policy.learned["mini_batches"] == 2
    assert policy.learned["batches"] >= policy.learned["bound"]


@pytest.mark.parametrize("model_class", [Keeper, Noisy])
def test_nothing_that_a_forward_leaves_behind_stays(model_class):
    model = model_class()
    before, attributes = snapshot(model), repr(vars(model))
    learn(model, vectors(6))
    assert snapshot(model) == before
    assert repr(vars(model)) == attributes
    if isinstance(model, Keeper):
        assert (model.states, model.by_name, model.calls, model.latest) == ([], {"state": None}, [0], None)


@pytest.mark.parametrize("name", SOME)
def test_nothing_is_computed(name):
    # A type that is new is tried on a few rows of its own; here the model has run, so that none is.
    samples = drawn(name, SIZES)
    batched = bale.batch(made(name))
    batched(samples)
    with Counted() as counted:
        policy = learn(batched, samples, batch_size=4)
    assert len(policy.states) > 1
    assert set(counted.operations) <= {"aten.lift_fresh.default", "aten.unbind.int"}  # word ids become a tensor


@pytest.mark.parametrize(("name", "executor"), [*((name, "reference") for name in SOME), ("NaryTreeLSTM", "planned")])
def test_with_a_policy_the_model_is_still_the_loop(name, executor):
    model, samples = made(name), drawn(name, SIZES)
    policy = learn(model, samples[:4])
    policies = [policy, bale.Portfolio((policy,))]
    # one batched model for both, so that its cells are captured once
    batched = bale.batch(model, policy=lambda graph: policies[0](graph), executor=executor, check="always")
    for some in (samples[:4], samples, samples[5:6]):
        wanted = observe(lambda some=some: [model(sample) for sample in some], model, some)
        for _ in policies:
            assert_observed(observe(lambda some=some: batched(some), model, some), wanted, RELATIVE, RELATIVE)
            assert batched.last.executor == executor
            assert batched.last.batches >= batched.last.bound
            policies.reverse()


@pytest.mark.parametrize("name", CASES)
def test_what_was_learned_on_is_run_as_learned(name):
    model, samples = made(name), drawn(name, SIZES)
    policy = learn(model, samples)
    batched = bale.batch(model, policy=policy, executor="reference", check="off")
    with torch.no_grad():  # a schedule does not depend on it
        batched(samples)
    last = batched.last
    assert (last.policy, last.batches, last.bound) == (policy.name, policy.learned["batches"], policy.learned["bound"])
    assert last.nodes == policy.learned["nodes"]
    assert last.unseen == sum(count for _, place, count in policy.learned["transitions"] if place == "unseen")


@pytest.mark.parametrize("encoding", [*bale.Encoding, "sort"])
def test_every_encoding_can_be_learned(encoding):
    policy = learn(made("TreeGRU"), drawn("TreeGRU", SIZES), encoding=encoding)
    assert str(policy.encoding) == str(encoding)


def test_trees_leave_shares_nothing_to_learn():
    policy = bale.learn_policy(made("TreeGRU"), drawn("TreeGRU", SIZES))
    assert policy.encoding == bale.Encoding.SHARE
    assert policy.states == ()
    assert policy.learned["batches"] == policy.learned["bound"]


@pytest.mark.parametrize("batch_size", [1, 3, 4, 100, None])
def test_mini_batches_of_any_size(batch_size):
    model, samples = made("LatticeGRU"), drawn("LatticeGRU", SIZES)
    policy = learn(model, samples, batch_size=batch_size)
    assert policy.learned["mini_batches"] == -(-len(samples) // (batch_size or len(samples)))
    batched = bale.batch(model, policy=policy, executor="reference", check="off")
    for some in (samples, samples[:1], samples[2:5]):
        assert len(batched(some)) == len(some)
        assert batched.last.batches >= batched.last.bound


def test_equal_arguments_give_equal_policies():
    model, samples = made("StackLSTM"), drawn("StackLSTM", SIZES)
    one, again = (learn(model, samples, seed=3, batch_size=5) for _ in range(2))
    assert one == again and one.learned == again.learned
    assert learn(bale.batch(model), samples, seed=3, batch_size=5) == one  # nor does it matter what it is learned with
    assert learn(made("StackLSTM", seed=7), samples, seed=3, batch_size=5) == one  # or under which weights


def test_keyword_arguments_go_to_the_forward():
    policy = learn(Repeated(), vectors(3), times=4)
    # A tree of types would say more: here every call of a cell waits for the one before.
    assert policy.learned["bound"] == policy.learned["batches"] == 1 + 2 * 4
    batched = bale.batch(Repeated(), policy=policy)
    batched(vectors(5), times=4)
    assert (batched.last.batches, batched.last.unseen) == (9, 0)
    batched(vectors(5), times=2)
    assert batched.last.batches == 5


def test_samples_may_be_spread_over_arguments():
    model = Pair()
    samples = list(zip(vectors(4), vectors(4)[::-1], strict=True))
    policy = learn(bale.batch(model, star=True), samples)
    batched = bale.batch(model, star=True, policy=policy)
    for output, (a, b) in zip(batched(samples), samples, strict=True):
        torch.testing.assert_close(output, model(a, b))
    assert batched.last.unseen == 0


def test_learning_is_heard():
    heard = []
    policy = bale.learn_policy(
        made("LatticeLSTM"), drawn("LatticeLSTM", SIZES), episodes=100, backward=False,
        on_episode=lambda *now: heard.append(now),
    )  # fmt: skip
    assert [episode for episode, _ in heard] == list(range(1, len(heard) + 1))
    assert heard[0] == (1, None) and heard[-1][1] == policy.learned["batches"]


PROGRAM = """
import json, sys, torch
torch.set_num_threads(1)
from tests.models.made import drawn, made
import bale

name, path, sizes = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
policy, schedules = bale.Policy.load(path), []
def listening(graph):
    schedules.append(policy(graph))
    return schedules[-1]
bale.batch(made(name, seed=9), policy=listening, executor="reference", check="off")(drawn(name, sizes))
schedule, = schedules
print(json.dumps([schedule.order.tolist(), schedule.batch_type.tolist(), schedule.unseen]))
"""


def test_another_process_schedules_the_same(tmp_path):
    name = "LatticeLSTM"
    model, samples = made(name), drawn(name, SIZES)
    policy = learn(model, samples[:5])
    policy.save(tmp_path / "policy.json")
    schedules = []

    def listening(graph):
        schedules.append(policy(graph))
        return schedules[-1]

    bale.batch(model, policy=listening, executor="reference", check="off")(samples)
    root = Path(__file__).parents[2]
    arguments = [sys.executable, "-c", PROGRAM, name, str(tmp_path / "policy.json"), json.dumps(SIZES)]
    path = [str(root), str(root / "src")]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False, env={"PYTHONPATH": ":".join(path)})
    assert result.returncode == 0, result.stderr
    (schedule,) = schedules
    assert json.loads(result.stdout) == [schedule.order.tolist(), schedule.batch_type.tolist(), schedule.unseen]


@pytest.mark.parametrize(
    ("samples", "options", "problem"),
    [
        ([], {}, "a policy is learned from samples, and there are none"),
        (vectors(2), {"batch_size": 0}, "batch_size must be at least 1, got 0"),
        (vectors(2), {"encoding": "luck"}, "encoding='luck' is unknown; known are base, max, sort, share"),
        (3, {}, "a batched model takes a sequence of samples; got int"),
    ],
)
def test_what_cannot_be_learned_says_why(samples, options, problem):
    with pytest.raises(BaleError, match=problem):
        learn(Repeated(), samples, **options)
    with pytest.raises(PolicyError, match="episodes must be at least 1, got 0"):
        bale.learn_policy(Repeated(), vectors(2), episodes=0)


def test_a_model_that_calls_nothing_teaches_nothing():
    class Constant(nn.Module):
        def forward(self, x):
            return x

    with pytest.raises(PolicyError, match="at least one mini-batch, and none of them empty"):
        learn(Constant(), vectors(2))


def test_an_error_of_the_users_names_the_sample():
    with pytest.raises(TypeError) as error:
        learn(Repeated(), [torch.ones(3), torch.ones(3)], times=None)
    assert error.value.__notes__ == ["bale: in the forward of sample 0"]


def test_a_policy_of_another_model_is_refused():
    policy = learn(made("TreeGRU"), drawn("TreeGRU", SIZES))
    batched = bale.batch(made("LatticeLSTM"), policy=policy)
    with pytest.raises(PolicyError, match=r"learned on another network: .*it knows leaf"):
        batched(drawn("LatticeLSTM", SIZES))
    batched = bale.batch(made("LatticeLSTM"), policy=bale.Portfolio((policy,)))
    with pytest.raises(PolicyError, match="learned on another network"):
        batched(drawn("LatticeLSTM", SIZES))
