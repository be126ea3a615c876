"""What do the training tests train? Small trees, a small network, and the way to tell two of them apart."""

import pytest
import torch
from torch import nn

from bale.data import random_functions
from bale.models import ChildSumTreeLSTM


class WithDropout(nn.Module):
    """A tree LSTM that draws random numbers, so that a run can only be repeated if the random state is."""

    def __init__(self):
        super().__init__()
        self.trees = ChildSumTreeLSTM(kinds=10, classes=6, hidden=6)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(6, 3)

    def forward(self, tree):
        return self.head(self.dropout(self.trees(tree)))


@pytest.fixture
def samples():
    """Twenty trees of at most thirty nodes, three classes."""
    return random_functions(20, seed=3, kinds=10, classes=3, max_nodes=30)


@pytest.fixture
def make_model():
    """Make the same plain model at every call."""

    def make(hidden=6):
        torch.manual_seed(5)
        return ChildSumTreeLSTM(kinds=10, classes=3, hidden=hidden)

    return make


@pytest.fixture
def make_random_model():
    """Make the same model with dropout at every call."""

    def make():
        torch.manual_seed(5)
        return WithDropout()

    return make


@pytest.fixture
def assert_same():
    """Assert that two models have the same parameters, bit for bit."""

    def check(one, other):
        left, right = one.state_dict(), other.state_dict()
        assert left.keys() == right.keys()
        assert [name for name in left if not torch.equal(left[name], right[name])] == []

    return check
