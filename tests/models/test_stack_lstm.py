"""The stack LSTM scores each action by reading stack, buffer and history anew, as if nothing had been kept."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.made import EMBED, HIDDEN, WORDS

from bale.models import REDUCE, SHIFT, StackLSTM


@st.composite
def parses(draw):
    """A sentence and legal actions, which may stop anywhere."""
    words = draw(st.lists(st.integers(0, WORDS - 1), min_size=1, max_size=6))
    actions, shifted, size = [SHIFT], 1, 1
    for wanted in draw(st.lists(st.sampled_from([SHIFT, REDUCE]), max_size=2 * len(words))):
        if wanted == SHIFT and shifted < len(words):
            actions.append(SHIFT)
            shifted, size = shifted + 1, size + 1
        elif wanted == REDUCE and size > 1:
            actions.append(REDUCE)
            size -= 1
    return words, actions


def build():
    torch.manual_seed(0)
    return StackLSTM(WORDS, EMBED, HIDDEN).double()


def read(weights, path, vectors):
    """h of an LSTM after these vectors, zero before the first."""
    h = c = torch.zeros(HIDDEN, dtype=torch.float64)
    for x in vectors:
        gates = weights[f"{path}.weight_ih"] @ x + weights[f"{path}.bias_ih"]
        gates = gates + weights[f"{path}.weight_hh"] @ h + weights[f"{path}.bias_hh"]
        i, f, g, o = gates.chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
    return h


def score(weights, stack, buffer, taken):
    """The logits of the next action from the vectors on the stack, those to come and those of the actions taken."""
    s, b, a = (
        read(weights, "stack", stack), read(weights, "buffer", buffer[::-1]), read(weights, "history", taken)
    )  # fmt: skip
    p = weights["choose.state.weight"] @ torch.cat([s, b, a]) + weights["choose.state.bias"]
    return weights["choose.logits.weight"] @ p.clamp(min=0) + weights["choose.logits.bias"]


@settings(max_examples=40, deadline=None)
@given(parses())
def test_it_is_the_papers(sample):
    words, actions = sample
    model = build()
    weights = {name: value.detach() for name, value in model.state_dict().items()}
    stack, buffer, taken = [], [weights["embed.weight"][word] for word in words], []
    expected = []
    for action in actions:
        expected.append(score(weights, stack, buffer, taken))
        if action == SHIFT:
            stack.append(buffer.pop(0))
        else:
            right, left = stack.pop(), stack.pop()
            joined = weights["compose.join.weight"] @ torch.cat([left, right]) + weights["compose.join.bias"]
            stack.append(torch.tanh(joined))
        taken.append(weights["action_embed.weight"][action])
    torch.testing.assert_close(model(sample), torch.stack(expected), rtol=1e-12, atol=1e-13)


def test_the_last_action_is_not_read():
    model = build()
    last = [model(((1, 2, 3), (SHIFT, SHIFT, action))) for action in (SHIFT, REDUCE)]
    assert torch.equal(*last)


def test_the_last_words_are_seen_from_the_first_action_on():
    model = build()
    assert not torch.allclose(model(((1, 2, 3), (SHIFT,))), model(((1, 2, 9), (SHIFT,))))


def test_words_may_be_a_tensor():
    model = build()
    assert torch.equal(model((torch.tensor([1, 2]), (SHIFT, SHIFT))), model(((1, 2), (SHIFT, SHIFT))))


@pytest.mark.parametrize(
    ("words", "actions", "message"),
    [
        ((), (SHIFT,), "at least one word"),
        ((1,), (), "at least one action"),
        ((1, 2), (REDUCE,), "action 0 is a REDUCE, which joins two things, and the stack holds 0"),
        ((1, 2), (SHIFT, REDUCE), "action 1 is a REDUCE, which joins two things, and the stack holds 1"),
        ((1, 2), (SHIFT, SHIFT, SHIFT), "action 2 is a SHIFT, and all 2 words have been shifted"),
        ((1, 2), (SHIFT, SHIFT, REDUCE, REDUCE), "action 3 is a REDUCE, which joins two things, and the stack holds 1"),
        ((1, 2), (SHIFT, 2), r"action 1 is 2: neither SHIFT \(0\) nor REDUCE \(1\)"),
    ],
)
def test_what_cannot_be_parsed_is_an_error(words, actions, message):
    with pytest.raises(ValueError, match=message):
        build()((words, actions))


def test_a_word_without_a_vector_is_an_error():
    with pytest.raises(IndexError):
        build()(((WORDS,), (SHIFT,)))
