"""An epoch shows every sample once, in an order that (seed, epoch) fixes and a position continues."""

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from bale.train.order import mini_batches

counts, sizes, seeds = st.integers(0, 50), st.integers(1, 20), st.integers(0, 2**40)


@given(counts, sizes, seeds, seeds)
def test_every_sample_once(samples, batch_size, seed, epoch):
    batches = list(mini_batches(samples, batch_size, seed, epoch))
    assert sorted(chain(*batches)) == list(range(samples))
    assert all(len(batch) == batch_size for batch in batches[:-1])


@given(counts, sizes, seeds, seeds, st.integers(0, 5))
def test_a_position_continues(samples, batch_size, seed, epoch, done):
    whole = list(mini_batches(samples, batch_size, seed, epoch))
    assert list(mini_batches(samples, batch_size, seed, epoch, done * batch_size)) == whole[done:]


def test_seed_and_epoch_both_matter():
    orders = {(seed, epoch): next(mini_batches(50, 50, seed, epoch)) for seed in (0, 1, 2) for epoch in (0, 1, 2)}
    assert len({tuple(order) for order in orders.values()}) == len(orders)
