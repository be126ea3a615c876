"""Traps: modules of torch and of users whose batched form is easy to get wrong."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from same import assert_all_close, assert_same, assert_same_or_error, observe, raises_at, weighted_sum
from small import WIDTH, UseList, UseModel, matrices, sequences, vectors
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import bale
from bale.errors import BaleError, TraceError


def linear() -> nn.Linear:
    return nn.Linear(WIDTH, WIDTH)


# Modules of torch on values of one sample.

ON_A_VECTOR = {
    "LayerNorm": lambda: nn.LayerNorm(WIDTH),
    "RMSNorm": lambda: nn.RMSNorm(WIDTH),
    "Softmax": lambda: nn.Softmax(-1),
    "Softmax over the first axis": lambda: nn.Softmax(0),
    "LogSoftmax(0)": lambda: nn.LogSoftmax(0),
    "PReLU": lambda: nn.PReLU(),
    "PReLU per channel": lambda: Shaped(nn.PReLU(WIDTH), (1, WIDTH)),
    "GELU": lambda: nn.GELU(),
    "GLU": lambda: nn.Sequential(nn.Linear(WIDTH, 4), nn.GLU()),
    "Dropout in eval": lambda: nn.Dropout(0.5).eval(),
    "Identity": lambda: nn.Identity(),
    "Flatten": lambda: nn.Flatten(0),
    "Unflatten": lambda: nn.Unflatten(0, (1, WIDTH)),
    "Sequential": lambda: nn.Sequential(linear(), nn.Tanh(), nn.Linear(WIDTH, 2)),
    "Bilinear with itself": lambda: TwiceBilinear(),
    "Threshold": lambda: nn.Threshold(0.1, 0.5),
    "Hardtanh": lambda: nn.Hardtanh(),
    "Upsample": lambda: Shaped(nn.Upsample(scale_factor=2), (1, 1, WIDTH)),
    "TransformerEncoderLayer": lambda: Shaped(nn.TransformerEncoderLayer(WIDTH, 1, 4, dropout=0.0), (1, WIDTH)),
    "Transformer in eval": lambda: Shaped(nn.TransformerEncoderLayer(WIDTH, 1, 4).eval(), (1, WIDTH)),
}


class TwiceBilinear(nn.Bilinear):
    def __init__(self):
        super().__init__(WIDTH, WIDTH, 2)

    def forward(self, x):
        return super().forward(x, x)


class Shaped(nn.Module):
    """A module on its argument in another shape."""

    def __init__(self, module, shape):
        super().__init__()
        self.module, self.shape = module, shape

    def forward(self, x):
        return self.module(x.view(self.shape))


@pytest.mark.parametrize("make", [pytest.param(f, id=name) for name, f in ON_A_VECTOR.items()])
def test_a_module_on_a_vector(make):
    assert_same(UseModel(lambda m, x: m.part(m.cell(x)), cell=linear(), part=make()), vectors(4))


CONVOLUTIONS = {
    "Conv1d [C, L]": (lambda: nn.Conv1d(2, 3, 2), (2, 5)),
    "Conv1d [1, C, L]": (lambda: nn.Conv1d(2, 3, 2), (1, 2, 5)),
    "Conv2d [C, H, W]": (lambda: nn.Conv2d(2, 3, 2, padding=1), (2, 3, 4)),
    "Conv2d [1, C, H, W]": (lambda: nn.Conv2d(2, 4, 2, groups=2), (1, 2, 3, 4)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(2, 3, 2, stride=2), (2, 3, 3)),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), (2, 4, 4)),
    "AvgPool1d": (lambda: nn.AvgPool1d(2), (2, 4)),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d(1), (2, 4, 3)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), (1, 4, 3)),
    "InstanceNorm1d": (lambda: nn.InstanceNorm1d(2), (2, 5)),
    "InstanceNorm1d [1, C, L]": (lambda: nn.InstanceNorm1d(2, affine=True), (1, 2, 5)),
    "BatchNorm2d in eval": (lambda: nn.BatchNorm2d(2).eval(), (1, 2, 3, 3)),
    "LocalResponseNorm": (lambda: nn.LocalResponseNorm(2), (1, 4, 3)),
    "LayerNorm over two axes": (lambda: nn.LayerNorm((2, 5)), (2, 5)),
    "Conv, norm, pool": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 2), nn.GroupNorm(2, 4), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        (1, 2, 5, 5),
    ),
    "PixelShuffle": (lambda: nn.PixelShuffle(2), (4, 3, 2)),
    "Fold of Unfold": (lambda: nn.Unfold(2), (1, 2, 3, 3)),
}


@pytest.mark.parametrize(("make", "shape"), [pytest.param(*v, id=name) for name, v in CONVOLUTIONS.items()])
@pytest.mark.parametrize("computed", [False, True], ids=["constant", "value"])
def test_convolutions_pools_and_norms(make, shape, computed):
    def use(model, x):
        return model.part(x * model.scale if computed else x)

    xs = [torch.randn(shape, requires_grad=True) for _ in range(4)]
    assert_same(UseModel(use, part=make(), scale=nn.Parameter(torch.tensor(0.7))), xs)


@pytest.mark.parametrize("shapes", [[(2, 4), (2, 5), (2, 6), (2, 4)], [(1, 2, 4), (1, 2, 7)]])
def test_convolutions_over_sequences_of_any_length(shapes):
    xs = [torch.randn(shape, requires_grad=True) for shape in shapes]
    assert_same(UseModel(lambda m, x: m.conv(x).sum(-1), conv=nn.Conv1d(2, 3, 2)), xs)


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


# Batch normalisation in training.


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        pytest.param(lambda: nn.BatchNorm2d(2), (1, 2, 3, 3), id="BatchNorm2d"),
        pytest.param(lambda: nn.BatchNorm2d(2, momentum=None), (1, 2, 3, 3), id="cumulative average"),
        pytest.param(lambda: nn.BatchNorm1d(3), (4, 3), id="BatchNorm1d over rows"),
        pytest.param(
            lambda: nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.ReLU()), (1, 2, 3, 3), id="inside"
        ),
        pytest.param(lambda: nn.BatchNorm2d(2, track_running_stats=False), (1, 2, 3, 3), id="without statistics"),
        pytest.param(lambda: nn.InstanceNorm2d(2, track_running_stats=True), (1, 2, 3, 3), id="InstanceNorm2d"),
    ],
)
def test_batch_norm_in_training_is_the_loop_or_an_error_that_names_it(make, shape):
    plain = UseModel(lambda m, x: m.norm(x), norm=make())
    start = copy.deepcopy(plain.state_dict())
    xs = [torch.randn(shape, requires_grad=True) for _ in range(4)]
    wanted = observe(lambda: [plain(x) for x in xs], plain, xs)
    state = copy.deepcopy(plain.state_dict())
    for policy in bale.POLICIES:
        plain.load_state_dict(start)
        try:
            got = observe(lambda policy=policy: bale.batch(plain, policy=policy)(xs), plain, xs)
        except BaleError as error:
            assert "norm" in str(error)
            continue
        assert_all_close(got.outputs, wanted.outputs)
        assert_all_close(got.gradients, wanted.gradients)
        assert_all_close(plain.state_dict(), state)


def test_batch_norm_in_a_recurrence_keeps_the_order_of_the_loop():
    def use(model, xs):
        h = torch.zeros(1, 2, 3)
        for x in xs:
            h = torch.tanh(model.norm(h * 0.5 + x.view(1, 1, 3)))
        return h

    plain = UseModel(use, norm=nn.BatchNorm1d(2))
    twin = copy.deepcopy(plain)
    samples = sequences((2, 3, 1), grad=False)
    assert_all_close(bale.batch(twin)(samples), [plain(s) for s in samples])
    assert_all_close(twin.state_dict(), plain.state_dict())


def test_batch_norm_switched_to_eval_after_training():
    plain = UseModel(lambda m, x: m.norm(x), norm=nn.BatchNorm1d(2))
    twin = copy.deepcopy(plain)
    batched = bale.batch(twin)
    xs = [torch.randn(1, 2, 3) for _ in range(3)]
    for mode in (True, False, True, False):
        plain.train(mode)
        batched.train(mode)
        assert_all_close(batched(xs), [plain(x) for x in xs])
        assert_all_close(twin.state_dict(), plain.state_dict())


def test_spectral_norm_in_training_is_the_loop_or_an_error_that_names_it():
    plain = UseModel(lambda m, x: m.cell(x), cell=nn.utils.parametrizations.spectral_norm(linear()))
    twin = copy.deepcopy(plain)
    xs = vectors(3, grad=False)
    with torch.no_grad():
        try:
            got = bale.batch(twin)(xs)
        except BaleError as error:
            assert "cell" in str(error)
            return
        assert_all_close(got, [plain(x) for x in xs])
        assert_all_close(twin.state_dict(), plain.state_dict())


def test_spectral_norm_in_eval():
    model = UseModel(lambda m, x: m.cell(x), cell=nn.utils.parametrizations.spectral_norm(linear())).eval()
    assert_same(model, vectors(3))


# Parametrised and oddly held weights.


def test_weight_norm_by_parametrization():
    model = UseModel(lambda m, x: torch.tanh(m.cell(m.cell(x))), cell=nn.utils.parametrizations.weight_norm(linear()))
    assert_same(model, vectors(3))


def test_weight_norm_of_the_old_style():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cell = nn.utils.weight_norm(linear())
    assert_same(UseModel(lambda m, x: torch.tanh(m.cell(m.cell(x))), cell=cell), vectors(3))


def test_weight_norm_of_the_old_style_after_a_step():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cell = nn.utils.weight_norm(linear())
    model, xs = UseModel(lambda m, x: m.cell(x), cell=cell), vectors(3)
    batched = bale.batch(model, check="always")
    for _ in range(3):
        assert_all_close(batched(xs), [model(x) for x in xs])
        with torch.no_grad():
            model.cell.weight_g.mul_(1.5)


def test_orthogonal_parametrization():
    model = UseModel(lambda m, x: m.cell(m.cell(x)), cell=nn.utils.parametrizations.orthogonal(linear()))
    assert_same(model, vectors(3))


class Symmetric(nn.Module):
    def forward(self, weight):
        return weight + weight.T


def test_a_parametrization_of_the_users_own():
    cell = linear()
    nn.utils.parametrize.register_parametrization(cell, "weight", Symmetric())
    assert_same(UseModel(lambda m, x: m.cell(x) @ m.cell.weight, cell=cell), vectors(3))


def test_weights_computed_by_a_network():
    def use(model, x):
        weight = model.maker(x).view(WIDTH, WIDTH)
        return F.linear(torch.tanh(model.cell(x)), weight)

    assert_same(UseModel(use, cell=linear(), maker=nn.Linear(WIDTH, WIDTH**2)), vectors(3))


def test_module_list_dict_and_sequential():
    def use(model, sample):
        kind, x = sample
        h = model.by_name[kind](x)
        for layer in model.layers:
            h = torch.tanh(layer(h))
        return model.tail(h), model.layers[-1](h), model.tail[0](h), len(model.layers)

    model = UseModel(
        use,
        by_name=nn.ModuleDict({"a": linear(), "b": linear()}),
        layers=nn.ModuleList([linear(), linear()]),
        tail=nn.Sequential(linear(), nn.ReLU()),
    )
    assert_same(model, list(zip("abba", vectors(4), strict=True)))


def test_parameter_list_and_dict():
    def use(model, sample):
        kind, x = sample
        h = x
        for weight in model.weights:
            h = torch.tanh(weight @ h)
        return h + model.start[kind] + model.weights[0].sum()

    model = UseModel(
        use,
        weights=nn.ParameterList([nn.Parameter(torch.randn(3, 3)) for _ in range(2)]),
        start=nn.ParameterDict({"a": nn.Parameter(torch.randn(3)), "b": nn.Parameter(torch.randn(3))}),
    )
    assert_same(model, list(zip("abba", vectors(4), strict=True)))


def test_parameter_list_inside_a_cell():
    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = nn.ParameterList([nn.Parameter(torch.randn(3, 3)) for _ in range(3)])

        def forward(self, x):
            for weight in self.weights:
                x = torch.tanh(weight @ x)
            return x

    assert_same(UseModel(lambda m, x: m.cell(x), cell=Listed()), vectors(4))


class Hidden(nn.Module):
    """A module with modules that are not registered."""

    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)]
        self.named = {"out": nn.Linear(WIDTH, WIDTH)}

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.named["out"](x)


def unregistered_gradients(model, hidden, forward):
    loose = [p for layer in [*hidden.layers, hidden.named["out"]] for p in layer.parameters()]
    outputs = forward(vectors(3))
    return outputs, torch.autograd.grad(weighted_sum(outputs), loose)


def test_unregistered_modules_in_a_plain_list_of_a_cell():
    model = UseModel(lambda m, x: m.cell(x), cell=Hidden())
    got = unregistered_gradients(model, model.cell, bale.batch(model, check="always"))
    assert_all_close(got, unregistered_gradients(model, model.cell, lambda xs: [model(x) for x in xs]))


def test_unregistered_modules_in_a_plain_list_of_the_root():
    model = Hidden()
    got = unregistered_gradients(model, model, bale.batch(model, check="always"))
    assert_all_close(got, unregistered_gradients(model, model, lambda xs: [model(x) for x in xs]))


def test_unregistered_modules_switched_between_calls():
    """An unregistered module does not follow train(); its own attributes still count."""
    model = UseModel(lambda m, x: m.cell(x), cell=Hidden())
    model.cell.layers.append(nn.LeakyReLU(0.1))
    batched, xs = bale.batch(model, check="off"), vectors(3)
    for slope in (0.1, 0.9):
        model.cell.layers[-1].negative_slope = slope
        assert_all_close(batched(xs), [model(x) for x in xs])


def test_a_module_in_a_closure():
    hidden = linear()
    model, xs = UseModel(lambda m, x: hidden(m.cell(x)), cell=linear()), vectors(3)
    got, loop = bale.batch(model)(xs), [model(x) for x in xs]
    assert_all_close(got, loop)
    wanted = torch.autograd.grad(weighted_sum(loop), hidden.weight)
    assert_all_close(torch.autograd.grad(weighted_sum(got), hidden.weight), wanted)


def test_a_module_made_in_the_forward():
    def use(model, x):
        return nn.Softmax(0)(model.cell(x)) + nn.Tanh()(model.cell(x))

    assert_same(UseModel(use, cell=linear()), vectors(3))


def test_a_function_of_torch_func_on_a_value():
    model = UseModel(lambda m, x: torch.func.functional_call(m.cell, {"bias": x}, (x,)), cell=linear())
    assert_same_or_error(model, vectors(3), "sample 0")


# A module called with ever-changing shapes.


def test_a_module_called_with_ever_changing_shapes():
    class Total(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(1.5))

        def forward(self, h):
            return (h * self.scale).cumsum(-1)

    def use(model, n):
        return model.total(model.start.expand(2, n))

    model = UseModel(use, total=Total(), start=nn.Parameter(torch.ones(1)))
    assert_same(model, list(range(1, 12)))


def test_a_cell_called_with_another_number_of_arguments():
    class Any(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear()

        def forward(self, *xs, **named):
            return self.linear(sum(xs) + sum(named.values()))

    model = UseModel(lambda m, xs: m.cell(*xs, last=xs[0]), cell=Any())
    assert_same(model, sequences((1, 2, 3, 4, 5, 6)))


def test_a_cell_called_with_a_list_of_any_length():
    class Join(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear()

        def forward(self, children):
            return torch.tanh(self.linear(torch.stack(children).sum(0)))

    def use(model, xs):
        return model.join([model.leaf(x) for x in xs])

    model = UseModel(use, join=Join(), leaf=linear())
    few = assert_same(model, sequences((2, 3))).last.types
    assert assert_same(model, sequences((1, 2, 3, 4, 5, 6))).last.types == few


def test_a_tagger_over_whole_sentences_is_no_cell_per_length():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.step = nn.Linear(2 * WIDTH, WIDTH)

        def forward(self, rows):
            h, out = torch.zeros(WIDTH), []
            for row in rows:
                h = torch.tanh(self.step(torch.cat([h, row])))
                out.append(h)
            return torch.stack(out)

    model = UseModel(lambda m, rows: m.tagger(rows), tagger=Tagger())
    few = assert_same(model, matrices((2, 3)), policy="height").last
    many = assert_same(model, matrices((1, 2, 3, 4, 5, 6, 7)), policy="height").last
    assert many.types == few.types


# Autograd functions, checkpointing.


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 5 * x  # wrong on purpose: plain autograd would give 3 x^2


class CubeModule(nn.Module):
    def forward(self, x):
        return Cube.apply(x)


class CubeCell(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        return Cube.apply(self.linear(x)) + x


def test_a_custom_autograd_function_inside_the_forward():
    model = UseModel(lambda m, x: Cube.apply(m.cell(x)), cell=linear())  # <- custom function
    with raises_at(TraceError, __file__, "custom function", sample=0):
        bale.batch(model)(vectors(3))


def test_a_custom_autograd_function_of_a_constant():
    model = UseModel(lambda m, x: m.cell(Cube.apply(x)), cell=linear())
    assert_same_or_error(model, vectors(3), "sample 0")
    assert_same(model, vectors(3, grad=False))


@pytest.mark.parametrize("make", [CubeModule, CubeCell])
def test_a_custom_autograd_function_inside_a_cell(make):
    assert_same(UseModel(lambda m, x: m.cube(m.cell(x)), cell=linear(), cube=make()), vectors(3))


def test_a_custom_autograd_function_inside_a_marked_function():
    @bale.cell
    def cube(x):
        return Cube.apply(x) * 2

    assert_same(UseModel(lambda m, x: cube(m.cell(x)), cell=linear()), vectors(3))


def test_a_custom_autograd_function_with_state_in_its_context():
    class Clip(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, limit):
            ctx.limit = limit
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad.clamp(-ctx.limit, ctx.limit), None

    class Clipped(nn.Module):
        def __init__(self):
            super().__init__()
            self.limit = 0.6

        def forward(self, x):
            return Clip.apply(x, self.limit)

    assert_same(UseModel(lambda m, x: m.clip(m.cell(x)) * 2, cell=linear(), clip=Clipped()), vectors(3))


def test_checkpoint_around_a_cell():
    model = UseModel(lambda m, x: checkpoint(m.cell, m.cell(x), use_reentrant=False), cell=linear())
    assert_same(model, vectors(3))


def test_checkpoint_around_a_function_of_values():
    def use(model, xs):
        def block(h):
            return torch.tanh(model.cell(h)) + h

        h = model.cell(xs[0])
        for _ in xs:
            h = checkpoint(block, h, use_reentrant=False)
        return h

    assert_same(UseModel(use, cell=linear()), sequences())


class Checkpointed(nn.Module):
    def __init__(self, reentrant=False):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH))
        self.reentrant = reentrant

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=self.reentrant)


def test_checkpoint_inside_a_cell():
    assert_same(UseModel(lambda m, x: m.block(m.cell(x)), cell=linear(), block=Checkpointed()), vectors(3))


def test_reentrant_checkpoint_is_the_loop_or_an_error():
    model, xs = UseModel(lambda m, x: m.block(m.cell(x)), cell=linear(), block=Checkpointed(True)), vectors(3)

    def gradients(outputs):
        model.zero_grad()
        weighted_sum(outputs).backward()
        return [p.grad.clone() for p in model.parameters()]

    wanted = gradients([model(x) for x in xs])
    try:
        got = gradients(bale.batch(model)(xs))
    except BaleError as error:
        assert "checkpoint" in str(error)
    else:
        assert_all_close(got, wanted)


def test_checkpoint_sequential():
    layers = nn.Sequential(linear(), nn.Tanh(), linear(), nn.Tanh())
    model = UseModel(
        lambda m, x: checkpoint_sequential(m.layers, 2, m.cell(x), use_reentrant=False), cell=linear(), layers=layers
    )
    assert_same(model, vectors(3))


def test_checkpoint_around_the_batched_model():
    model, xs = UseModel(lambda m, x: torch.tanh(m.cell(x)), cell=linear()), vectors(3)
    batched = bale.batch(model)
    out = checkpoint(lambda *samples: torch.stack(batched(list(samples))), *xs, use_reentrant=False)
    got = torch.autograd.grad(out.square().sum(), [*xs, *model.parameters()])
    loop = torch.stack([model(x) for x in xs]).square().sum()
    assert_all_close(got, torch.autograd.grad(loop, [*xs, *model.parameters()]))


# Modules that cannot be looked into.


def test_a_traced_script_module():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cell = torch.jit.trace(linear(), torch.ones(WIDTH))
        assert_same_or_error(UseModel(lambda m, x: m.out(m.cell(x)), cell=cell, out=linear()), vectors(3), "cell")


def test_a_compiled_child():
    model = UseModel(lambda m, x: m.cell(torch.tanh(m.cell(x))), cell=torch.compile(linear(), backend="eager"))
    assert_same_or_error(model, vectors(3), "cell")


# Rows.


def test_a_module_that_mixes_the_first_axis_of_one_value():
    """Statistics across the first axis of a matrix of one sample must not become statistics across samples."""

    class Standardise(nn.Module):
        def forward(self, x):
            return (x - x.mean(0)) / (1 + x.std(0))

    def use(model, x):
        return model.norm(torch.outer(model.cell(x), x))

    assert_same(UseModel(use, cell=linear(), norm=Standardise()), vectors(5))


def test_a_module_that_sums_everything():
    class Everything(nn.Module):
        def forward(self, x):
            return x.sum() * x

    assert_same(UseModel(lambda m, x: m.all(m.cell(x)), cell=linear(), all=Everything()), vectors(5))


def test_a_module_that_asks_for_its_number_of_dimensions():
    class ByRank(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear()

        def forward(self, x):
            h = self.linear(x)
            return h.sum(0) if x.dim() == 1 else h.mean(0)

    assert_same(UseModel(lambda m, x: m.cell(x), cell=ByRank()), vectors(4))
    assert_same(UseModel(lambda m, x: m.cell(x), cell=ByRank()), matrices())


def test_a_module_that_asks_for_its_first_size():
    class ByLength(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = linear()

        def forward(self, x):
            return self.linear(x) / x.shape[0]

    assert_same(UseModel(lambda m, x: m.cell(x), cell=ByLength()), vectors(4))
    assert_same(UseModel(lambda m, x: m.cell(x), cell=ByLength()), matrices((3, 1, 7, 2, 5, 4)))


def test_a_module_that_numbers_its_rows():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.positions = nn.Embedding(9, WIDTH)

        def forward(self, x):
            return x + self.positions(torch.arange(x.shape[0]))

    assert_same(UseModel(lambda m, x: m.positions(x), positions=Positions()), matrices((3, 1, 7, 2, 5, 4)))
    assert_same(UseList(lambda hs, xs: torch.stack(hs) * torch.arange(len(hs))[:, None]), sequences())
