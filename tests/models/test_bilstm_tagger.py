"""The tagger is PyTorch's own bidirectional LSTM, written step by step."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bale.data import random_tagged, tag_names, tagged_samples, tagged_vocabulary
from bale.models import BiLSTMTagger

WORDS, TAGS, EMBED, HIDDEN = 11, 4, 3, 5
sentences = st.lists(st.integers(0, WORDS - 1), min_size=1, max_size=12)


def tagger(layers=1, seed=0):
    torch.manual_seed(seed)
    return BiLSTMTagger(WORDS, TAGS, EMBED, HIDDEN, layers).double()


def torch_lstm_of(model):
    """nn.LSTM with the tagger's weights."""
    layers = len(model.forwards)
    lstm = nn.LSTM(EMBED, HIDDEN, num_layers=layers, bidirectional=True).double()
    weights = {}
    for layer in range(layers):
        for cell, suffix in ((model.forwards[layer], ""), (model.backwards[layer], "_reverse")):
            for name, value in cell.named_parameters():  # weight_ih, weight_hh, bias_ih, bias_hh
                weights[f"{name}_l{layer}{suffix}"] = value
    lstm.load_state_dict(weights)
    return lstm


@settings(max_examples=30, deadline=None)
@given(sentences, st.integers(1, 3))
def test_it_is_torchs_bidirectional_lstm(words, layers):
    model = tagger(layers)
    states, _ = torch_lstm_of(model)(model.embed(torch.tensor(words)))  # [length, 2 * hidden]
    torch.testing.assert_close(model(words), model.head(states))


@given(sentences)
@settings(max_examples=10, deadline=None)
def test_a_sentence_may_be_a_tuple_a_list_or_a_tensor(words):
    model = tagger()
    assert torch.equal(model(words), model(tuple(words)))
    assert torch.equal(model(words), model(torch.tensor(words)))


@settings(max_examples=10, deadline=None)
@given(sentences)
def test_swapping_the_directions_reads_the_sentence_backwards(words):
    model = tagger()
    swapped = copy.deepcopy(model)
    swapped.forwards, swapped.backwards = swapped.backwards, swapped.forwards
    left, right = model.head.weight.detach().chunk(2, -1)
    swapped.head.weight = nn.Parameter(torch.cat([right, left], -1))
    torch.testing.assert_close(swapped(words[::-1]).flip(0), model(words))


def test_every_word_counts_for_every_tag():
    model = tagger()
    words = [1, 2, 3, 4, 5]
    for position in range(len(words)):
        changed = words[:position] + [9] + words[position + 1 :]
        assert (model(changed) != model(words)).any(-1).all()


@pytest.mark.parametrize("layers", [1, 2])
def test_gradients_reach_every_parameter(layers):
    model = tagger(layers)
    model((1, 2, 3)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_the_seed_decides():
    assert torch.equal(tagger(seed=1)((1, 2)), tagger(seed=1)((1, 2)))
    assert not torch.equal(tagger(seed=1)((1, 2)), tagger(seed=2)((1, 2)))


def test_copies_compute_the_same():
    model, other = tagger(), tagger(seed=5)
    other.load_state_dict(model.state_dict())
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), other):
        assert torch.equal(copied((1, 2, 3)), model((1, 2, 3)))
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


def test_forward_follows_the_models_dtype_and_device():
    model = tagger()
    assert model((1, 2)).dtype == torch.float64
    assert model.float()((1, 2)).dtype == torch.float32
    assert model.to("meta")((1, 2)).device.type == "meta"


def test_what_is_no_sentence_is_an_error():
    with pytest.raises(ValueError, match="at least one word"):
        tagger()(())
    with pytest.raises(IndexError):
        tagger()((WORDS,))


def test_made_tags_can_be_learnt():
    made = random_tagged(24, seed=3, words=10, tags=3, length=4)
    vocabulary, names = tagged_vocabulary(made), tag_names(made)
    samples = tagged_samples(made, vocabulary, names)
    torch.manual_seed(0)
    model = BiLSTMTagger(len(vocabulary), len(names), embed=8, hidden=16)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    losses = []
    for _ in range(25):
        logits = torch.cat([model(words) for words, _ in samples])
        loss = nn.functional.cross_entropy(logits, torch.tensor([tag for _, tags in samples for tag in tags]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
