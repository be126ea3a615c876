"""Lists of any length: stacks, concatenations and reductions equal the loop's, and make no type per length."""

import pytest
import torch
import torch.nn.functional as F
from same import assert_same
from small import WIDTH, UseList, UseModel, matrices, sequences, vectors
from torch import nn

REDUCTIONS = {
    "sum(list)": lambda hs, xs: sum(hs),
    "sum(list, start)": lambda hs, xs: sum(hs, torch.ones(3)),
    "stack.sum(0)": lambda hs, xs: torch.stack(hs).sum(0),
    "stack.sum(dim=0)": lambda hs, xs: torch.stack(hs).sum(dim=0),
    "stack.sum(-2)": lambda hs, xs: torch.stack(hs).sum(-2),
    "stack.sum()": lambda hs, xs: torch.stack(hs).sum(),
    "stack.sum(0, keepdim=True)": lambda hs, xs: torch.stack(hs).sum(0, keepdim=True),
    "stack.mean(0)": lambda hs, xs: torch.stack(hs).mean(0),
    "stack.mean()": lambda hs, xs: torch.stack(hs).mean(),
    "torch.mean": lambda hs, xs: torch.mean(torch.stack(hs), dim=0),
    "stack.max(0).values": lambda hs, xs: torch.stack(hs).max(0).values,
    "stack.max(0)": lambda hs, xs: torch.stack(hs).max(0),
    "stack.max()": lambda hs, xs: torch.stack(hs).max(),
    "stack.min(0)": lambda hs, xs: torch.stack(hs).min(dim=0),
    "stack.amax(0)": lambda hs, xs: torch.stack(hs).amax(0),
    "stack.amin(0)": lambda hs, xs: torch.stack(hs).amin(0),
    "logsumexp": lambda hs, xs: torch.logsumexp(torch.stack(hs), 0),
    "softmax(0)": lambda hs, xs: torch.softmax(torch.stack(hs), 0),
    "log_softmax(0)": lambda hs, xs: F.log_softmax(torch.stack(hs), dim=0),
    "softmax(-1)": lambda hs, xs: torch.softmax(torch.stack(hs), -1),
    "prod(0)": lambda hs, xs: torch.stack(hs).prod(0),
    "cumsum(0)": lambda hs, xs: torch.stack(hs).cumsum(0),
    "argmax(0)": lambda hs, xs: torch.stack(hs).argmax(0),
    "norm(dim=0)": lambda hs, xs: torch.stack(hs).norm(dim=0),
    "var(0)": lambda hs, xs: torch.stack(hs).var(0, correction=0),
    "sum(1)": lambda hs, xs: torch.stack(hs).sum(1),
    "mean(-1)": lambda hs, xs: torch.stack(hs).mean(-1),
    "sum((0, 1))": lambda hs, xs: torch.stack(hs).sum((0, 1)),
    "sum then mean": lambda hs, xs: torch.stack(hs).sum(0) / len(hs),
    "flip": lambda hs, xs: torch.stack(hs).flip(0),
    "transposed": lambda hs, xs: torch.stack(hs).T @ torch.stack(hs),
}
STACKS = {
    "stack": lambda hs, xs: torch.stack(hs),
    "stack of a tuple": lambda hs, xs: torch.stack(tuple(hs)),
    "stack(dim=1)": lambda hs, xs: torch.stack(hs, dim=1),
    "stack(dim=-1)": lambda hs, xs: torch.stack(hs, -1),
    "stack of scalars": lambda hs, xs: torch.stack([h.sum() for h in hs]),
    "stack with tensors": lambda hs, xs: torch.stack([*hs, *xs]),
    "stack with zeros first": lambda hs, xs: torch.stack([torch.zeros(3), *hs]),
    "stack of tensors only": lambda hs, xs: torch.stack(xs) * hs[0],
    "stack of matrices": lambda hs, xs: torch.stack([torch.outer(h, x) for h, x in zip(hs, xs, strict=True)]),
    "stack of the same": lambda hs, xs: torch.stack([hs[0]] * len(xs)),
    "stack of other dtypes": lambda hs, xs: torch.stack([h.float() for h in hs]),
    "cat": lambda hs, xs: torch.cat(hs),
    "cat with tensors": lambda hs, xs: torch.cat([*hs, *xs]),
    "cat of one": lambda hs, xs: torch.cat(hs[:1]),
    "cat of matrices": lambda hs, xs: torch.cat([torch.outer(h, h) for h in hs]),
    "cat of matrices(dim=1)": lambda hs, xs: torch.cat([torch.outer(h, h) for h in hs], dim=1),
    "cat of h[None]": lambda hs, xs: torch.cat([h[None] for h in hs], 0),
    "cat of stacks": lambda hs, xs: torch.cat([torch.stack(hs), torch.stack(xs), torch.stack(hs[:1])]),
    "cat of stacks(dim=1)": lambda hs, xs: torch.cat([torch.stack(hs), torch.stack(xs)], dim=1),
    "cat with an empty matrix": lambda hs, xs: torch.cat([torch.zeros(0, 3), torch.stack(hs)]),
    "hstack, vstack": lambda hs, xs: (torch.hstack(hs), torch.vstack(hs)),
    "rows of a stack": lambda hs, xs: list(torch.stack(hs)),
    "stack[0], stack[-1]": lambda hs, xs: (torch.stack(hs)[0], torch.stack(hs)[-1]),
    "stack[1:]": lambda hs, xs: torch.stack(hs)[1:],
    "stack[:, 0]": lambda hs, xs: torch.stack(hs)[:, 0],
    "stack[::2]": lambda hs, xs: torch.stack(hs)[::2],
    "stack[ids]": lambda hs, xs: torch.stack(hs)[torch.tensor([0, -1, 0])],
    "stack[mask of the sample]": lambda hs, xs: torch.stack(hs)[torch.arange(len(xs)) > 0],
    "stack * stack": lambda hs, xs: torch.stack(hs) * torch.stack(xs),
    "stack + row": lambda hs, xs: torch.stack(hs) + hs[0],
    "stack + column": lambda hs, xs: torch.stack(hs) + torch.stack([h.sum() for h in hs])[:, None],
    "stack * arange": lambda hs, xs: torch.stack(hs) * torch.arange(len(hs))[:, None],
    "stack shape": lambda hs, xs: (tuple(torch.stack(hs).shape), len(torch.stack(hs)), torch.stack(hs).size(0)),
    "pad_sequence": lambda hs, xs: nn.utils.rnn.pad_sequence([torch.stack(hs), torch.stack(hs[:1])], batch_first=True),
    "transposed list": lambda hs, xs: [torch.stack(column) for column in zip(*hs, strict=True)],
    "max by Python over lengths": lambda hs, xs: hs[len(hs) // 2],
}


@pytest.mark.parametrize("use", [pytest.param(f, id=name) for name, f in REDUCTIONS.items()])
def test_reductions(use):
    assert_same(UseList(use), sequences())


@pytest.mark.parametrize("use", [pytest.param(f, id=name) for name, f in STACKS.items()])
def test_stacks(use):
    assert_same(UseList(use), sequences())


def attend(hs, xs):
    values = torch.stack(hs)
    return torch.softmax(values @ hs[-1], 0) @ values


def weighted(hs, xs):
    values = torch.stack(hs)
    weights = torch.softmax(torch.stack([h.sum() for h in hs]), 0)
    return (weights[:, None] * values).sum(0)


def weighted_by_column(hs, xs):
    values = torch.stack(hs)
    return (values.softmax(0) * values).sum(0)


def weighted_by_list(hs, xs):
    weights = torch.softmax(torch.stack([h.sum() for h in hs]), 0)
    return sum(w * h for w, h in zip(weights, hs, strict=True))


def scaled_attention(hs, xs):
    values = torch.stack(hs)
    scores = (values * hs[0]).sum(-1) / WIDTH**0.5
    return (scores.softmax(0).unsqueeze(-1) * values).sum(0)


def einsum_attention(hs, xs):
    values = torch.stack(hs)
    return torch.einsum("n,nd->d", torch.softmax(torch.einsum("nd,d->n", values, hs[0]), 0), values)


def self_attention(hs, xs):
    values = torch.stack(hs)
    return torch.softmax(values @ values.T, -1) @ values


ATTENTION = [attend, weighted, weighted_by_column, weighted_by_list, scaled_attention, einsum_attention, self_attention]


@pytest.mark.parametrize("use", ATTENTION)
def test_attention(use):
    assert_same(UseList(use), sequences())


def test_attention_by_torch():
    def use(hs, xs):
        values = torch.stack(hs)[None]
        return F.scaled_dot_product_attention(values, values, values)[0]

    assert_same(UseList(use), sequences())


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(REDUCTIONS[name], id=name)
        for name in (
            "stack.sum(0)", "stack.mean(0)", "stack.max(0).values", "stack.amax(0)", "logsumexp", "stack.sum()",
            "softmax(0)", "softmax(-1)", "sum(1)",
        )
    ]
    + [weighted, weighted_by_column, attend, scaled_attention],
)  # fmt: skip
def test_types_and_batches_do_not_grow_with_the_number_of_lengths(use):
    few = assert_same(UseList(use), sequences((2, 3)), policy="height").last
    many = assert_same(UseList(use), sequences((1, 2, 3, 4, 5, 6, 7)), policy="height").last
    assert (many.types, many.batches) == (few.types, few.batches)


def test_a_sum_of_children_is_no_node_of_its_own():
    def use(model, xs):
        return model.out(torch.stack([model.cell(x) for x in xs]).sum(0))

    model = UseModel(use, cell=nn.Linear(WIDTH, WIDTH), out=nn.Linear(WIDTH, WIDTH))
    last = assert_same(model, sequences((1, 2, 3, 4)), policy="height").last
    assert (last.nodes, last.types, last.batches) == (10 + 4, 2, 2)


def test_a_python_sum_of_children_is_no_type_per_arity():
    def use(model, xs):
        return model.out(sum(model.cell(x) for x in xs))

    model = UseModel(use, cell=nn.Linear(WIDTH, WIDTH), out=nn.Linear(WIDTH, WIDTH))
    few = assert_same(model, sequences((2, 3)), policy="height").last
    many = assert_same(model, sequences((2, 3, 4, 5, 6)), policy="height").last
    assert many.types == few.types


def test_a_mean_over_children_of_children():
    def use(model, sample):
        return torch.stack([torch.stack([model.cell(x) for x in xs]).mean(0) for xs in sample]).mean(0)

    samples = [sequences((2, 3)), sequences((1,)), sequences((4, 1, 2))]
    assert_same(UseModel(use, cell=nn.Linear(WIDTH, WIDTH)), samples)


def test_a_reduction_with_several_readers():
    def use(model, xs):
        mean = torch.stack([model.cell(x) for x in xs]).mean(0)
        return model.cell(mean), mean.exp(), mean

    assert_same(UseModel(use, cell=nn.Linear(WIDTH, WIDTH)), sequences())


def test_a_stack_with_several_readers():
    def use(hs, xs):
        values = torch.stack(hs)
        return values.sum(0) * values.mean(0), values.max(0)[0], values[0], values

    assert_same(UseList(use), sequences())


def test_a_value_that_occurs_twice_in_a_list():
    assert_same(UseList(lambda hs, xs: torch.stack([hs[0], *hs, hs[0]]).sum(0)), sequences())


def test_ties_in_a_maximum_share_their_gradient_as_in_torch():
    same = vectors(1)[0]
    samples = [[same, same, *vectors(1, seed=5)], [same, same]]
    assert_same(UseList(lambda hs, xs: torch.stack(hs).amax(0)), samples)
    assert_same(UseList(lambda hs, xs: torch.stack(hs).max(0).values), samples)


def test_a_softmax_of_large_numbers():
    assert_same(UseList(lambda hs, xs: torch.softmax(torch.stack(hs) * 1e4, 0) + torch.stack(hs)), sequences())


def test_a_logsumexp_with_minus_infinity():
    def use(hs, xs):
        masked = torch.stack([h if k else torch.full((3,), -torch.inf) for k, h in enumerate(hs)])
        return torch.logsumexp(masked, 0)

    assert_same(UseList(use), sequences((2, 3)))


def test_modules_applied_to_a_stack():
    def use(model, xs):
        values = torch.stack([model.cell(x) for x in xs])
        return model.out(torch.tanh(model.norm(values))).sum(0)

    parts = {"cell": nn.Linear(WIDTH, WIDTH), "norm": nn.LayerNorm(WIDTH), "out": nn.Linear(WIDTH, 2)}
    few = assert_same(UseModel(use, **parts), sequences((2, 3))).last
    assert assert_same(UseModel(use, **parts), sequences((1, 2, 3, 4, 5))).last.types == few.types


# Row-wise modules on tensors of the sample whose first axis differs.


def test_all_words_of_a_sentence_are_one_launch_for_all_samples():
    model = UseModel(lambda m, words: m.words(words), words=nn.Embedding(10, WIDTH))
    samples = [torch.tensor(words) for words in ([1, 2, 3], [4], [5, 6, 7, 8, 9], [0, 0], list(range(7)), [3] * 6)]
    last = assert_same(model, samples).last
    assert (last.types, last.batches) == (1, 1)


def test_a_linear_layer_over_a_matrix_of_any_length_is_one_launch():
    model = UseModel(lambda m, rows: m.cell(rows).sum(0), cell=nn.Linear(WIDTH, 2))
    last = assert_same(model, matrices((1, 2, 3, 4, 5, 6, 7))).last
    assert last.types <= 2
    assert last.batches <= 2


def test_a_row_wise_module_then_its_rows():
    def use(model, words):
        h = torch.zeros(WIDTH)
        for x in model.words(words):
            h = torch.tanh(model.cell(h + x))
        return h

    model = UseModel(use, words=nn.Embedding(10, WIDTH), cell=nn.Linear(WIDTH, WIDTH))
    few = assert_same(model, [torch.tensor([1, 2]), torch.tensor([1, 2, 3])]).last
    many = assert_same(model, [torch.arange(n) for n in (1, 2, 3, 4, 5, 6, 7)]).last
    assert many.types == few.types


def test_a_sample_of_no_rows():
    assert_same(UseModel(lambda m, rows: m.cell(rows).sum(0), cell=nn.Linear(WIDTH, 2)), matrices((2, 0, 3)))


def test_a_module_that_mixes_the_rows_of_a_constant():
    class Centre(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(WIDTH, WIDTH)

        def forward(self, rows):
            h = self.linear(rows)
            return (h - h.mean(0)) / (1 + h.var(0, correction=0))

    assert_same(UseModel(lambda m, rows: m.cell(rows), cell=Centre()), matrices((2, 4, 1, 3, 5, 6, 7)))


def test_a_module_that_mixes_the_rows_of_a_stack():
    class Centre(nn.Module):
        def forward(self, rows):
            return rows - rows.mean(0)

    def use(model, xs):
        return model.centre(torch.stack([model.cell(x) for x in xs]))

    assert_same(UseModel(use, cell=nn.Linear(WIDTH, WIDTH), centre=Centre()), sequences((2, 4, 1, 3, 5, 6)))


def test_a_module_that_mixes_its_rows_only_a_little():
    class Shift(nn.Module):
        def forward(self, rows):
            return rows + 1e-7 * rows.sum(0)

    assert_same(UseModel(lambda m, rows: m.shift(m.cell(rows)), cell=nn.Linear(3, 3), shift=Shift()), matrices())


def test_a_square_matrix_is_no_list_of_rows_for_a_module_that_transposes():
    class Turn(nn.Module):
        def forward(self, rows):
            return rows.T + rows

    assert_same(UseModel(lambda m, x: m.turn(m.cell(x)), cell=nn.Linear(3, 3), turn=Turn()), matrices((3, 3, 3)))


def test_a_length_that_equals_the_width():
    def use(model, rows):
        return model.cell(rows) + model.bias

    model = UseModel(use, cell=nn.Linear(WIDTH, WIDTH), bias=nn.Parameter(torch.randn(WIDTH)))
    assert_same(model, matrices((3, 1, 3, 2)))
