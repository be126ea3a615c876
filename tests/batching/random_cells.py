"""Which cells does the law have to hold for? A list, and small models over trees and chains."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from tests.batching.cell_modules import (
    WIDTH,
    Attending,
    Bound,
    ClippedGradient,
    Constants,
    Highway,
    MatrixVector,
    Of,
    Peephole,
    Planes,
    Products,
    StraightThrough,
    TreeGRU,
    TreeLSTM,
    TwoNames,
    Unregistered,
    autocast_left,
    clipped_by_a_hook,
    dot_attention,
    fills_a_new_tensor,
    frozen,
    fused_attention,
    in_place,
    linear,
    matrix,
    maxout,
    partly_without_gradient,
    recomputed,
    static_argument,
    symmetric,
    tensor_network,
    two_layers,
    used_norm,
    watched,
)
from torch import Tensor, nn
from torch.nn.utils import parametrizations

WORDS = 6

Nested = Any  # a tree: the number of a leaf, or (kind, left, right)
Sample = tuple[Nested, list[Tensor], list[Tensor]]  # the tree, and of each leaf a vector [WIDTH] and a word


def call(cell: nn.Module, left: Any, right: Any) -> Any:
    return cell(left, right)


def on_left(cell: nn.Module, left: Tensor, right: Tensor) -> Tensor:
    return cell(left) + 0.5 * right


def on_both(cell: nn.Module, left: Tensor, right: Tensor) -> Tensor:
    return cell(torch.cat([left, right]))


def on_word(cell: nn.Module, vector: Tensor, word: Tensor) -> Any:
    return cell(word)


def on_vector(cell: nn.Module, vector: Tensor, word: Tensor) -> Any:
    return cell(vector)


def joined(cell: nn.Module, left: Tensor, right: Tensor) -> Tensor:
    """For cells of two vector outputs."""
    first, second = cell(left, right)
    return first + second.tanh()


@dataclass(frozen=True)
class Case:
    """One model: how a leaf and an inner node are made, and which modules do it.

    `training` is the model's mode; `python` says that the cell cannot be one and is descended into; `vector`
    that its values are plain vectors [WIDTH]; `autocast` that torch runs it under autocast at all.
    """

    inner: Callable[[], nn.Module]
    use: Callable[..., Any] = call
    leaf: Callable[[], nn.Module] = linear
    use_leaf: Callable[..., Any] = on_vector
    training: bool = True
    python: bool = False
    vector: bool = True
    autocast: bool = True


class Net(nn.Module):
    """A recursive network: `cases[kind]` says which cell joins two values; the first case makes the leaves."""

    def __init__(self, cases: list[Case]) -> None:
        super().__init__()
        self.uses, self.use_leaf = [case.use for case in cases], cases[0].use_leaf
        self.leaf = cases[0].leaf()
        self.cells = nn.ModuleList(case.inner() for case in cases)

    def forward(self, sample: Sample) -> dict[str, Any]:
        tree, vectors, words = sample
        values: list[Any] = []

        def build(node: Nested) -> Any:
            if isinstance(node, int):
                value = self.use_leaf(self.leaf, vectors[node], words[node])
            else:
                kind, left, right = node
                kind %= len(self.uses)
                value = self.uses[kind](self.cells[kind], build(left), build(right))
            values.append(value)
            return value

        return {"root": build(tree), "some": values[::3], "size": len(values)}


def random_tree(rng: random.Random, leaves: int, chain: bool) -> Nested:
    """A tree over the leaves 0, 1, ...: any shape, or a comb."""
    nodes: list[Nested] = list(range(leaves))
    while len(nodes) > 1:
        at = 0 if chain else rng.randrange(len(nodes) - 1)
        nodes[at : at + 2] = [(rng.randrange(12), nodes[at], nodes[at + 1])]
    return nodes[0]


def samples(seed: int, count: int, numbers: int = 0) -> list[Sample]:
    """`count` samples of unlike structure, by `seed`, with vectors by `numbers`, every second with a gradient.

    Where `numbers` is odd there are three vectors in all, so that samples share them and repeat what others compute.
    """
    rng, generator = random.Random(seed), torch.Generator().manual_seed(1000 * numbers + seed)

    def draw(length: int) -> list[Tensor]:
        drawn = torch.randn(length, WIDTH, generator=generator, dtype=torch.float64).to(torch.get_default_dtype())
        return [vector.clone().requires_grad_(j % 2 == 0) for j, vector in enumerate(drawn)]

    shared = draw(3)
    made = []
    for k in range(count):
        leaves = rng.randint(1, 5) if count > 1 else 3
        vectors = [shared[(j + k) % 3] for j in range(leaves)] if numbers % 2 else draw(leaves)
        words = [torch.tensor(rng.randrange(WORDS)) for _ in range(leaves)]
        made.append((random_tree(rng, leaves, chain=k % 2 == 0), vectors, words))
    return made


def of(function: Callable[..., Any], **parts: Callable[[], Any]) -> Callable[[], nn.Module]:
    return lambda: Of(function, **{name: make() for name, make in parts.items()})


def layers(*makers: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*(make() for make in makers))


def after_linear(make: Callable[[], nn.Module]) -> Case:
    return Case(layers(linear, make), on_left)


STATE = of(lambda m, x: (m.h(x).tanh(), m.c(x)), h=linear, c=linear)  # a leaf (h, c)
VECTOR_AND_MATRIX = of(lambda m, x: (x + 0, torch.outer(m.h(x), x)), h=linear)
PAIR = {"leaf": STATE, "vector": False}

CASES: dict[str, Case] = {
    "linear": Case(linear, on_left),
    "linear without bias": Case(lambda: linear(bias=False), on_left),
    "mlp": Case(layers(lambda: linear(2 * WIDTH), nn.Tanh, linear), on_both),
    "layer norm": Case(lambda: nn.LayerNorm(WIDTH), on_left),
    "layer norm without weights": Case(lambda: nn.LayerNorm(WIDTH, elementwise_affine=False), on_left),
    "rms norm": Case(lambda: nn.RMSNorm(WIDTH), on_left),
    "group norm": Case(
        of(
            lambda m, x: m.norm(torch.outer(x, m.w)[None])[0].mean(1),
            norm=lambda: nn.GroupNorm(2, WIDTH),
            w=lambda: matrix(3),
        ),
        on_left,
    ),
    "instance norm": Case(
        of(lambda m, x: m.norm(x.view(1, 1, 4)).flatten(), norm=lambda: nn.InstanceNorm1d(1)), on_left
    ),
    "batch norm in eval": Case(used_norm, on_left, training=False),
    "batch norm in training": Case(used_norm, on_left),
    "residual and norm": Case(
        of(lambda m, x: m.norm(x + m.b(F.gelu(m.a(x)))), norm=lambda: nn.LayerNorm(WIDTH), a=linear, b=linear), on_left
    ),
    "gelu": after_linear(nn.GELU),
    "gelu by tanh": after_linear(lambda: nn.GELU("tanh")),
    "silu": after_linear(nn.SiLU),
    "elu": after_linear(nn.ELU),
    "softplus": after_linear(nn.Softplus),
    "mish": after_linear(nn.Mish),
    "selu": after_linear(nn.SELU),
    "softsign": after_linear(nn.Softsign),
    "hardswish": after_linear(nn.Hardswish),
    "log sigmoid": after_linear(nn.LogSigmoid),
    "prelu": Case(layers(linear, nn.PReLU), on_left),
    "relu in place": Case(layers(linear, lambda: nn.ReLU(inplace=True)), on_left),
    "leaky relu in place": Case(layers(linear, lambda: nn.LeakyReLU(0.1, inplace=True)), on_left),
    "glu": Case(layers(lambda: linear(2 * WIDTH, 2 * WIDTH), nn.GLU), on_both),
    "softmax": Case(layers(linear, lambda: nn.Softmax(-1)), on_left),
    "log softmax": Case(layers(linear, lambda: nn.LogSoftmax(0)), on_left),
    "softmax of two parts": Case(of(lambda m, x: m.a(x).view(2, 2).softmax(0).flatten(), a=linear), on_left),
    "bilinear": Case(lambda: nn.Bilinear(WIDTH, WIDTH, WIDTH), autocast=False),
    "neural tensor network": Case(
        of(tensor_network, bilinear=lambda: nn.Bilinear(WIDTH, WIDTH, WIDTH), linear=lambda: linear(2 * WIDTH)),
        autocast=False,
    ),
    "cosine similarity": Case(of(lambda m, a, b: a * m.cos(a, b) + b, cos=lambda: nn.CosineSimilarity(0))),
    "lstm cell": Case(lambda: nn.LSTMCell(WIDTH, WIDTH), lambda cell, a, b: sum(cell(a, (b, b.tanh())))),
    "lstm cell without a state": Case(lambda: nn.LSTMCell(WIDTH, WIDTH), lambda cell, a, b: cell(a)[0] + b),
    "gru cell": Case(lambda: nn.GRUCell(WIDTH, WIDTH)),
    "rnn cell": Case(lambda: nn.RNNCell(WIDTH, WIDTH)),
    "rnn cell with relu": Case(lambda: nn.RNNCell(WIDTH, WIDTH, nonlinearity="relu", bias=False)),
    "lstm over two slots": Case(
        of(lambda m, a, b: m.lstm(torch.stack([a, b]))[0][-1], lstm=lambda: nn.LSTM(WIDTH, WIDTH))
    ),
    "multi-head attention": Case(Attending),
    "dot attention": Case(of(dot_attention, linear=linear)),
    "fused attention": Case(of(fused_attention, linear=lambda: linear(WIDTH, 3 * WIDTH))),
    "transformer layer": Case(
        of(
            lambda m, a, b: m.layer(torch.stack([a, b])).sum(0),
            layer=lambda: nn.TransformerEncoderLayer(WIDTH, 2, 5, dropout=0.0),
        )
    ),
    "convolution along features": Case(
        of(lambda m, x: m.conv(x.view(2, 2)).flatten(), conv=lambda: nn.Conv1d(2, 2, 1)), on_left
    ),
    "convolution of planes": Case(
        Planes, leaf=of(lambda m, x: m.a(x).view(2, 5), a=lambda: linear(WIDTH, 10)), vector=False
    ),
    "convolution of an image": Case(
        of(lambda m, x: m.conv(x.view(1, 2, 2)).mean(0).flatten(), conv=lambda: nn.Conv2d(1, 3, 3, padding=1)), on_left
    ),
    "matrices and vectors": Case(MatrixVector, leaf=VECTOR_AND_MATRIX, vector=False),
    "products of matrices": Case(Products, leaf=of(lambda m, x: torch.outer(m.a(x), x), a=linear), vector=False),
    "peephole lstm": Case(Peephole, **PAIR),
    "tree lstm": Case(TreeLSTM, **PAIR),
    "tree gru": Case(TreeGRU),
    "highway": Case(Highway, on_left),
    "maxout": Case(of(maxout, linear=lambda: linear(WIDTH, 2 * WIDTH)), on_left),
    "einsum": Case(of(lambda m, a, b: torch.einsum("i,ijk,k->j", a, m.w, b), w=lambda: matrix(WIDTH, WIDTH, WIDTH))),
    "matrix from the left": Case(of(lambda m, a, b: (m.w @ a).tanh() + torch.mv(m.w.T, b), w=matrix), autocast=False),
    "weights made of a value": Case(
        of(lambda m, a, b: torch.tanh(m.make(a).view(WIDTH, WIDTH) @ b), make=lambda: linear(WIDTH, WIDTH * WIDTH))
    ),
    "clamp and where": Case(
        of(lambda m, a, b: torch.where(a > b, m.linear(a).clamp(-0.7, 0.7), torch.maximum(a, -b)), linear=linear)
    ),
    "reductions over features": Case(
        of(lambda m, a, b: m.linear(a) * b.norm() + a.std() - b.logsumexp(0) + a.amax() + b.mean(), linear=linear)
    ),
    "scan, sort and roll": Case(
        of(lambda m, a, b: m.linear(a.cumsum(0)) + b.sort().values + b.roll(1, 0) + a.flip(0) / 2, linear=linear)
    ),
    "normalised": Case(of(lambda m, x: F.normalize(m.linear(x), dim=0), linear=linear), on_left),
    "fourier transform": Case(
        of(lambda m, x: torch.fft.irfft(torch.fft.rfft(m.linear(x)) * 0.5, WIDTH), linear=linear), on_left
    ),
    "spread over two outputs": Case(
        of(lambda m, a, b: m.linear(a + b).unflatten(0, (2, WIDTH)).unbind(0), linear=lambda: linear(WIDTH, 2 * WIDTH)),
        joined,
    ),
    "dictionary of outputs": Case(
        of(lambda m, a, b: {"h": m.linear(a) + b, "count": 2, "gate": [a.sigmoid()]}, linear=linear),
        lambda cell, a, b: (lambda out: out["h"] * out["gate"][0] / out["count"])(cell(a, b)),
    ),
    "named tuple of outputs": Case(
        of(lambda m, a, b: Bound(m.linear(a) + b, b.sigmoid()), linear=linear),
        lambda cell, a, b: (lambda out: out.value * out.gate)(cell(a, b)),
    ),
    "an output that is no float": Case(
        of(lambda m, a, b: (m.linear(a) + b, a > b, a.argmax()), linear=linear),
        lambda cell, a, b: (lambda h, larger, top: torch.where(larger, h, b) + top)(*cell(a, b)),
    ),
    "embedding": Case(linear, on_left, lambda: nn.Embedding(WORDS, WIDTH), on_word),
    "embedding with padding": Case(linear, on_left, lambda: nn.Embedding(WORDS, WIDTH, padding_idx=0), on_word),
    "embedding and a layer": Case(linear, on_left, layers(lambda: nn.Embedding(WORDS, WIDTH), linear), on_word),
    "embedding bag": Case(
        linear,
        on_left,
        of(lambda m, word: m.bag(torch.stack([word, word // 2])[None])[0], bag=lambda: nn.EmbeddingBag(WORDS, WIDTH)),
        on_word,
    ),
    "one-hot words": Case(
        linear,
        on_left,
        of(lambda m, word: m.a(F.one_hot(word, WORDS).to(m.a.weight.dtype)), a=lambda: linear(WORDS)),
        on_word,
    ),
    "a row of a table": Case(
        linear, on_left, of(lambda m, word: m.table[word].tanh(), table=lambda: matrix(WORDS, 4)), on_word, python=True
    ),
    "a row of a table, selected": Case(
        linear,
        on_left,
        of(lambda m, word: m.table.index_select(0, word[None])[0], table=lambda: matrix(WORDS, 4)),
        on_word,
    ),
    "words and vectors": Case(
        linear, on_left, of(lambda m, x, word: m.embed(word) * x, embed=lambda: nn.Embedding(WORDS, WIDTH)), call
    ),
    "frozen": Case(lambda: frozen(linear()), on_left),
    "frozen weight": Case(lambda: frozen(linear(), "weight"), on_left),
    "a frozen layer below": Case(layers(lambda: frozen(linear()), nn.Tanh, linear), on_left),
    "partly without gradient": Case(of(partly_without_gradient, share=linear, linear=linear)),
    "detached": Case(of(lambda m, a, b: m.linear(a.detach()) * b + m.other(b).detach(), linear=linear, other=linear)),
    "blind to one input": Case(of(lambda m, a, b: m.linear(b).tanh(), linear=linear)),
    "blind to both inputs": Case(of(lambda m, a, b: m.linear.bias.exp() * 2, linear=linear)),
    "returns its input": Case(of(lambda m, a, b: b)),
    "returns its input beside a value": Case(of(lambda m, a, b: (m.linear(a), b), linear=linear), joined),
    "returns a part of its input": Case(
        of(lambda m, a, b: (a[:2], m.linear(b)[2:]), linear=linear), lambda cell, a, b: torch.cat(cell(a, b))
    ),
    "one value twice": Case(of(lambda m, a, b: (lambda h: (h, h))(m.linear(a) + b), linear=linear), joined),
    "identity": Case(nn.Identity, on_left),
    "two names for a weight": Case(TwoNames),
    "unregistered parameter": Case(Unregistered),
    "constants in attributes": Case(Constants),
    "two calls of a layer": Case(of(lambda m, a, b: m.linear(m.linear(a)) + b, linear=linear), python=True),
    "list of layers": Case(of(two_layers, layers=lambda: nn.ModuleList([linear(), linear()])), on_left),
    "dictionary of parameters": Case(
        of(lambda m, a, b: m.p["w"] @ a + m.p["v"] * b, p=lambda: nn.ParameterDict({"w": matrix(), "v": matrix(4)}))
    ),
    "weight norm": Case(lambda: parametrizations.weight_norm(linear()), on_left),
    "orthogonal": Case(lambda: parametrizations.orthogonal(linear()), on_left),
    "symmetric weight": Case(symmetric, on_left),
    "spectral norm in eval": Case(lambda: parametrizations.spectral_norm(linear()), on_left, training=False),
    "in place": Case(of(in_place, linear=linear)),
    "fills a new tensor": Case(of(fills_a_new_tensor, linear=linear)),
    "static arguments": Case(of(static_argument, linear=linear), lambda cell, a, b: cell(a, b, flip=True, power=2)),
    "keyword arguments": Case(of(static_argument, linear=linear), lambda cell, a, b: cell(b=a, a=b)),
    "tuple of arguments": Case(
        of(lambda m, pair, k: m.linear(pair[k]) + pair[0], linear=linear), lambda cell, a, b: cell((a, b), 1)
    ),
    "one argument twice": Case(of(lambda m, a, b: m.linear(a) * b, linear=linear), lambda cell, a, b: cell(a, a) + b),
    "recomputed": Case(of(recomputed, linear=linear)),
    "custom gradient": Case(of(lambda m, x: StraightThrough.apply(m.linear(x)), linear=linear), on_left),
    "clipped by a custom gradient": Case(of(lambda m, a, b: ClippedGradient.apply(m.linear(a)) + b, linear=linear)),
    "clipped by a hook": Case(of(clipped_by_a_hook, linear=linear)),
    "clipped by a backward hook": Case(watched, on_left),
    "autocast left": Case(of(autocast_left, linear=linear), on_left),
    "average pooling": Case(of(lambda m, x: m.linear(F.avg_pool1d(x[None], 2)[0]), linear=lambda: linear(2)), on_left),
}


NOISE: dict[str, Callable[[], nn.Module]] = {
    "dropout": lambda: nn.Dropout(0.4),
    "alpha dropout": lambda: nn.AlphaDropout(0.3),
    "functional dropout": lambda: Of(lambda m, x: F.dropout(x, 0.5, training=m.training)),
    "uniform": lambda: Of(lambda m, x: torch.rand_like(x) + x),
    "normal in place": lambda: Of(lambda m, x: torch.empty_like(x).normal_(1.0, 0.3)),
}
