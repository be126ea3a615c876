"""The grid LSTM computes what its formula says, by recursion from the last corner."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.made import CLASSES, EMBED, HIDDEN, WORDS

from bale.models import GridLSTM

sentences = st.lists(st.integers(0, WORDS - 1), min_size=1, max_size=5)


def build():
    torch.manual_seed(0)
    return GridLSTM(WORDS, CLASSES, EMBED, HIDDEN).double()


def corner(weights, rows, columns):
    """h to the right and h down of the last block."""
    gates = weights["block.gates.weight"].split(HIDDEN), weights["block.gates.bias"].split(HIDDEN)
    edge = (torch.zeros(HIDDEN, dtype=torch.float64),) * 2

    @functools.cache
    def block(row, column):
        """((h, c) to the right, (h, c) down)"""
        (h_left, c_left), _ = block(row, column - 1) if column else (edge, None)
        _, (h_above, c_above) = block(row - 1, column) if row else (None, edge)
        words = weights["embed.weight"][rows[row]], weights["embed.weight"][columns[column]]
        inputs = torch.cat([*words, h_left, h_above])
        i, f, o, u, i_down, f_down, o_down, u_down = (W @ inputs + b for W, b in zip(*gates, strict=True))
        return step(i, f, o, u, c_left), step(i_down, f_down, o_down, u_down, c_above)

    (h_right, _), (h_down, _) = block(len(rows) - 1, len(columns) - 1)
    return torch.cat([h_right, h_down])


def step(i, f, o, u, c):
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(u)
    return torch.sigmoid(o) * torch.tanh(c), c


@settings(max_examples=30, deadline=None)
@given(sentences, sentences)
def test_it_is_the_formula(rows, columns):
    model = build()
    weights = {name: value.detach() for name, value in model.state_dict().items()}
    expected = weights["head.weight"] @ corner(weights, rows, columns) + weights["head.bias"]
    torch.testing.assert_close(model((rows, columns)), expected, rtol=1e-12, atol=1e-13)


@settings(max_examples=10, deadline=None)
@given(sentences, sentences)
def test_sentences_may_be_tuples_lists_or_tensors(rows, columns):
    model = build()
    assert torch.equal(model((tuple(rows), torch.tensor(columns))), model((rows, columns)))


def test_every_word_of_both_sentences_counts():
    model, rows, columns = build(), [1, 2, 3], [4, 5]
    for place in range(3):
        changed = rows[:place] + [9] + rows[place + 1 :]
        assert not torch.allclose(model((changed, columns)), model((rows, columns)))
    for place in range(2):
        changed = columns[:place] + [9] + columns[place + 1 :]
        assert not torch.allclose(model((rows, changed)), model((rows, columns)))


def test_which_sentence_is_which_counts():
    assert not torch.allclose(build()(((1, 2), (3,))), build()(((3,), (1, 2))))


def test_what_is_no_pair_of_sentences_is_an_error():
    for sample in (((), (1,)), ((1,), ())):
        with pytest.raises(ValueError, match="at least one word"):
            build()(sample)
    with pytest.raises(IndexError):
        build()(((WORDS,), (1,)))
