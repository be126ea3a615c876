"""Does the benchmark of sparse flow check what it times, and count what it says?"""

import numpy as np
import torch
from benchmarks.video.sparse import BLOCKS, lines_of_network, people

from bale.video.flow.flownet import FlowNetS


def test_people_cover_at_least_the_share_asked_for():
    rng = np.random.default_rng(0)
    assert people(0.1, rng).shape == BLOCKS
    assert 0.1 <= people(0.1, rng).mean() < 0.12
    assert people(1.0, rng).all()


def test_lines_say_what_was_computed():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        exact, mask = lines_of_network(FlowNetS(width=1 / 64), people(0.1, np.random.default_rng(0)), [16], rounds=1)
    finally:
        torch.set_num_threads(before)
    assert (exact["grow"], mask["grow"]) == ("exact", "mask")
    assert 0.1 < mask["macs"] < exact["macs"] < 1
    assert mask["dense_ms"] > 0 and mask["ms"] > 0
