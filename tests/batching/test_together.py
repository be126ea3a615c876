"""Cells written gate by gate run as few products, copy nothing inside, and are their rows in values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any
from unittest.mock import patch

import numba
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.batching.captured import WIDTH, Small, Toy, assert_same_values, of
from tests.batching.cell_modules import Of, linear, matrix
from tests.batching.view.same import assert_same
from torch import Tensor, nn

import bale
from bale.batching.cells import pointwise
from bale.batching.cells.emit import Emitted, emit
from bale.batching.cells.kinds import find_kinds, is_cheap_on_rows
from bale.batching.cells.products import JOINED_FROM, JOINED_UP_TO, Calls
from bale.batching.cells.split import split
from bale.batching.cells.together import find_together
from bale.batching.cells.traffic import Count

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def linears(*names: str, **options: Any) -> Callable[[], nn.Module]:
    return of(**{name: lambda: linear(**options) for name in names})


# Cells, every gate with Linears of its own.


def lstm(m: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    i, f = torch.sigmoid(m.xi(x) + m.hi(h)), torch.sigmoid(m.xf(x) + m.hf(h))
    g, o = torch.tanh(m.xg(x) + m.hg(h)), torch.sigmoid(m.xo(x) + m.ho(h))
    c = f * c + i * g
    return o * torch.tanh(c), c


def gru(m: Any, x: Tensor, h: Tensor) -> Tensor:
    """As nn.GRUCell: the reset gate weighs a product."""
    r, z = torch.sigmoid(m.xr(x) + m.hr(h)), torch.sigmoid(m.xz(x) + m.hz(h))
    n = torch.tanh(m.xn(x) + r * m.hn(h))
    return (1 - z) * n + z * h


def first_gru(m: Any, x: Tensor, h: Tensor) -> Tensor:
    """As Cho et al., 2014: the reset gate weighs the state."""
    r, z = torch.sigmoid(m.xr(x) + m.hr(h)), torch.sigmoid(m.xz(x) + m.hz(h))
    n = torch.tanh(m.xn(x) + m.hn(r * h))
    return (1 - z) * n + z * h


def tree_lstm(m: Any, h: Tensor, c: Tensor, k: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Tai et al., 2015, equations 9-14: two children (h, c) and (k, d)."""
    i, o = torch.sigmoid(m.hi(h) + m.ki(k)), torch.sigmoid(m.ho(h) + m.ko(k))
    u = torch.tanh(m.hu(h) + m.ku(k))
    left, right = torch.sigmoid(m.hl(h) + m.kl(k)), torch.sigmoid(m.hr(h) + m.kr(k))
    c = i * u + left * c + right * d
    return o * torch.tanh(c), c


def word_tree_lstm(m: Any, x: Tensor, h: Tensor, k: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Three operands, the first of which is mostly known before the others."""
    i, o = torch.sigmoid(m.xi(x) + m.hi(h) + m.ki(k)), torch.sigmoid(m.xo(x) + m.ho(h) + m.ko(k))
    u = torch.tanh(m.xu(x) + m.hu(h) + m.ku(k))
    c = i * u + c
    return o * torch.tanh(c), c


def lattice(m: Any, x: Tensor, h: Tensor, c: Tensor, word: Tensor) -> tuple[Tensor, Tensor]:
    """Zhang and Yang, 2018, equations 11 and 12: a word's state enters by a gate that the character's vector opens."""
    i, o = torch.sigmoid(m.xi(x) + m.hi(h)), torch.sigmoid(m.xo(x) + m.ho(h))
    g = torch.tanh(m.xg(x) + m.hg(h))
    gate = torch.sigmoid(m.xl(x) + m.wl(word))
    c = (1 - i) * c + i * g + gate * word
    return o * torch.tanh(c), c


def mv(m: Any, a: Tensor, left: Tensor, b: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Socher et al., 2012, with W and W_M in two halves."""
    product = torch.tanh(m.a((right @ a.unsqueeze(-1)).squeeze(-1)) + m.b((left @ b.unsqueeze(-1)).squeeze(-1)))
    return product, m.left @ left + m.right @ right


def row_lstm(m: Any, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Weights that stand on the right, without biases."""
    i, o = torch.sigmoid(x @ m.xi + h @ m.hi), torch.sigmoid(x @ m.xo + h @ m.ho)
    g = torch.tanh(x @ m.xg + h @ m.hg)
    c = c + i * g
    return o * torch.tanh(c), c


def packed_gru(m: Any, x: Tensor, h: Tensor, chunks: Callable[[Tensor], Any] = lambda y: y.chunk(3, -1)) -> Tensor:
    """Packed by operand, as nn.GRUCell is."""
    (r, z, n), (p, q, o) = chunks(m.x(x)), chunks(m.h(h))
    r, z = torch.sigmoid(r + p), torch.sigmoid(z + q)
    n = torch.tanh(n + r * o)
    return (1 - z) * n + z * h


def by_hand(letters: str, gates: str) -> tuple[str, ...]:
    return tuple(letter + gate for letter, gate in product(letters, gates))


STATE = ((WIDTH,),)
SQUARE = (WIDTH, WIDTH)
MV_PARTS = {"a": linear, "b": lambda: linear(bias=False), "left": matrix, "right": matrix}
CELLS: dict[str, Small] = {
    "lstm": Small(lstm, linears(*by_hand("xh", "ifgo")), STATE * 3),
    "lstm without biases": Small(lstm, linears(*by_hand("xh", "ifgo"), bias=False), STATE * 3),
    "gru": Small(gru, linears(*by_hand("xh", "rzn")), STATE * 2),
    "gru without biases": Small(gru, linears(*by_hand("xh", "rzn"), bias=False), STATE * 2),
    "first gru": Small(first_gru, linears(*by_hand("xh", "rzn")), STATE * 2),
    "gru cell": Small(lambda m, x, h: m(x, h), lambda: nn.GRUCell(WIDTH, WIDTH), STATE * 2),
    "gru cell without biases": Small(lambda m, x, h: m(x, h), lambda: nn.GRUCell(WIDTH, WIDTH, bias=False), STATE * 2),
    "packed gru": Small(packed_gru, of(**dict.fromkeys("xh", lambda: linear(WIDTH, 3 * WIDTH))), STATE * 2),
    "packed gates of unlike widths": Small(
        lambda m, x, h: (
            (m.x(x).split([2, 1, 3], -1)[0] + m.h(h).split([2, 3, 1], -1)[0]).tanh() * m.x(x).split([2, 1, 3], -1)[1]
        ).sum(-1, True) + m.h(h).split([2, 3, 1], -1)[1],
        of(x=lambda: linear(WIDTH, 6), h=lambda: linear(WIDTH, 6)),
        STATE * 2,
    ),
    "packed with one weight": Small(
        lambda m, x, h: packed_gru(m, x, h) * F.linear(x, m.h.weight).chunk(3, -1)[1],
        of(**dict.fromkeys("xh", lambda: linear(WIDTH, 3 * WIDTH))), STATE * 2,
    ),
    "packed, and read as a whole": Small(
        lambda m, x, h: (packed_gru(m, x, h), m.x(x)), of(**dict.fromkeys("xh", lambda: linear(WIDTH, 3 * WIDTH))),
        STATE * 2,
    ),
    "tree lstm": Small(tree_lstm, linears(*by_hand("hk", "ioulr")), STATE * 4),
    "word tree lstm": Small(word_tree_lstm, linears(*by_hand("xhk", "iou")), STATE * 4),
    "lattice": Small(lattice, linears(*by_hand("xh", "iog"), "xl", "wl"), STATE * 4),
    "mv": Small(mv, of(**MV_PARTS), ((WIDTH,), SQUARE, (WIDTH,), SQUARE)),
    "rows times weights": Small(row_lstm, of(**dict.fromkeys(by_hand("xh", "iog"), matrix)), STATE * 3),
    "some biases": Small(
        lambda m, x, h: m.a(x).tanh() * m.b(x).sigmoid() + (m.c(x) + m.d(h)).relu(),
        of(a=linear, b=lambda: linear(bias=False), c=lambda: linear(bias=False), d=lambda: linear(bias=False)),
    ),
    "unlike widths": Small(
        lambda m, x, y: m.out(m.a(x).tanh()) + m.b(x).sigmoid() * m.c(y),
        of(a=lambda: linear(3, 5), b=lambda: linear(3, 2), c=lambda: linear(6, 2), out=lambda: linear(5, 2)),
        ((3,), (6,)),
    ),
    "tied weights": Small(
        lambda m, x, h: (F.linear(x, m.w) + F.linear(h, m.w)).tanh() * F.linear(x, m.v, m.b).sigmoid() + m.w.sum(),
        of(w=matrix, v=matrix, b=lambda: matrix(WIDTH)),
    ),
    "the same product of two gates": Small(
        lambda m, x, h: (m.a(x) + m.b(h)).tanh() * (m.a(x) + m.c(h)).sigmoid(), linears("a", "b", "c")
    ),
    "a product of itself": Small(lambda m, x, h: (m.a(x) + m.b(m.a(x).tanh()) + m.a(h)).tanh(), linears("a", "b")),
    "two layers": Small(
        lambda m, x, h: m.c(m.a(x).tanh()).sigmoid() * m.d(m.a(x).tanh()) + m.e(m.b(x) * h), linears(*"abcde")
    ),
    "products of products": Small(lambda m, x, h: (m.c(m.a(x)) + m.d(m.b(x))).tanh() * h, linears(*"abcd")),
    "a gate that is an output": Small(
        lambda m, x, h: (m.a(x), (m.b(x) + m.c(h)).tanh(), m.d(h) + m.e(x)), linears(*"abcde")
    ),
    "an operand that is an output": Small(lambda m, x, h: (x, (m.a(x) + m.b(h)).tanh()), linears(*"ab")),
    "gates within a packed product": Small(
        lambda m, x, h: m.a(x).chunk(2, -1)[0].tanh() * m.b(x) + m.a(h).chunk(2, -1)[1],
        of(a=lambda: linear(WIDTH, 2 * WIDTH), b=linear),
    ),
    "a slice that is an output and an operand": Small(
        lambda m, x, h: (m.a(x).chunk(2, -1)[0], m.b(m.a(x).chunk(2, -1)[0]) * h),
        of(a=lambda: linear(WIDTH, 2 * WIDTH), b=linear), STATE * 2,
    ),
    "a gate that is read as a whole and in parts": Small(
        lambda m, x, h: (m.a(x)[..., :2].tanh().sum(-1, True) * m.a(x) + m.b(x), m.c(h)), linears(*"abc")
    ),
    "a gate under softmax": Small(lambda m, x, h: m.a(x).softmax(-1) * m.b(x).tanh() + m.c(x) * h, linears(*"abc")),
    "a sum with other terms between": Small(
        lambda m, x, h: ((m.a(x) + x * h) + m.b(h)).tanh() * (m.c(x) + (h + m.d(h))).sigmoid(), linears(*"abcd")
    ),
    "concatenations of two cells": Small(
        lambda m, x, h: m.a(torch.cat([x, h], -1)).tanh() * m.b(torch.cat([x, h], -1)) + m.c(torch.cat([h, x], -1)),
        linears(*"abc", into=2 * WIDTH),
    ),
    "a number per row": Small(lambda m, x, h: m.a(x).tanh() * m.b(x) + m.c(h), of(
        a=lambda: linear(WIDTH, 1), b=linear, c=lambda: linear(WIDTH, 1))),
}  # fmt: skip
every_cell = pytest.mark.parametrize("name", CELLS)


def emitted_cell(small: Small, dtype: torch.dtype = torch.float32) -> tuple[Toy, Emitted]:
    toy = Toy(small, dtype)
    captured = toy.capture()
    return toy, emit(captured, [True] * len(captured.columns), fast=True)


def assert_is_rung(toy: Toy, emitted: Emitted, tolerance: float | None = None) -> None:
    """Whether or not products that may run once for all batches do, and those that may be one call are."""
    for rows, early, joined in product((1, 9), (True, False), (True, False)):
        code = toy.code(emitted)
        code.early, code.joined = early, joined  # type: ignore[attr-defined]
        wanted = toy.values(toy.rung, rows)
        assert_same_values(toy.values(code, rows), wanted, TOLERANCE[toy.dtype] if tolerance is None else tolerance)


@every_cell
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_code_is_the_cell(name: str, dtype: torch.dtype) -> None:
    assert_is_rung(*emitted_cell(CELLS[name], dtype))


@pytest.mark.parametrize("name", ["lstm", "gru", "tree lstm", "some biases"])
def test_code_is_the_cell_where_nothing_is_gathered(name: str) -> None:
    """Constants lie where they lie, and their gradients in memory of their own."""
    toy = Toy(CELLS[name], torch.float32)
    captured = toy.capture()
    emitted = emit(captured, [False] * len(captured.columns), fast=True)
    assert all(len(block) == 1 for block in emitted.blocks)
    assert_is_rung(toy, emitted)


@pytest.mark.parametrize("name", ["lstm", "gru", "gru cell", "tied weights"])
@pytest.mark.parametrize("frozen", [0b1, 0b101010101010, 0b111111110000])
def test_some_weights_are_not_trained(name: str, frozen: int) -> None:
    small = CELLS[name]

    def module() -> nn.Module:
        made = small.module()
        for k, parameter in enumerate(made.parameters()):
            parameter.requires_grad_(not frozen >> k & 1)
        return made

    assert_is_rung(*emitted_cell(Small(small.function, module, small.shapes)))


# How many calls.

LAUNCHES = {
    "lstm": (1 + 1, 1 + 1),  # products and kernels, forward and backward
    "lstm without biases": (1 + 1, 1 + 1),
    "tree lstm": (1 + 1, 1 + 1),
    "word tree lstm": (1 + 1, 1 + 1),
    "rows times weights": (1 + 1, 1 + 1),
    "gru": (2 + 1, 2 + 2),  # x and h have gates of their own; the gradient of h is the sum of a product and more
    "gru without biases": (2 + 1, 2 + 2),
    "gru cell": (2 + 1, 2 + 2),
    "gru cell without biases": (2 + 1, 2 + 2),
    "packed gru": (2 + 1, 2 + 2),
    "first gru": (3 + 2, 3 + 3),  # one product waits for the gates of another
    "lattice": (3 + 1, 3 + 2),
}


@pytest.mark.parametrize("name", LAUNCHES)
def test_a_cell_written_gate_by_gate_is_as_few_calls_as_a_packed_one_and_copies_nothing(name: str) -> None:
    traffic = emitted_cell(CELLS[name])[1].traffic
    forward, backward = traffic.after.forward, traffic.after.backward
    assert (forward.launches, backward.launches) == LAUNCHES[name]
    assert [(run.copies, run.bytes) for run in (forward, backward)] == [(0, 0)] * 2


def test_what_is_counted_without_a_plan() -> None:
    """Eight products are chained in four sums. Joined without a plan, two operands forward, and the gradients of four
    gates backward, would have to be copied together."""
    before = emitted_cell(CELLS["lstm"])[1].traffic.before
    pointwise, row = 5 + 3 + 1, 4 * WIDTH
    assert before.forward == Count(ops=8 + pointwise, launches=8 + pointwise, copies=1, bytes=2 * row)
    assert (before.backward.copies, before.backward.bytes) == (1, 4 * row)


def test_a_copy_that_stays_is_counted() -> None:
    """A column that is an output lies in the arena too; a kernel reads what softmax made as a tensor of its own."""
    assert emitted_cell(CELLS["an operand that is an output"])[1].traffic.after.forward.copies == 1
    after = emitted_cell(CELLS["a gate under softmax"])[1].traffic.after
    assert (after.forward.copies, after.forward.bytes) == (1, 4 * WIDTH)


def test_mv_joins_nothing_since_its_operands_are_made_row_by_row() -> None:
    traffic = emitted_cell(CELLS["mv"])[1].traffic
    assert traffic.before.forward.ops == traffic.after.forward.ops
    assert traffic.joined == 0


def test_the_weights_of_a_grid_are_joined_once_for_both_runs() -> None:
    """By operand, and all: two times eight matrices, though both runs read them."""
    _, emitted = emitted_cell(CELLS["lstm"])
    assert emitted.traffic.joined == 2 * 8 * WIDTH * WIDTH * 4


@pytest.mark.parametrize("name", ["gru", "gru cell"])
def test_gates_lie_in_one_buffer_and_their_gradients_over_them(name: str) -> None:
    """Of the GRU both products write a run of three of the four gates."""
    _, emitted = emitted_cell(CELLS[name])
    assert sum(emitted.buffers) == 6 * WIDTH, "besides the gates n, and a part of the gradient of h"
    assert max(emitted.buffers) == 4 * WIDTH
    assert emitted.buffers.index(4 * WIDTH) in emitted.overwritten
    assert emitted.fills == 1, "the gate that only h has, so that the product of h is added everywhere"


def test_gradients_of_weights_are_tensors_of_their_own() -> None:
    """Parts of one product: contiguous, without a number in common, and each with a version of its own."""
    toy, emitted = emitted_cell(CELLS["lstm"])
    found = [gradient for gradient in toy.values(toy.code(emitted), 5).trained if gradient is not None]
    assert len(found) == 16
    copies = [gradient.clone() for gradient in found]
    for k, gradient in enumerate(found):
        assert gradient.is_contiguous()
        versions = [other._version for other in found]
        gradient.zero_()
        assert [other._version - before for other, before in zip(found, versions, strict=True)] == [
            int(j == k) for j in range(len(found))
        ]
        for other, copy in zip(found[k + 1 :], copies[k + 1 :], strict=True):
            torch.testing.assert_close(other, copy, rtol=0, atol=0)


def test_of_two_packed_weights_one_is_read_as_it_is() -> None:
    _, emitted = emitted_cell(CELLS["gru cell"])
    assert emitted.traffic.joined == 3 * WIDTH * WIDTH * 4


def triangle(m: Any, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Each two of three gates share an operand: in no order are all pairs neighbours."""
    a, b, c = m.xa(x) + m.za(z), m.xb(x) + m.yb(y), m.yc(y) + m.zc(z)
    return torch.tanh(a) * torch.sigmoid(b) + torch.tanh(c)


def test_what_cannot_all_be_neighbours_is_partly_apart() -> None:
    small = Small(triangle, linears("xa", "za", "xb", "yb", "yc", "zc"), STATE * 3)
    toy, emitted = emitted_cell(small)
    pieces = split(emitted.captured, is_cheap_on_rows)
    joints = find_together(pieces, find_kinds(pieces, True), [True] * 3).joints
    assert [len(joint.results) for joint in joints if joint.by_operand] == [2, 2]
    assert emitted.traffic.after.forward.launches == 2 + 2 + 1
    assert emitted.traffic.after.forward.copies == 0
    assert_is_rung(toy, emitted)


def test_large_weights_are_not_joined() -> None:
    """A product of them takes far longer than a call, and copying them does too. Gates are neighbours all the same."""
    wide = 300
    assert 2 * wide * wide <= JOINED_UP_TO < 3 * wide * wide
    small = Small(gru, linears(*by_hand("xh", "rzn"), into=wide, out=wide), ((wide,),) * 2)
    toy, emitted = emitted_cell(small)
    assert emitted.traffic.joined == 0
    assert emitted.launches == (6 + 1, 6 + 2)
    assert 4 * wide in emitted.buffers and emitted.fills == 0
    assert_is_rung(toy, emitted, 1e-4)


def test_calls_of_steps() -> None:
    none, few, many = frozenset[int](), JOINED_FROM - 1, JOINED_FROM
    pair = Calls((0, None), (100,))
    assert [pair.count(n, none) for n in (few, many)] == [2 * few, many]
    assert pair.count(many, frozenset([0])) == 1 + many
    three = Calls((0, None, None), (100, 60))
    assert three.count(many, none) == many
    assert three.count(many, frozenset([0])) == 1 + many, "the others are one call still"
    assert three.count(few, frozenset([0])) == 1 + 2 * few
    backward = Calls((0, 1, None), (100,))
    assert backward.count(many, frozenset([1])) == 1 + 2 * many
    assert Calls((0, None), (JOINED_UP_TO + 1,)).count(many, none) == 2 * many


# Whole calls.


class Sentence(nn.Module):
    """A recurrence over vectors, whose inputs are known before it begins, or made from the step before."""

    def __init__(self, fed: bool) -> None:
        super().__init__()
        self.embed, self.fed, self.start = linear(), fed, matrix(WIDTH)
        self.cell = Of(lambda m, *state: lstm(m, *state), **{name: linear() for name in by_hand("xh", "ifgo")})

    def forward(self, vectors: list[Tensor]) -> Tensor:
        h, c = self.start, self.start
        for vector in vectors:
            h, c = self.cell(self.embed(h + vector if self.fed else vector), h, c)
        return h + c


class Tree(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.leaf = Of(
            lambda m, x: (torch.tanh(m.i(x)) * torch.sigmoid(m.o(x)), m.c(x)), i=linear(), o=linear(), c=linear()
        )
        self.inner = Of(lambda m, *state: tree_lstm(m, *state), **{name: linear() for name in by_hand("hk", "ioulr")})

    def forward(self, tree: Any) -> Tensor:
        return sum(self.state(tree))  # type: ignore[return-value]

    def state(self, tree: Any) -> tuple[Tensor, Tensor]:
        if isinstance(tree, Tensor):
            return self.leaf(tree)
        return self.inner(*self.state(tree[0]), *self.state(tree[1]))


def vectors(*lengths: int) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(3)
    return [[torch.randn(WIDTH, generator=generator).requires_grad_() for _ in range(n)] for n in lengths]


def comb(leaves: list[Tensor]) -> Any:
    """A tree as deep as can be, whose inner nodes are left and right children in turn."""
    if len(leaves) == 1:
        return leaves[0]
    rest = comb(leaves[:-1])
    return (rest, leaves[-1]) if len(leaves) % 2 else (leaves[-1], rest)


@pytest.mark.parametrize("steps", [4, JOINED_FROM + 3], ids=["few batches", "many batches"])
@pytest.mark.parametrize("fed", [False, True], ids=["known before", "fed"])
def test_a_recurrence_of_separate_gates(fed: bool, steps: int) -> None:
    torch.manual_seed(0)
    samples = vectors(steps, steps - 1, 2)
    batched = assert_same(Sentence(fed), samples, relative=1e-5, gradient_relative=1e-4, capture="eager")
    assert {
        cell.rung_name for cell in batched.registry.cell_types() if cell.emitted is None and "cell" in cell.name
    } == set()


@pytest.mark.parametrize("leaves", [4, JOINED_FROM + 3], ids=["few batches", "many batches"])
def test_trees_of_separate_gates(leaves: int) -> None:
    torch.manual_seed(0)
    samples = [comb(sentence) for sentence in vectors(leaves, leaves - 1, 3)]
    assert_same(Tree(), samples, relative=1e-5, gradient_relative=1e-4, capture="eager")


def test_launches_of_whole_calls(capsys: pytest.CaptureFixture[str]) -> None:
    """One product, one kernel, both ways, in each batch of inner nodes; with few batches, a product per child."""
    for leaves in (4, JOINED_FROM + 3):
        torch.manual_seed(0)
        explanation = bale.explain(bale.batch(Tree(), capture="eager"), [comb(s) for s in vectors(leaves, leaves)])
        (inner,) = [line for line in explanation.types if line.name.startswith("inner")]
        assert inner.traffic is not None and inner.inside is not None
        batches, products = leaves - 1, 1 if leaves - 1 >= JOINED_FROM else 2
        assert inner.batches == batches
        assert inner.traffic.launches - inner.traffic.gathers == 2 * batches * (products + 1)
        assert inner.inside.after.forward.launches == 2
    assert "in a batch, forward / backward" in capsys.readouterr().out


# Cells at random.


def plain_kernel(text: str) -> Callable[..., None]:
    """A kernel that is not compiled: every random cell has others, and compiling one takes a second."""
    scope: dict[str, Any] = {
        "numba": numba,
        "tanh": pointwise.tanh,
        "sigmoid": pointwise.sigmoid,
        "relu": pointwise.relu,
    }
    exec(compile(text, "<kernel>", "exec"), scope)
    return scope["kernel"]


ACTIVATIONS = (torch.tanh, torch.sigmoid, torch.relu, torch.neg)
WEIGHTS = 6
steps_of_a_cell = st.lists(
    st.tuples(st.sampled_from("product product packed sum sum times activation".split()), *[st.integers(0, 99)] * 3),
    min_size=3, max_size=14,
)  # fmt: skip


@given(steps_of_a_cell, st.integers(1, 3), st.integers(0, 2**WEIGHTS - 1), st.integers(0, 4**WEIGHTS - 1))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_random_cells(steps: list[tuple[str, int, int, int]], columns: int, biases: int, frozen: int) -> None:
    """Weights may be used several times, be frozen, and have no bias; values may be used as often as it comes."""

    def module() -> nn.Module:
        made = [linear(bias=bool(biases >> k & 1)) for k in range(WEIGHTS)]
        made += [linear(WIDTH, 2 * WIDTH) for _ in range(2)]
        for k, layer in enumerate(made):
            layer.weight.requires_grad_(not frozen >> k & 1)
        return nn.ModuleList(made)

    def run(m: Any, *given: Tensor) -> tuple[Tensor, ...]:
        values = list(given)
        for kind, one, other, which in steps:
            x, y = values[-1 - one % len(values)], values[-1 - other % len(values)]
            if kind == "product":
                values.append(m[which % WEIGHTS](x))
            elif kind == "packed":
                values.append(m[WEIGHTS + which % 2](x).chunk(2, -1)[other % 2])
            elif kind == "activation":
                values.append(ACTIVATIONS[which % len(ACTIVATIONS)](x))
            else:
                values.append(x + y if kind == "sum" else x * torch.tanh(y))
        return values[-1], values[-2] * 1.0

    with patch.object(pointwise, "compiled", plain_kernel):
        toy, emitted = emitted_cell(Small(run, module, STATE * columns))
        assert_is_rung(toy, emitted, 1e-4)
