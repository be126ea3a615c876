"""Values whose first axis differs from sample to sample: equal to the loop, whatever is done to them, in one type."""

import math

import pytest
import torch
import torch.nn.functional as F
from same import assert_observed, assert_same, assert_same_or_error, observe
from torch import nn

import bale

WIDTH, WORDS, TAGS = 4, 11, 5
LENGTHS, OTHERS = (3, 7, 1, 9, 7), (8, 6, 10, 6)  # no length is a width, which by chance would be of another type


class Sentence(nn.Module):
    """`use(model, x, ids, tags, features)` where x is [length, WIDTH], the embedded ids."""

    def __init__(self, use):
        super().__init__()
        self.use = use
        self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(20, WIDTH)
        self.one, self.two, self.score = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 1)
        self.tag = nn.Linear(WIDTH, TAGS)
        self.query, self.table = nn.Parameter(torch.randn(WIDTH)), nn.Parameter(torch.randn(20, WIDTH))
        self.bias = nn.Parameter(torch.randn(20))
        self.norm, self.conv = nn.LayerNorm(WIDTH), nn.Conv1d(WIDTH, WIDTH, 3, padding=1)
        self.heads = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(WIDTH, 2, 8, dropout=0.0, batch_first=True)
        self.gru = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.loss = nn.CrossEntropyLoss()

    def forward(self, sample):
        ids, tags, features = sample
        return self.use(self, torch.tanh(self.words(ids)), ids, tags, features)


def sentences(lengths):
    draw = torch.Generator().manual_seed(1)
    return [
        (
            torch.randint(WORDS, (n,), generator=draw),
            torch.randint(TAGS, (n,), generator=draw),
            torch.randn(n, WIDTH, generator=draw),
        )
        for n in lengths
    ]


def heads_of(x):
    return x.view(len(x), 2, 2).transpose(0, 1)


def causal(x):
    return torch.ones(len(x), len(x)).triu(1).bool()


def scaled_in_place(m, x):
    scores = m.one(x) @ x.T
    scores /= math.sqrt(WIDTH)
    return torch.softmax(scores.masked_fill_(causal(x), -1e9), -1) @ x


SLICES = {
    "x[1:], or all of one": lambda m, x, ids, tags, f: x[1:] if len(x) > 1 else x,
    "x[::2]": lambda m, x, ids, tags, f: m.one(x[::2]),
    "x[-1]": lambda m, x, ids, tags, f: x[-1],
    "x[:]": lambda m, x, ids, tags, f: m.one(x[:]),
    "x[list]": lambda m, x, ids, tags, f: x[[0, -1, 0]],
    "x[ids]": lambda m, x, ids, tags, f: x[tags.argsort()],
    "x[computed order]": lambda m, x, ids, tags, f: x[m.score(x).squeeze(-1).argsort()],
    "x[computed place]": lambda m, x, ids, tags, f: x[m.score(x).squeeze(-1).argmax()],
    "x[:2, 1:]": lambda m, x, ids, tags, f: x[:2, 1:].sum(0),
    "x[0, 1:]": lambda m, x, ids, tags, f: x[0, 1:],
    "x[:, 1:3], x[..., 0]": lambda m, x, ids, tags, f: (x[:, 1:3], x[..., 0]),
    "index_select, flip, roll": lambda m, x, ids, tags, f: (
        x.index_select(0, tags.argsort()) + x.flip(0) * torch.roll(x, 1, 0)
    ),
    "by keyword": lambda m, x, ids, tags, f: (
        x.flip(dims=(0,)),
        x.unsqueeze(dim=1).squeeze(dim=1),
        torch.roll(x, shifts=-1, dims=0),
        x.index_select(dim=0, index=tags.argsort()),
    ),
    "pad": lambda m, x, ids, tags, f: F.pad(x, (0, 0, 1, 2)),
    "windows": lambda m, x, ids, tags, f: (lambda y: m.one(y[:-2]) + y[1:-1] * y[2:])(F.pad(x, (0, 0, 1, 1))),
}
SHAPES = {
    "squeeze(-1)": lambda m, x, ids, tags, f: m.score(x).squeeze(-1),
    "view and back": lambda m, x, ids, tags, f: x.view(len(x), 2, -1).transpose(1, 2).reshape(-1, WIDTH),
    "cat, stack and split": lambda m, x, ids, tags, f: (
        torch.cat([x, m.one(x)], -1).chunk(2, -1)[1],
        torch.stack([x, f], 1),
        torch.cat([m.query.unsqueeze(0), x]),
    ),
    "expand, repeat": lambda m, x, ids, tags, f: x + m.query.expand(len(x), -1) * m.one(x[0]).repeat(len(x), 1),
    "new_ones": lambda m, x, ids, tags, f: x * x.new_ones(len(x), 1) + x.new_zeros(x.shape[0], WIDTH),
    "x.T": lambda m, x, ids, tags, f: x.T,
    "x[None], flatten": lambda m, x, ids, tags, f: (m.one(x[None]), x.flatten()),
    "batch of one through modules": lambda m, x, ids, tags, f: m.norm(torch.relu(m.one(x.unsqueeze(0))))[0],
    "gram": lambda m, x, ids, tags, f: x.T @ x,
    "two axes": lambda m, x, ids, tags, f: x @ x.T,
}
REDUCED = {
    "std, var, norm": lambda m, x, ids, tags, f: (x.std(0, correction=0), x.var(0, unbiased=False), x.norm(dim=0)),
    "standardised": lambda m, x, ids, tags, f: (x - x.mean(0)) / (x.std(0, correction=0) + 1),
    "cumsum, prod": lambda m, x, ids, tags, f: (x.cumsum(0), x.prod(0)),
    "argmax, sort, any": lambda m, x, ids, tags, f: (x.argmax(0), x.sort(0).values, (x > 0).any(0)),
    "amin, median": lambda m, x, ids, tags, f: (x.amin(0, keepdim=True), x.median(0).values),
    "everything": lambda m, x, ids, tags, f: (x.mean(), x.max(), x.norm(), x.sum((0, 1)), x.logsumexp((0, 1))),
    "topk": lambda m, x, ids, tags, f: m.score(x).squeeze(-1).topk(1).values,
    "accuracy": lambda m, x, ids, tags, f: (m.tag(x).argmax(-1) == tags).double().mean(),
}
LOSSES = {
    "cross_entropy": lambda m, x, ids, tags, f: F.cross_entropy(m.tag(x), tags, label_smoothing=0.1),
    "cross_entropy, sum": lambda m, x, ids, tags, f: F.cross_entropy(m.tag(x), tags, reduction="sum", ignore_index=2),
    "cross_entropy, weights": lambda m, x, ids, tags, f: F.cross_entropy(m.tag(x), tags, weight=torch.arange(1.0, 6)),
    "nn.CrossEntropyLoss": lambda m, x, ids, tags, f: m.loss(m.tag(x), tags),
    "nll_loss": lambda m, x, ids, tags, f: F.nll_loss(F.log_softmax(m.tag(x), -1), tags),
    "mse_loss, kl_div": lambda m, x, ids, tags, f: (
        F.mse_loss(x, f) + F.kl_div(F.log_softmax(x, -1), f.softmax(-1), reduction="batchmean")
    ),
    "binary_cross_entropy_with_logits": lambda m, x, ids, tags, f: F.binary_cross_entropy_with_logits(
        m.score(x).squeeze(-1), (tags > 2).double()
    ),
    "picked": lambda m, x, ids, tags, f: m.tag(x).log_softmax(-1)[torch.arange(len(tags)), tags].sum(),
}
POSITIONS = {
    "parameter[: len]": lambda m, x, ids, tags, f: x + m.table[: len(x)],
    "parameter[arange]": lambda m, x, ids, tags, f: x * m.table[torch.arange(len(x))] + m.bias[: len(x), None],
    "embedding(arange)": lambda m, x, ids, tags, f: x + m.places(torch.arange(len(x))),
    "masks": lambda m, x, ids, tags, f: x * (ids != 0).unsqueeze(-1) * torch.linspace(0, 1, len(x))[:, None],
    "features alone": lambda m, x, ids, tags, f: (f @ m.query, F.linear(f, m.one.weight), f + m.one(x[0])),
}
ATTENTION = {
    "additive": lambda m, x, ids, tags, f: (torch.softmax(m.score(torch.tanh(m.one(x) + m.two(x[-1]))), 0) * x).sum(0),
    "dot": lambda m, x, ids, tags, f: torch.softmax(x @ m.one(x[-1]) / math.sqrt(WIDTH), 0) @ x,
    "q @ K.T": lambda m, x, ids, tags, f: torch.softmax(x[-1] @ x.T, -1) @ x,
    "q[None] @ K.T": lambda m, x, ids, tags, f: (torch.softmax(x[-1:] @ x.transpose(0, 1), -1) @ x).squeeze(0),
    "weights.T @ V": lambda m, x, ids, tags, f: torch.softmax(m.one(x), 0).T @ x,
    "einsum": lambda m, x, ids, tags, f: torch.einsum("t,td->d", torch.einsum("td,d->t", x, x[0]).softmax(0), x),
    "masked": lambda m, x, ids, tags, f: torch.softmax(m.score(x).squeeze(-1).masked_fill(ids == 0, -1e9), 0) @ x,
    "self": lambda m, x, ids, tags, f: torch.softmax(m.one(x) @ m.two(x).T / math.sqrt(WIDTH), -1) @ x,
    "self, causal, in place": lambda m, x, ids, tags, f: scaled_in_place(m, x),
    "self, weights too": lambda m, x, ids, tags, f: (lambda w: (w @ x, w))(torch.softmax(x @ m.one(x).T, -1)),
    "self, heads": lambda m, x, ids, tags, f: (
        F.scaled_dot_product_attention(heads_of(m.one(x)), heads_of(x), heads_of(m.two(x)), attn_mask=~causal(x))
        .transpose(0, 1)
        .reshape(-1, WIDTH)
    ),
    "scaled_dot_product, causal": lambda m, x, ids, tags, f: F.scaled_dot_product_attention(
        m.one(x), x, x, is_causal=True
    ),
    "scaled_dot_product, one query": lambda m, x, ids, tags, f: F.scaled_dot_product_attention(m.table[:2], x, x),
    "MultiheadAttention": lambda m, x, ids, tags, f: m.heads(x, x, x),
    "MultiheadAttention across": lambda m, x, ids, tags, f: m.heads(m.table[:2], x, x, need_weights=False)[0],
    "TransformerEncoderLayer": lambda m, x, ids, tags, f: m.encoder(x),
    "TransformerEncoderLayer, batch of one": lambda m, x, ids, tags, f: m.encoder(x[None])[0],
}
FAR = torch.arange(20)
ATTENTION |= {
    "pairs": lambda m, x, ids, tags, f: torch.cat(
        [x.unsqueeze(1).expand(-1, len(x), -1), x.unsqueeze(0).expand(len(x), -1, -1)], -1
    ).sum((0, 1)),
    "relative positions": lambda m, x, ids, tags, f: (
        torch.softmax(x @ x.T + m.places((FAR[: len(x), None] - FAR[None, : len(x)]).abs()).sum(-1), -1) @ x
    ),
    "a bias for every distance": lambda m, x, ids, tags, f: (
        torch.softmax(x @ x.T + m.table[:, 0][(FAR[: len(x), None] - FAR[None, : len(x)]).abs()], -1) @ x
    ),
}
SEQUENCES = {
    "conv1d": lambda m, x, ids, tags, f: m.conv(x.t().unsqueeze(0)).squeeze(0).t(),
    "conv1d, greatest": lambda m, x, ids, tags, f: m.conv(x.t()).relu().amax(-1),
    "gru": lambda m, x, ids, tags, f: m.gru(x),
    "rows in Python": lambda m, x, ids, tags, f: sum(k * a * b for k, (a, b) in enumerate(zip(x, f, strict=True))),
}
IDIOMS = {**SLICES, **SHAPES, **REDUCED, **LOSSES, **POSITIONS, **ATTENTION, **SEQUENCES}


@pytest.mark.parametrize("use", [pytest.param(use, id=name) for name, use in IDIOMS.items()])
def test_equal_to_the_loop_and_no_further_length_makes_a_type(use):
    model = Sentence(use)
    batched = bale.batch(model, check="always")
    made = None
    for lengths in (LENGTHS, OTHERS):
        samples = sentences(lengths)
        wanted = observe(lambda samples=samples: [model(s) for s in samples], model, samples)
        got = observe(lambda samples=samples: batched(samples), model, samples)
        assert_observed(got, wanted, 1e-10, 1e-10)
        made = made or len(batched.registry.cell_types())
    assert len(batched.registry.cell_types()) == made


SOME = ("x[computed order]", "x.T", "two axes", "cumsum, prod", "self, weights too", "MultiheadAttention", "gru")


@pytest.mark.parametrize("executor", ["reference", "planned"])
@pytest.mark.parametrize("name", SOME)
def test_any_policy_and_executor(name, executor):
    assert_same(Sentence(IDIOMS[name]), sentences(LENGTHS), executor=executor)


def test_what_treats_rows_alike_runs_on_all_of_them_at_once():
    def use(m, x, ids, tags, f):
        y = m.norm(F.gelu(m.one(x))) * m.query + f
        return m.loss(m.tag(torch.cat([y, x], -1).chunk(2, -1)[0]), tags) + m.two(x[None])[0].sum()

    model = Sentence(use)
    batched = bale.batch(model)
    batched(sentences(LENGTHS))
    assert "by length" not in {cell.rung_name for cell in batched.registry.cell_types()}


def test_the_number_of_batches_does_not_grow_with_the_number_of_lengths():
    batched = bale.batch(Sentence(ATTENTION["self, heads"]))
    counts = set()
    for lengths in ((3,), (3, 7, 9), (6, 8, 10, 11, 12, 13)):
        batched(sentences(lengths))
        assert batched.last is not None
        counts.add((batched.last.types, batched.last.batches))
    assert len(counts) == 1


def test_without_gradients_and_twice_differentiated():
    model = Sentence(ATTENTION["self"])
    samples = sentences(LENGTHS)
    batched = bale.batch(model)
    with torch.no_grad():
        for out, sample in zip(batched(samples), samples, strict=True):
            torch.testing.assert_close(out, model(sample))
    weight = model.one.weight
    second = []
    for outputs in (batched(samples), [model(s) for s in samples]):
        (first,) = torch.autograd.grad(torch.cat(outputs).square().sum(), weight, create_graph=True)
        second.append(torch.autograd.grad(first.square().sum(), weight)[0])
    torch.testing.assert_close(*second)


def test_gradients_of_the_samples_own_matrices():
    def use(m, x, ids, tags, f):
        return torch.softmax(f @ x.T, -1) @ f

    samples = [(ids, tags, features.requires_grad_()) for ids, tags, features in sentences(LENGTHS)]
    assert_same(Sentence(use), samples)


class Halves(nn.Module):
    """A module of the user's own that handles structure: which layer it takes depends on the length."""

    def __init__(self, asks, then):
        super().__init__()
        self.asks, self.then = asks, then
        self.short, self.long = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        return self.then((self.short if self.asks(x) < 8 else self.long)(x))


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("then", [torch.tanh, lambda x: x.cumsum(0)])
@pytest.mark.parametrize("asks", [len, lambda x: x.shape[0], lambda x: x.size(0), lambda x: x.numel() / WIDTH])
def test_python_that_depends_on_the_length_in_a_module(asks, then, marked):
    model = Sentence(lambda m, x, ids, tags, f: m.halves(x))
    model.halves = Halves(asks, then)
    if marked:
        bale.cell(model.halves)
    assert_same(model, sentences(LENGTHS), policy="depth")


class Pooling(nn.Module):
    def __init__(self):
        super().__init__()
        self.score = nn.Linear(WIDTH, 1)

    def forward(self, x):
        return (self.score(x).squeeze().softmax(0).unsqueeze(-1) * x).sum(0) if len(x) > 1 else x[0]


@pytest.mark.parametrize("marked", [False, True])
def test_attention_in_a_module_of_its_own(marked):
    model = Sentence(lambda m, x, ids, tags, f: m.pooling(x))
    model.pooling = Pooling()
    if marked:
        bale.cell(model.pooling)
    assert_same(model, sentences(LENGTHS))


def test_squeeze_takes_the_length_of_a_single_row_as_torch_does():
    assert_same(
        Sentence(lambda m, x, ids, tags, f: (m.score(x).squeeze(), x.squeeze(0), x.squeeze())), sentences(LENGTHS)
    )


def test_dropout_inside_attention_draws_for_every_sentence_alone():
    model = Sentence(lambda m, x, ids, tags, f: m.dropping(x, x, x, need_weights=False)[0])
    model.dropping = nn.MultiheadAttention(WIDTH, 2, dropout=0.5)
    samples = sentences((7, 3, 7, 7, 9))
    batched = bale.batch(model, merge=False)
    outputs = [batched([samples[0]] * 4 + samples) for _ in range(2)]
    assert len(batched.registry.cell_types()) == 4  # words, tanh, a seed for each call, attention
    assert not torch.equal(outputs[0][0], outputs[0][1])  # one sentence, other draws
    model.eval()
    assert_same(model, samples)


def test_dropped_weights_are_the_same_for_all_that_read_them():
    """In scores of word against word, which every reader computes for itself."""

    def use(m, x, ids, tags, f):
        weights = F.dropout(torch.softmax(x @ m.one(x).T, -1), 0.5)
        return weights @ x, weights.sum(-1), weights, x

    batched = bale.batch(Sentence(use))
    for lengths in (LENGTHS, OTHERS):
        for mixed, total, weights, x in batched(sentences(lengths)):
            torch.testing.assert_close(mixed, weights @ x)
            torch.testing.assert_close(total, weights.sum(-1))
    made = len(batched.registry.cell_types())
    batched(sentences((12, 11, 13)))
    assert len(batched.registry.cell_types()) == made
    torch.manual_seed(0)
    first = batched(sentences(LENGTHS))[1][2]
    torch.manual_seed(0)
    assert torch.equal(first, batched(sentences(LENGTHS))[1][2])
    assert (first == 0).any() and not (first == 0).all()


def test_writing_in_place_into_what_shares_memory():
    def view(m, x, ids, tags, f):
        y = m.one(x)
        y.t().add_(1)
        return y

    def own(m, x, ids, tags, f):
        scores = x @ x.T
        scores += 1
        return scores @ x

    assert_same_or_error(Sentence(view), sentences(LENGTHS), "shares its memory")
    assert_same(Sentence(own), sentences(LENGTHS))


@pytest.mark.parametrize(
    ("use", "kind"),
    [
        (lambda m, x, ids, tags, f: x[1:].max(0).values, IndexError),
        (lambda m, x, ids, tags, f: x.T @ x.T, RuntimeError),
        (lambda m, x, ids, tags, f: torch.softmax(x @ x.T, -1) @ x[:2], RuntimeError),
        (lambda m, x, ids, tags, f: x[[2]], IndexError),
    ],
)
def test_what_torch_refuses_names_the_sample(use, kind):
    samples = sentences((WIDTH, WIDTH, 1) if kind is IndexError else (2, 2, 7))
    model = Sentence(use)
    with pytest.raises(kind) as wanted:
        [model(sample) for sample in samples]
    with pytest.raises(kind) as caught:
        bale.batch(model)(samples)
    assert str(wanted.value).splitlines()[0] in str(caught.value)
    assert any("sample" in note for note in getattr(caught.value, "__notes__", []))
