"""The tagger that spells is PyTorch's own LSTM over words, some of whose vectors come from one over characters."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.made import CHARACTERS, CLASSES, EMBED, HIDDEN, WORDS
from torch import nn

from bale.models import CharBiLSTMTagger

CHAR_EMBED = 3
words = st.integers(0, WORDS - 1) | st.lists(st.integers(0, CHARACTERS - 1), min_size=1, max_size=5).map(tuple)
sentences = st.lists(words, min_size=1, max_size=8)


def tagger(layers=1, **sizes):
    torch.manual_seed(0)
    sizes = {"char_embed": CHAR_EMBED, **sizes}
    return CharBiLSTMTagger(WORDS, CHARACTERS, CLASSES, EMBED, HIDDEN, layers, **sizes).double()


def torch_lstm(pairs, width, hidden):
    """nn.LSTM with the weights of (forward, backward) cells, a pair a layer."""
    lstm = nn.LSTM(width, hidden, num_layers=len(pairs), bidirectional=True).double()
    lstm.load_state_dict(
        {
            f"{name}_l{layer}{suffix}": value
            for layer, pair in enumerate(pairs)
            for cell, suffix in zip(pair, ("", "_reverse"), strict=True)
            for name, value in cell.named_parameters()
        }
    )
    return lstm


def vector(model, word):
    if not isinstance(word, tuple):
        return model.embed.weight[word]
    lstm = torch_lstm([(model.char_forward, model.char_backward)], CHAR_EMBED, EMBED // 2)
    states, _ = lstm(model.char_embed.weight[list(word)])  # [characters, embed]
    return torch.cat([states[-1, : EMBED // 2], states[0, EMBED // 2 :]])  # where each direction ends


@settings(max_examples=30, deadline=None)
@given(sentences, st.integers(1, 2))
def test_it_is_torchs_lstm_over_characters_and_over_words(sentence, layers):
    model = tagger(layers)
    lstm = torch_lstm(list(zip(model.forwards, model.backwards, strict=True)), EMBED, HIDDEN)
    states, _ = lstm(torch.stack([vector(model, word) for word in sentence]))
    torch.testing.assert_close(model(sentence), model.head(states))


def test_a_word_is_spelt_from_both_ends():
    model = tagger()
    assert not torch.allclose(model([(1, 2, 3)]), model([(3, 2, 1)]))
    for place in range(3):
        changed = tuple(5 if k == place else c for k, c in enumerate((1, 2, 3)))
        assert not torch.allclose(model([changed]), model([(1, 2, 3)]))


def test_a_characters_vector_is_as_wide_as_a_words_unless_told():
    assert tagger(char_embed=None).char_embed.embedding_dim == EMBED


def test_what_is_no_sentence_is_an_error():
    with pytest.raises(ValueError, match="at least one word"):
        tagger()(())
    with pytest.raises(ValueError, match="word 1 of the sentence is rare and has no characters"):
        tagger()((4, (), (2,)))
    with pytest.raises(IndexError):
        tagger()((WORDS,))
    with pytest.raises(IndexError):
        tagger()(((CHARACTERS,),))


def test_an_odd_width_is_an_error():
    with pytest.raises(ValueError, match="embed=7 is odd"):
        CharBiLSTMTagger(WORDS, CHARACTERS, CLASSES, embed=7, hidden=HIDDEN)
