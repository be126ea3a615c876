"""A comparison runs the same work both ways and leaves no trace."""

import pytest
import torch

from bale.batching.api import batch
from bale.train import compare


def test_both_ways_have_the_same_loss(samples, make_model, assert_same):
    model, untouched = make_model(), make_model()
    comparison = compare(model, batch(model), [samples[:8], samples[8:12]])
    assert comparison is not None
    assert (comparison.mini_batches, comparison.samples) == (2, 12)
    assert comparison.difference < 1e-5
    assert comparison.slowest <= comparison.speedup <= comparison.fastest
    assert_same(model, untouched)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_difference_is_seen(samples, make_model):
    other = make_model()
    torch.nn.init.ones_(other.head.weight)
    comparison = compare(make_model(), batch(other), [samples[:8]])
    assert comparison is not None and comparison.difference > 1e-3


def test_the_random_state_stays(samples, make_random_model):
    model = make_random_model()
    before = torch.get_rng_state()
    compare(model, batch(model), [samples[:4]])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("nothing", [[], ()])
def test_nothing_to_compare(make_model, nothing):
    model = make_model()
    assert compare(model, batch(model), nothing) is None
