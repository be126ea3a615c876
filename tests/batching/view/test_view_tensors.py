"""What works on a tensor in a per-sample forward works on the lazy value: one expression each."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from same import assert_same
from small import WIDTH, Use, UseModel, matrices, vectors
from torch import nn

ARITHMETIC = {
    "h + x": lambda h, x: h + x,
    "x + h": lambda h, x: x + h,
    "x - h": lambda h, x: x - h,
    "x * h": lambda h, x: x * h,
    "x / h": lambda h, x: x / h,
    "h + 1": lambda h, x: h + 1,
    "1 - h": lambda h, x: 1 - h,
    "2 / h": lambda h, x: 2 / h,
    "2.5 * h": lambda h, x: 2.5 * h,
    "h ** 2": lambda h, x: h**2,
    "h ** -1.5": lambda h, x: h.abs() ** -1.5,
    "2 ** h": lambda h, x: 2**h,
    "h ** h": lambda h, x: h.abs() ** h,
    "h // 1": lambda h, x: h.detach() // 1,
    "h % 2": lambda h, x: h % 2,
    "3 % h": lambda h, x: 3 % (h.detach().abs() + 1),
    "7 // h": lambda h, x: 7 // (h.detach().abs() + 1),
    "-h": lambda h, x: -h,
    "+h": lambda h, x: +h,
    "abs(h)": lambda h, x: abs(h),
    "h @ x": lambda h, x: h @ x,
    "x @ h": lambda h, x: x @ h,
    "h + numpy scalar": lambda h, x: h + np.float64(1.5),
    "numpy scalar + h": lambda h, x: np.float64(1.5) + h,
    "numpy scalar * h": lambda h, x: np.float32(0.5) * h,
    "numpy integer * h": lambda h, x: np.int64(2) * h,
    "h * numpy array": lambda h, x: h * torch.from_numpy(np.arange(3.0)),
    "h * math constant": lambda h, x: h * math.pi,
    "h * bool": lambda h, x: h * True,
    "h + a tensor made here": lambda h, x: h + torch.tensor([1.0, 2.0, 3.0]),
    "a 0-d tensor * h": lambda h, x: torch.tensor(2.0) * h,
    "h + int tensor": lambda h, x: h + torch.arange(3),
    "h + float32 tensor": lambda h, x: h + torch.ones(3, dtype=torch.float32),
    "broadcasting": lambda h, x: h[:, None] * h[None, :] + x,
    "broadcast with a matrix": lambda h, x: torch.ones(2, 3) * h,
    "chain": lambda h, x: (h + x) * (h - x) / (h.square() + 1),
    "h with itself": lambda h, x: h * h + h,
}
COMPARISON = {
    "h < x": lambda h, x: h < x,
    "x < h": lambda h, x: x < h,
    "h >= 0": lambda h, x: h >= 0,
    "0 < h": lambda h, x: 0 < h,  # noqa: SIM300
    "h == h": lambda h, x: h == h,
    "h != x": lambda h, x: h != x,
    "and, or, not, xor": lambda h, x: ((h > 0) & (x > 0) | ~(h > x)) ^ (h < 1),
    "where(mask, h, x)": lambda h, x: torch.where(h > 0, h, x),
    "where(mask, number, h)": lambda h, x: torch.where(x > 0, -1, h),
    "mask * h": lambda h, x: (h > 0) * h,
    "masked_fill": lambda h, x: h.masked_fill(h > 0, -1e3),
    "isnan": lambda h, x: h.isnan(),
    "any, all": lambda h, x: ((h > 0).any(), (h > 0).all()),
}
INDEXING = {
    "h[0]": lambda h, x: h[0],
    "h[-1]": lambda h, x: h[-1],
    "h[True-like int]": lambda h, x: h[np.int64(1)],
    "h[1:]": lambda h, x: h[1:],
    "h[:-1]": lambda h, x: h[:-1],
    "h[::2]": lambda h, x: h[::2],
    "h[3:]": lambda h, x: h[3:],
    "h[None]": lambda h, x: h[None],
    "h[..., None]": lambda h, x: h[..., None],
    "h[...]": lambda h, x: h[...],
    "h[:]": lambda h, x: h[:],
    "matrix[1]": lambda h, x: (h[:, None] * x)[1],
    "matrix[:, 1]": lambda h, x: (h[:, None] * x)[:, 1],
    "matrix[1, 2]": lambda h, x: (h[:, None] * x)[1, 2],
    "matrix[-1, 1:]": lambda h, x: (h[:, None] * x)[-1, 1:],
    "matrix[..., 0]": lambda h, x: (h[:, None] * x)[..., 0],
    "matrix[1][2]": lambda h, x: (h[:, None] * x)[1][2],
    "matrix[None, 1, None]": lambda h, x: (h[:, None] * x)[None, 1, None],
    "h[0-d tensor]": lambda h, x: h[torch.tensor(1)],
    "h[tensor of ids]": lambda h, x: h[torch.tensor([2, 0, 2])],
    "h[list]": lambda h, x: h[[2, 0]],
    "matrix[ids, ids]": lambda h, x: (h[:, None] * x)[torch.tensor([0, 1]), torch.tensor([2, 2])],
    "matrix[:, ids]": lambda h, x: (h[:, None] * x)[:, torch.tensor([2, 0])],
    "h[argmax]": lambda h, x: x[h.argmax()] + h[x.argmax()],
    "sample[lazy index]": lambda h, x: torch.stack([x, x + 1])[(h.sum() > 0).long()],
    "gather": lambda h, x: h.gather(0, torch.tensor([1, 1])),
    "index_select": lambda h, x: h.index_select(0, torch.tensor([1, 0])),
    "take_along_dim": lambda h, x: torch.take_along_dim(h, h.argsort(), 0),
    "narrow, select": lambda h, x: (h.narrow(0, 1, 2), h.select(0, 1)),
}
ITERATING = {
    "list(h)": lambda h, x: list(h),
    "a, b, c = h": lambda h, x: (lambda a, b, c: a * b - c)(*h),
    "for row in matrix": lambda h, x: [row.sum() for row in h[:, None] * x],
    "unbind": lambda h, x: h.unbind(),
    "unbind(1)": lambda h, x: (h[:, None] * x).unbind(1),
    "chunk": lambda h, x: h.chunk(2),
    "split": lambda h, x: torch.split(h, [1, 2]),
    "zip with a list": lambda h, x: [a * k for a, k in zip(h, range(3), strict=True)],
    "sum(h)": lambda h, x: sum(h),
    "max of two": lambda h, x: torch.maximum(*(h[:, None] * x)[:2]),
    "reversed by flip": lambda h, x: list(h.flip(0)),
    "enumerate": lambda h, x: [k * a for k, a in enumerate(h)],
}
FUNCTIONS = {
    "torch.tanh": lambda h, x: torch.tanh(h),
    "torch.add with alpha": lambda h, x: torch.add(h, x, alpha=2),
    "torch.cat": lambda h, x: torch.cat([h, x, h]),
    "torch.cat of unlike lengths": lambda h, x: torch.cat((h[:1], x, torch.zeros(2))),
    "torch.stack": lambda h, x: torch.stack([h, x]),
    "torch.stack along 1": lambda h, x: torch.stack([h, x, h], 1),
    "torch.outer": lambda h, x: torch.outer(h, x),
    "torch.einsum": lambda h, x: torch.einsum("i,j->ij", h, x),
    "torch.dot": lambda h, x: torch.dot(x, h),
    "torch.matmul": lambda h, x: torch.matmul(torch.outer(x, h), h),
    "torch.addmv": lambda h, x: torch.addmv(x, torch.outer(h, x), h),
    "torch.softmax": lambda h, x: torch.softmax(h, dim=-1),
    "torch.logsumexp": lambda h, x: torch.logsumexp(h, 0),
    "torch.max": lambda h, x: torch.max(h),
    "torch.max(dim)": lambda h, x: torch.max(torch.outer(h, x), dim=1),
    "torch.sort": lambda h, x: torch.sort(h).values,
    "torch.cumsum": lambda h, x: torch.cumsum(h, 0),
    "torch.norm": lambda h, x: torch.norm(h),
    "torch.linalg.norm": lambda h, x: torch.linalg.norm(h),
    "torch.clamp": lambda h, x: torch.clamp(h, -0.1, 0.1),
    "torch.zeros_like": lambda h, x: torch.zeros_like(h) + h,
    "torch.ones_like": lambda h, x: torch.ones_like(h),
    "torch.lerp": lambda h, x: torch.lerp(h, x, 0.3),
    "torch.roll": lambda h, x: torch.roll(h, 1),
    "F.linear": lambda h, x: F.linear(h, torch.arange(6.0).view(2, 3)),
    "F.relu": lambda h, x: F.relu(h),
    "F.gelu": lambda h, x: F.gelu(h),
    "F.softmax": lambda h, x: F.softmax(h, -1),
    "F.log_softmax": lambda h, x: F.log_softmax(h, 0),
    "F.layer_norm": lambda h, x: F.layer_norm(h, (3,)),
    "F.normalize": lambda h, x: F.normalize(h, dim=0),
    "F.cosine_similarity": lambda h, x: F.cosine_similarity(h, x, dim=0),
    "F.pad": lambda h, x: F.pad(h, (1, 2)),
    "F.one_hot": lambda h, x: F.one_hot(h.argmax(), 3) * h,
    "F.dropout in eval": lambda h, x: F.dropout(h, 0.5, training=False),
    "torch.special": lambda h, x: torch.special.expit(h),
}
METHODS = {
    "tanh()": lambda h, x: h.tanh(),
    "sum()": lambda h, x: h.sum(),
    "mean()": lambda h, x: h.mean(),
    "mean(dim=0, keepdim=True)": lambda h, x: torch.outer(h, x).mean(dim=0, keepdim=True),
    "max(), min()": lambda h, x: (h.max(), h.min()),
    "max(0)": lambda h, x: torch.outer(h, x).max(0),
    "std()": lambda h, x: h.std(),
    "norm()": lambda h, x: h.norm(),
    "view": lambda h, x: h.view(3, 1),
    "view(-1)": lambda h, x: torch.outer(h, x).view(-1),
    "view_as": lambda h, x: h.view_as(x),
    "reshape": lambda h, x: h.reshape(1, 3),
    "flatten": lambda h, x: torch.outer(h, x).flatten(),
    "T": lambda h, x: torch.outer(h, x).T,
    "t()": lambda h, x: torch.outer(h, x).t(),
    "mT": lambda h, x: torch.outer(h, x).mT,
    "transpose": lambda h, x: torch.outer(h, x).transpose(0, 1),
    "permute": lambda h, x: torch.outer(h, x).permute(1, 0),
    "squeeze": lambda h, x: h[None].squeeze(0),
    "unsqueeze": lambda h, x: h.unsqueeze(-1),
    "expand": lambda h, x: h.expand(2, 3),
    "expand_as": lambda h, x: h.expand_as(torch.ones(2, 3)),
    "repeat": lambda h, x: h.repeat(2, 1),
    "contiguous": lambda h, x: torch.outer(h, x).T.contiguous(),
    "clone": lambda h, x: h.clone(),
    "to(dtype)": lambda h, x: h.to(torch.float32),
    "float(), double()": lambda h, x: h.float().double(),
    "long()": lambda h, x: h.long(),
    "type_as": lambda h, x: h.type_as(x),
    "to(device)": lambda h, x: h.to("cpu"),
    "cpu()": lambda h, x: h.cpu(),
    "new_zeros": lambda h, x: h.new_zeros(2) + h[0],
    "new_tensor": lambda h, x: h.new_tensor([1.0, 2.0, 3.0]) * h,
    "new_full": lambda h, x: h.new_full((3,), 2.0) * h,
    "diag": lambda h, x: h.diag(),
    "cumprod": lambda h, x: h.cumprod(0),
    "prod": lambda h, x: h.prod(),
    "topk": lambda h, x: h.topk(2)[0],
    "sort": lambda h, x: h.sort(descending=True)[0],
    "addcmul": lambda h, x: h.addcmul(h, x, value=0.5),
    "dot": lambda h, x: h.dot(x),
    "argmax": lambda h, x: (h.argmax(), h.argmin(-1)),
    "tril": lambda h, x: torch.outer(h, x).tril(),
    "inverse": lambda h, x: (torch.outer(h, h) + torch.eye(3)).inverse(),
    "detach": lambda h, x: h.detach() * h,
    "scatter": lambda h, x: torch.zeros(5).scatter(0, torch.tensor([4, 0, 1]), h),
    "index_add": lambda h, x: torch.zeros(2).index_add(0, torch.tensor([0, 1, 0]), h),
    "apply by name": lambda h, x: getattr(h, "sigmoid")(),  # noqa: B009
}


@pytest.mark.parametrize("use", [pytest.param(f, id=name) for name, f in ARITHMETIC.items()])
def test_arithmetic(use):
    assert_same(Use(use), vectors(4))


@pytest.mark.parametrize("use", [pytest.param(f, id=name) for name, f in COMPARISON.items()])
def test_comparison(use):
    assert_same(Use(use), vectors(4))


@pytest.mark.parametrize("use", [pytest.param(f, id=name) for name, f in INDEXING.items()])
def test_indexing(use):
    assert_same(Use(use), vectors(4))


@pytest.mark.parametrize("use", [pytest.param(f, id=name) for name, f in ITERATING.items()])
def test_iterating(use):
    assert_same(Use(use), vectors(4))


@pytest.mark.parametrize("use", [pytest.param(f, id=name) for name, f in FUNCTIONS.items()])
def test_functions(use):
    assert_same(Use(use), vectors(4))


@pytest.mark.parametrize("use", [pytest.param(f, id=name) for name, f in METHODS.items()])
def test_methods(use):
    assert_same(Use(use), vectors(4))


def test_an_integer_times_a_lazy_integer_keeps_its_type():
    assert_same(
        Use(lambda h, x: (3 * h.long(), h.long() / 2, h.long() * 0.5, h.long() // 2, h.long() * True)), vectors(4)
    )


def test_a_whole_number_too_large_for_a_float_is_kept():
    assert_same(Use(lambda h, x: h.long() * 0 + (2**53 + 1)), vectors(4))


def test_numbers_that_differ_per_sample():
    def use(model, sample):
        x, number = sample
        return model.cell(x) * number + number

    samples = list(zip(vectors(6), [1, 2.5, True, -0.0, np.float64(3.0), np.int32(4)], strict=True))
    assert_same(UseModel(use, cell=nn.Linear(WIDTH, WIDTH)), samples)


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda h, x: F.cross_entropy(h, torch.tensor(1)), id="cross_entropy"),
        pytest.param(lambda h, x: F.nll_loss(h.log_softmax(0), torch.tensor(2)), id="nll_loss"),
        pytest.param(lambda h, x: F.mse_loss(h, x), id="mse_loss"),
        pytest.param(lambda h, x: F.binary_cross_entropy_with_logits(h, (x > 0).double()), id="bce"),
        pytest.param(lambda h, x: -h.log_softmax(0)[1], id="by hand"),
        pytest.param(lambda h, x: nn.CrossEntropyLoss()(h[None], torch.tensor([0])), id="a loss module made here"),
        pytest.param(lambda h, x: nn.functional.smooth_l1_loss(h, x, beta=0.5), id="smooth_l1"),
    ],
)
def test_losses_inside_forward(use):
    assert_same(Use(use), vectors(4))


def test_a_loss_module_with_targets_of_the_sample():
    def use(model, sample):
        x, label = sample
        return model.loss(model.cell(x), torch.tensor(label))

    model = UseModel(use, cell=nn.Linear(WIDTH, WIDTH), loss=nn.CrossEntropyLoss(label_smoothing=0.1))
    batched = assert_same(model, list(zip(vectors(5), [0, 2, 1, 1, 0], strict=True)))
    assert batched.last.types == 2


def test_a_matrix_as_a_sample():
    assert_same(Use(lambda h, x: (h.softmax(0) * x).sum(1)), matrices())


# What the shape answers, nothing has to be run for.


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda h: isinstance(h, torch.Tensor), id="isinstance"),
        pytest.param(lambda h: torch.is_tensor(h), id="is_tensor"),
        pytest.param(lambda h: tuple(h.shape), id="shape"),
        pytest.param(lambda h: h.shape[-1] * 2, id="shape[-1]"),
        pytest.param(lambda h: str(h.dtype), id="dtype"),
        pytest.param(lambda h: str(h.device), id="device"),
        pytest.param(lambda h: h.dim(), id="dim"),
        pytest.param(lambda h: h.ndim, id="ndim"),
        pytest.param(lambda h: tuple(h.size()), id="size()"),
        pytest.param(lambda h: h.size(-1), id="size(-1)"),
        pytest.param(lambda h: h.size(dim=0), id="size(dim=0)"),
        pytest.param(lambda h: len(h), id="len"),
        pytest.param(lambda h: h.numel(), id="numel"),
        pytest.param(lambda h: torch.numel(h), id="torch.numel"),
        pytest.param(lambda h: h.is_floating_point(), id="is_floating_point"),
        pytest.param(lambda h: torch.is_floating_point(h), id="torch.is_floating_point"),
        pytest.param(lambda h: h.requires_grad, id="requires_grad"),
        pytest.param(lambda h: h.is_cuda, id="is_cuda"),
        pytest.param(lambda h: h.element_size(), id="element_size"),
        pytest.param(lambda h: h.is_contiguous(), id="is_contiguous"),
        pytest.param(lambda h: h.layout is torch.strided, id="layout"),
        pytest.param(lambda h: [tuple(h[None].shape), h[0].dim(), len(h[1:])], id="of parts"),
        pytest.param(lambda h: h.stride(), id="stride"),
        pytest.param(lambda h: torch.result_type(h, 1).is_floating_point, id="result_type"),
        pytest.param(lambda h: h is h, id="is"),
        pytest.param(lambda h: len({h, h}), id="hash"),
        pytest.param(lambda h: h in [h], id="in a list"),
        pytest.param(lambda h: hasattr(h, "backward") and not hasattr(h, "nonsense"), id="hasattr"),
    ],
)
def test_questions_about_shape_are_answered_at_once(ask):
    assert_same(Use(lambda h, x: ask(h)), vectors(3))


def test_formatting_a_value_does_not_need_its_numbers():
    model = Use(lambda h, x: (h, len(f"{h!r} {h}") > 0))
    assert_same(model, vectors(2))
