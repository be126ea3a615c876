"""A policy is learned on a task's training samples and compared on those held out, and the task stays as it was."""

from dataclasses import replace

import pytest
import torch

from bale.batching.schedule import lower_bound, make_schedule
from bale.errors import DataError, PolicyError
from bale.models import ChildSumTreeLSTM
from bale.train import PolicyConfig, Task, TaskConfig, held_out_graphs, learn_for_task, task_of

CONFIG = PolicyConfig(batch_size=4, mini_batches=2, encoding="sort", episodes=40)


@pytest.fixture
def task(samples):
    return Task(
        config=TaskConfig(data="python", hidden=6, limit=20),
        model="child-sum",
        train=samples[:12],
        valid=samples[12:17],
        test=samples[17:],
        vocabulary=(),
        classes=(),
        make_model=lambda: ChildSumTreeLSTM(kinds=10, classes=3, hidden=6),
    )


def test_a_policy_says_what_it_was_learned_on(task):
    policy = learn_for_task(task, CONFIG)
    assert policy.learned["mini_batches"] == 2 and policy.learned["batch_size"] == 4
    assert task_of(policy) == replace(task.config, model="child-sum")
    assert task_of(replace(policy, learned={})) is None
    assert task_of(replace(policy, learned={"task": {"colour": "blue"}})) is None


def test_it_is_learned_on_training_samples_and_runs_those_held_out(task):
    heard = []
    policy = learn_for_task(task, CONFIG, lambda *now: heard.append(now))
    assert heard[0] == (1, None)
    graphs = held_out_graphs(task, CONFIG)
    assert [len(set(graph.sample.tolist())) for graph in graphs] == [4, 1]
    for graph in graphs:
        schedule = make_schedule(graph, policy)
        schedule.check(graph)
        assert len(schedule) >= lower_bound(graph)
    (first,) = held_out_graphs(task, replace(CONFIG, mini_batches=1))
    assert first == graphs[0]
    assert held_out_graphs(task, replace(CONFIG, seed=1)) != graphs


def test_without_validation_samples_the_test_samples_are_held_out(task):
    (graph,) = held_out_graphs(replace(task, valid=[]), replace(CONFIG, mini_batches=5))
    assert len(set(graph.sample.tolist())) == len(task.test) == 3
    with pytest.raises(DataError, match="no sample is held out"):
        held_out_graphs(replace(task, valid=[], test=[]), CONFIG)


def test_there_must_be_samples_to_learn_from(task):
    with pytest.raises(PolicyError, match="there are none"):
        learn_for_task(replace(task, train=[]), CONFIG)


def test_the_random_state_stays(task):
    before = torch.get_rng_state()
    policy = learn_for_task(task, CONFIG)
    held_out_graphs(task, CONFIG)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)  # nor do the weights matter
    assert learn_for_task(task, CONFIG) == policy
