"""In which order are samples seen? One that (seed, epoch) fixes, so that a resumed run finds it again."""

from collections.abc import Iterator

import numpy as np


def mini_batches(samples: int, batch_size: int, seed: int, epoch: int, position: int = 0) -> Iterator[list[int]]:
    """Yield the indices of the mini-batches of an epoch, leaving out the first `position` samples; the last is shorter.

    >>> [len(batch) for batch in mini_batches(10, 4, seed=0, epoch=0, position=4)]
    [4, 2]
    """
    order = np.random.default_rng((seed, epoch)).permutation(samples)
    for start in range(position, samples, batch_size):
        yield order[start : start + batch_size].tolist()
