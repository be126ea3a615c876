"""The lattice models compute what their formulas say, by recursion from the last position back to the first."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.made import CHARACTERS, CLASSES, EMBED, HIDDEN, WORDS, Lattice

from bale.models import BiLSTMTagger, LatticeGRU, LatticeLSTM

KINDS = (LatticeLSTM, LatticeGRU)
LATTICE = Lattice(((), ((0, 3),), ((1, 4), (0, 9)), ((2, 1),), ((1, 8), (2, 8))))  # no character ends at the last


@st.composite
def lattices(draw):
    """Any arcs at any positions but the first, at least one of them."""
    arcs = [()]
    for position in range(1, draw(st.integers(2, 8))):
        starts = draw(st.lists(st.integers(0, position - 1), max_size=3))
        arcs.append(tuple((start, draw(st.integers(0, min(WORDS, CHARACTERS) - 1))) for start in starts))
    if not any(arcs):
        arcs.append(((0, 0),))
    return Lattice(tuple(arcs))


def build(kind):
    torch.manual_seed(0)
    return kind(CHARACTERS, WORDS, CLASSES, EMBED, HIDDEN).double()


def lstm(weights, arc, x, h, c):
    """Hochreiter, Schmidhuber, as torch writes it: the gates i, f, g, o."""
    i, f, g, o = gates(weights, arc, "lstm", x, h, 4)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru(weights, arc, x, h):
    """Cho et al., as torch writes it: the reset gate after the product."""
    W, U = weights[f"{arc}.gru.weight_ih"].chunk(3), weights[f"{arc}.gru.weight_hh"].chunk(3)
    b, e = weights[f"{arc}.gru.bias_ih"].chunk(3), weights[f"{arc}.gru.bias_hh"].chunk(3)
    r = torch.sigmoid(W[0] @ x + b[0] + U[0] @ h + e[0])
    z = torch.sigmoid(W[1] @ x + b[1] + U[1] @ h + e[1])
    n = torch.tanh(W[2] @ x + b[2] + r * (U[2] @ h + e[2]))
    return ((1 - z) * n + z * h,)


def gates(weights, arc, cell, x, h, count):
    W, U = weights[f"{arc}.{cell}.weight_ih"], weights[f"{arc}.{cell}.weight_hh"]
    return (W @ x + weights[f"{arc}.{cell}.bias_ih"] + U @ h + weights[f"{arc}.{cell}.bias_hh"]).chunk(count)


def state(weights, step, lattice, position):
    """The mean of the states of the arcs that end at a position, each part of it."""
    arcs = lattice.arcs[position]
    if not arcs:
        return (torch.zeros(HIDDEN, dtype=torch.float64),) * (2 if step is lstm else 1)
    ends = []
    for start, number in arcs:
        arc = "character" if start == position - 1 else "word"
        ends.append(step(weights, arc, weights[f"{arc}.embed.weight"][number], *state(weights, step, lattice, start)))
    return tuple(sum(part) / len(ends) for part in zip(*ends, strict=True))


@pytest.mark.parametrize(("kind", "step"), [(LatticeLSTM, lstm), (LatticeGRU, gru)])
@settings(max_examples=30, deadline=None)
@given(lattice=lattices())
def test_it_is_the_formula(kind, step, lattice):
    model = build(kind)
    weights = {name: value.detach() for name, value in model.state_dict().items()}
    places = [position for position, arcs in enumerate(lattice.arcs) if arcs]
    states = torch.stack([state(weights, step, lattice, position)[0] for position in places])
    expected = states @ weights["head.weight"].T + weights["head.bias"]
    torch.testing.assert_close(model(lattice), expected, rtol=1e-12, atol=1e-13)


def test_without_words_it_is_an_lstm_from_the_left():
    model, sentence = build(LatticeLSTM), (3, 1, 4, 1, 5)
    lstm = BiLSTMTagger(CHARACTERS, CLASSES, EMBED, HIDDEN).double()
    lstm.embed.load_state_dict(model.character.embed.state_dict())
    lstm.forwards[0].load_state_dict(model.character.lstm.state_dict())
    with torch.no_grad():
        left, right = lstm.head.weight.chunk(2, -1)
        left.copy_(model.head.weight)
        right.zero_()
        lstm.head.bias.copy_(model.head.bias)
    chain = Lattice(((), *(((place, number),) for place, number in enumerate(sentence))))
    torch.testing.assert_close(model(chain), lstm(sentence))


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_arcs_does_not_count(kind):
    model = build(kind)
    turned = Lattice(tuple(arcs[::-1] for arcs in LATTICE.arcs))
    torch.testing.assert_close(model(turned), model(LATTICE))


@pytest.mark.parametrize("kind", KINDS)
def test_characters_and_words_have_weights_of_their_own(kind):
    model = build(kind)
    logits = model(LATTICE)
    with torch.no_grad():
        model.word.embed.weight[9] += 1
    changed = (model(LATTICE) != logits).any(-1)
    assert changed.tolist() == [False, True, True, True]  # word 9 ends at position 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_sentence_is_no_problem(kind):
    arcs = ((), ((0, 1),)) + tuple(((place - 1, 1), (place - 2, 1)) for place in range(2, 2_000))
    assert torch.isfinite(build(kind)(Lattice(arcs))).all()


@pytest.mark.parametrize("kind", KINDS)
def test_any_object_with_arcs_is_a_lattice(kind):
    other = SimpleNamespace(arcs=[[list(arc) for arc in arcs] for arcs in LATTICE.arcs])
    assert torch.equal(build(kind)(other), build(kind)(LATTICE))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_lattice_is_an_error(kind):
    model = build(kind)
    for arcs in ((), ((), (), ())):
        with pytest.raises(ValueError, match="at least one arc, got none"):
            model(Lattice(arcs))
    for start in (-1, 2, 3):
        with pytest.raises(ValueError, match=f"ends at position 2 starts at {start}, not before it"):
            model(Lattice(((), ((0, 1),), ((start, 1),))))
    with pytest.raises(ValueError, match="ends at position 0 starts at 0"):
        model(Lattice((((0, 1),),)))
    with pytest.raises(IndexError):
        model(Lattice(((), ((0, CHARACTERS),))))
    with pytest.raises(IndexError):
        model(Lattice(((), ((0, 1),), ((0, WORDS),))))
