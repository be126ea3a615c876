"""Traps: recurrent modules, attention and embeddings inside a per-sample forward."""

import copy

import pytest
import torch
import torch.nn.functional as F
from same import assert_all_close, assert_same, observe
from small import WIDTH, UseModel, matrices, sequences, vectors
from torch import nn

import bale
from bale.errors import BaleError


def linear() -> nn.Linear:
    return nn.Linear(WIDTH, WIDTH)


# Recurrent modules.


@pytest.mark.parametrize("bias", [True, False])
def test_lstm_cell(bias):
    def use(model, xs):
        state = None
        for x in xs:
            state = model.cell(x, state)
        return state

    last = assert_same(UseModel(use, cell=nn.LSTMCell(WIDTH, 4, bias=bias)), sequences()).last
    assert last.types <= 2


@pytest.mark.parametrize("make", [nn.GRUCell, nn.RNNCell])
def test_gru_and_rnn_cells(make):
    def use(model, xs):
        h = model.h0
        for x in xs:
            h = model.cell(x, h)
        return h

    assert_same(UseModel(use, cell=make(WIDTH, 4), h0=nn.Parameter(torch.randn(4))), sequences())


def test_recurrent_cells_on_a_batch_of_one():
    def use(model, xs):
        h, c = torch.zeros(1, 4), torch.zeros(1, 4)
        for x in xs:
            h, c = model.lstm(x[None], (h, c))
            h = model.gru(x[None], h)
        return h[0]

    assert_same(UseModel(use, lstm=nn.LSTMCell(WIDTH, 4), gru=nn.GRUCell(WIDTH, 4)), sequences())


def test_lstm_cells_in_a_tree():
    def use(model, tree):
        if isinstance(tree, torch.Tensor):
            return model.leaf(tree), torch.zeros(WIDTH)
        states = [use(model, child) for child in tree]
        h = sum(h for h, _ in states)
        c = sum(c for _, c in states)
        return model.cell(h, (h, c))

    a, b, c, d = vectors(4)
    assert_same(
        UseModel(use, leaf=linear(), cell=nn.LSTMCell(WIDTH, WIDTH)), [(a, b), ((c, d), a), b, ((a,), (b, c, d))]
    )


RECURRENT = {
    "LSTM": lambda: nn.LSTM(WIDTH, 4),
    "GRU": lambda: nn.GRU(WIDTH, 4),
    "RNN": lambda: nn.RNN(WIDTH, 4),
    "bidirectional": lambda: nn.LSTM(WIDTH, 4, bidirectional=True),
    "two layers": lambda: nn.GRU(WIDTH, 4, num_layers=2),
    "projected": lambda: nn.LSTM(WIDTH, 4, proj_size=2),
}


@pytest.mark.parametrize("make", [pytest.param(f, id=name) for name, f in RECURRENT.items()])
def test_a_recurrent_module_over_a_sequence(make):
    assert_same(UseModel(lambda m, rows: m.rnn(rows), rnn=make()), matrices((2, 4, 1, 2)))


def test_a_recurrent_module_over_more_lengths_than_a_cell_may_have():
    assert_same(UseModel(lambda m, rows: m.rnn(rows)[0], rnn=nn.LSTM(WIDTH, 4)), matrices((1, 2, 3, 4, 5, 6, 7)))


def test_a_recurrent_module_over_computed_rows():
    def use(model, xs):
        out, (h, _) = model.rnn(torch.stack([model.cell(x) for x in xs]))
        return out.sum(0), h

    assert_same(UseModel(use, cell=linear(), rnn=nn.LSTM(WIDTH, 4)), sequences((2, 4, 2, 3)))


def test_a_recurrent_module_on_a_batch_of_one():
    model = UseModel(lambda m, rows: m.rnn(rows[None])[0][0], rnn=nn.LSTM(WIDTH, 4, batch_first=True))
    assert_same(model, matrices((2, 4, 2)))


# Attention, embeddings.


@pytest.mark.parametrize("batch_first", [True, False])
def test_multihead_attention_over_rows(batch_first):
    model = UseModel(
        lambda m, rows: m.attention(rows, rows, rows), attention=nn.MultiheadAttention(4, 2, batch_first=batch_first)
    )
    assert_same(model, matrices((2, 4, 1, 2), width=4))


def test_multihead_attention_of_a_value_over_computed_rows():
    def use(model, xs):
        rows = torch.stack([model.cell(x) for x in xs])
        return model.attention(rows[-1:], rows, rows, need_weights=False)[0]

    assert_same(UseModel(use, cell=nn.Linear(WIDTH, 4), attention=nn.MultiheadAttention(4, 2)), sequences((2, 3, 2)))


def test_multihead_attention_with_a_batch_axis():
    def use(model, rows):
        return model.attention(rows[None], rows[None], rows[None])[0][0]

    assert_same(UseModel(use, attention=nn.MultiheadAttention(4, 2, batch_first=True)), matrices((2, 3, 2), width=4))


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_embedding_bag(mode):
    def use(model, words):
        return model.bag(torch.tensor([words]))[0]

    samples = [[1, 2], [3], [4, 0, 4], [1, 1]]
    assert_same(UseModel(use, bag=nn.EmbeddingBag(5, WIDTH, mode=mode)), samples)


def test_embedding_bag_with_offsets():
    def use(model, words):
        return model.bag(torch.tensor(words), torch.tensor([0]))

    assert_same(UseModel(use, bag=nn.EmbeddingBag(5, WIDTH)), [[1, 2], [3], [4, 0, 4]])


@pytest.mark.parametrize(
    "options", [{"padding_idx": 0}, {"scale_grad_by_freq": True}, {"sparse": True}], ids=lambda o: next(iter(o))
)
def test_options_of_embeddings(options):
    model = UseModel(lambda m, w: m.words(torch.tensor(w)), words=nn.Embedding(5, WIDTH, **options))
    words = [1, 0, 3, 1, 1]
    try:
        got = observe(lambda: bale.batch(model)(words), model, words)
    except BaleError as error:
        assert "words" in str(error)
        return
    wanted = observe(lambda: [model(w) for w in words], model, words)
    assert_all_close(got.outputs, wanted.outputs)
    assert_all_close([g.to_dense() for g in got.gradients.values()], [g.to_dense() for g in wanted.gradients.values()])


def test_embedding_with_max_norm_is_the_loop_or_an_error_that_names_it():
    plain = UseModel(lambda m, w: m.words(torch.tensor(w)) * 2, words=nn.Embedding(5, WIDTH, max_norm=0.5))
    twin = copy.deepcopy(plain)
    words = [1, 0, 3, 1]
    with torch.no_grad():
        try:
            got = bale.batch(twin)(words)
        except BaleError as error:
            assert "words" in str(error)
            return
        assert_all_close(got, [plain(w) for w in words])
    assert_all_close(twin.words.weight, plain.words.weight)


def test_one_hot_times_a_weight():
    model = UseModel(
        lambda m, w: F.one_hot(torch.tensor(w), 5).double() @ m.weight, weight=nn.Parameter(torch.randn(5, 3))
    )
    assert_same(model, [1, 4, 1])
