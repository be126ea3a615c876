"""The encoder-decoder is two of PyTorch's own LSTMs, the second from the first's last state; greedy is its argmax."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.made import EMBED, HIDDEN, WORDS
from torch import nn

from bale.models import EncoderDecoder, GreedyDecoder

TARGETS = WORDS + 2
sources = st.lists(st.integers(0, WORDS - 1), min_size=1, max_size=8)
targets = st.lists(st.integers(0, TARGETS - 1), min_size=2, max_size=8)
few = settings(max_examples=30, deadline=None)


def translator(layers=1):
    torch.manual_seed(0)
    return EncoderDecoder(WORDS, TARGETS, EMBED, HIDDEN, layers).double()


def torch_lstm(cells):
    lstm = nn.LSTM(EMBED, HIDDEN, num_layers=len(cells)).double()
    weights = {f"{name}_l{k}": value for k, cell in enumerate(cells) for name, value in cell.named_parameters()}
    lstm.load_state_dict(weights)
    return lstm


def scores(model, source, target):
    """The logits after each word of the target."""
    _, state = torch_lstm(model.encoder)(model.source_embed.weight[source])
    states, _ = torch_lstm(model.decoder)(model.target_embed.weight[target], state)
    return model.head(states)


@few
@given(sources, targets, st.integers(1, 3))
def test_it_is_torchs_lstm_twice(source, target, layers):
    model = translator(layers)
    torch.testing.assert_close(model((source, target)), scores(model, source, target[:-1]))


@few
@given(sources, targets)
def test_sentences_may_be_tuples_lists_or_tensors(source, target):
    model = translator()
    logits = model((source, target))
    assert torch.equal(model((tuple(source), tuple(target))), logits)
    assert torch.equal(model((torch.tensor(source), torch.tensor(target))), logits)


@few
@given(sources, st.integers(0, TARGETS - 1), st.integers(1, 6), st.integers(1, 2))
def test_greedy_reads_what_it_wrote(source, begin, length, layers):
    model = translator(layers)
    written = [begin]
    for _ in range(length):
        written.append(int(scores(model, source, written)[-1].argmax()))
    logits = GreedyDecoder(model, begin, length)(source)
    assert logits.argmax(-1).tolist() == written[1:]
    torch.testing.assert_close(logits, scores(model, source, written[:-1]))


def test_greedy_has_the_parameters_of_its_model():
    model = translator()
    decoder = GreedyDecoder(model, begin=0, length=3)
    assert [id(p) for p in decoder.parameters()] == [id(p) for p in model.parameters()]


def test_every_source_word_counts():
    model, source = translator(), [1, 2, 3, 4]
    for place in range(4):
        changed = source[:place] + [9] + source[place + 1 :]
        assert not torch.allclose(model((changed, (0, 1))), model((source, (0, 1))))


def test_the_last_target_word_is_not_read():
    model = translator()
    assert torch.equal(model(((1, 2), (0, 5, 6))), model(((1, 2), (0, 5, 7))))


def test_what_is_no_pair_of_sentences_is_an_error():
    with pytest.raises(ValueError, match="source has at least one word"):
        translator()(((), (0, 1)))
    for target in ((), (0,)):
        with pytest.raises(ValueError, match=f"at least two words; got {len(target)}"):
            translator()(((1,), target))
    with pytest.raises(IndexError):
        translator()(((WORDS,), (0, 1)))
    with pytest.raises(IndexError):
        translator()(((1,), (TARGETS, 1)))
    with pytest.raises(ValueError, match="source has at least one word"):
        GreedyDecoder(translator(), begin=0, length=2)(())


def test_what_cannot_be_written_is_an_error():
    for begin in (-1, TARGETS):
        with pytest.raises(ValueError, match=f"begin={begin} is none of the target's {TARGETS} words"):
            GreedyDecoder(translator(), begin=begin, length=2)
    with pytest.raises(ValueError, match="length=0"):
        GreedyDecoder(translator(), begin=0, length=0)
