"""A PQ-tree has exactly the orders in which every subset that it accepted is consecutive, as found by trying all."""

from __future__ import annotations

import copy
import math
import pickle
import random
from collections.abc import Hashable, Sequence
from functools import cache
from itertools import chain, combinations, islice, pairwise, permutations

import numpy as np
import pytest
from benchmarks.pqtree import FAMILIES, lines_of
from hypothesis import given, settings
from hypothesis import strategies as st

from bale.batching.memory import pqreduce
from bale.batching.memory.pqnode import Node
from bale.batching.memory.pqtree import PQTree
from bale.errors import PQTreeError


@cache
def all_orders(leaves: int) -> tuple[np.ndarray, np.ndarray]:
    """int [orders, leaves]: every order, and the position of each leaf in it."""
    orders = np.array(list(permutations(range(leaves))), np.int8)
    return orders, np.argsort(orders, 1).astype(np.int8)


class TryingAll:
    """The same by brute force: `orders` are those that are left."""

    def __init__(self, leaves: int) -> None:
        self.every, self.position = all_orders(leaves)
        self.left = np.ones(len(self.every), bool)

    @property
    def orders(self) -> np.ndarray:
        return self.every[self.left]

    def reduce(self, subset: Sequence[int]) -> bool:
        if not subset:
            return True
        position = self.position[:, list(subset)]
        fits = self.left & (position.max(1) - position.min(1) == len(subset) - 1)
        if fits.any():
            self.left = fits
        return bool(fits.any())


def reduced(leaves: int, subsets: Sequence[Sequence[int]]) -> PQTree[int]:
    tree = PQTree(range(leaves))
    for subset in subsets:
        tree.reduce(subset)
    return tree


def tree_of(text: str) -> PQTree[int]:
    """The tree that `text` is of, which has more than one node: each inner node says which leaves are consecutive."""
    words = text.replace("{", " { ").replace("[", " [ ").replace("}", " } ").replace("]", " ] ").split()
    opened: list[tuple[str, list[list[int]]]] = []  # the inner nodes around a word, and the leaves of their children
    children: list[list[int]] = []
    subsets: list[list[int]] = []
    for word in words:
        if word in "{[":
            opened.append((word, []))
        elif word in "}]":
            bracket, children = opened.pop()
            subsets.append([*chain(*children)])
            if bracket == "[":
                subsets += [one + other for one, other in pairwise(children)]
            if opened:
                opened[-1][1].append([*chain(*children)])
        else:
            opened[-1][1].append([int(word)])
    tree = PQTree(sorted(chain(*children)))
    assert all(tree.reduce(subset) for subset in subsets)
    return tree


def canonical(tree: PQTree[int]) -> str:
    """Equal for trees of the same orders: children of P nodes sorted, Q nodes in the lesser of both directions."""

    def text(node: Node[int]) -> str:
        if node.kind == "leaf":
            return str(node.leaf)
        children = [text(child) for child in node.children]
        if node.kind == "P":
            return "{" + " ".join(sorted(children)) + "}"
        return "[" + " ".join(min(children, children[::-1])) + "]"

    return text(tree.root)


def assert_sound(tree: PQTree[int]) -> None:
    """Nodes have as many children as they say and need, and children know their parents."""
    assert tree.root.parent is None
    waiting = [tree.root]
    while waiting:
        node = waiting.pop()
        children = node.children
        assert len(children) == node.count >= {"leaf": 0, "P": 2, "Q": 3}[node.kind]
        assert all(child.parent is node for child in children)
        assert (node.first, node.last) == ((children[0], children[-1]) if children else (None, None))
        waiting += children


@st.composite
def constraints(draw: st.DrawFn, most: int = 7) -> tuple[int, list[list[int]]]:
    """A number of leaves and subsets: random ones, intervals of a hidden order, nested ones, or some of each."""
    leaves = draw(st.integers(2, most))
    hidden = draw(st.permutations(range(leaves)))
    bounds = st.tuples(st.integers(0, leaves), st.integers(0, leaves))
    random_subsets = st.lists(st.integers(0, leaves - 1), unique=True)
    intervals = bounds.map(lambda ends: hidden[min(ends) : max(ends)])
    nested = st.integers(0, leaves).map(lambda end: hidden[:end])
    one = draw(st.sampled_from([random_subsets, intervals, nested, st.one_of(random_subsets, intervals, nested)]))
    return leaves, draw(st.lists(one, max_size=8))


def assert_equals_trying_all(leaves: int, subsets: Sequence[Sequence[int]]) -> None:
    tree, brute = PQTree(range(leaves)), TryingAll(leaves)
    for subset in subsets:
        before = str(tree)
        accepted = tree.reduce(subset)
        assert accepted == brute.reduce(subset)
        assert accepted or str(tree) == before
        assert_sound(tree)
        assert tree.order_count() == len(brute.orders)
        if subset != subsets[-1]:  # as many as there are, so it is enough that each is one
            assert tree.frontier() in brute.orders.tolist()
    assert sorted(tree.orders()) == brute.orders.tolist()


@settings(max_examples=100)
@given(constraints())
def test_orders_are_those_of_trying_all(given: tuple[int, list[list[int]]]) -> None:
    assert_equals_trying_all(*given)


@pytest.mark.parametrize("seed", range(6))
def test_orders_of_eight_leaves_are_those_of_trying_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hidden = rng.permutation(8)
    subsets = []
    for size in (2, 3, 5, 2, 4, 3, 6, 2):
        begin = rng.integers(9 - size)
        interval = hidden[begin : begin + size]
        subsets.append((rng.choice(8, size, replace=False) if rng.random() < 0.3 else interval).tolist())
    assert_equals_trying_all(8, subsets)


@pytest.mark.parametrize(
    ("before", "subset", "after"),
    [
        pytest.param("{2 3 {0 1}}", [0, 1], "{2 3 {0 1}}", id="L1, P1"),
        pytest.param("{3 [0 1 2]}", [2, 0, 1], "{3 [0 1 2]}", id="Q1"),
        pytest.param("{0 1 2 3}", [1, 2], "{0 3 {1 2}}", id="P2"),
        pytest.param("{3 4 {0 1 2}}", [1, 2, 3], "{4 [0 {1 2} 3]}", id="P3 below P4"),
        pytest.param("{2 {0 1}}", [1, 2], "[0 1 2]", id="P4, nothing empty"),
        pytest.param("{3 4 5 {2 {0 1}}}", [1, 2, 3], "{4 5 [0 1 2 3]}", id="P5, nothing empty"),
        pytest.param("{4 5 6 {2 3 {0 1}}}", [1, 4], "{5 6 [4 1 0 {2 3}]}", id="P5, nothing full"),
        pytest.param("{4 5 6 {2 3 {0 1}}}", [1, 3, 4, 5], "{6 [2 0 1 3 {4 5}]}", id="P5"),
        pytest.param("{4 5 6 {0 1} {2 3}}", [1, 2, 4, 5], "{6 [0 1 {4 5} 2 3]}", id="P6"),
        pytest.param("{{0 1} {2 3}}", [1, 2], "[0 1 2 3]", id="P6, nothing else"),
        pytest.param("{3 4 [0 1 2]}", [1, 2, 3], "{4 [0 1 2 3]}", id="Q2 below P4"),
        pytest.param("{4 5 [3 2 {0 1}]}", [1, 4], "{5 [3 2 0 1 4]}", id="Q2, nothing full"),
        pytest.param("{4 5 [3 2 {0 1}]}", [1, 2, 3, 4], "{5 [0 1 2 3 4]}", id="Q2, nothing empty"),
        pytest.param("{4 [3 2 {0 1}]}", [1, 2], "{4 [0 1 2 3]}", id="Q2, root"),
        pytest.param("{5 [{0 1} 2 {3 4}]}", [1, 2, 3], "{5 [0 1 2 3 4]}", id="Q3"),
        pytest.param("[4 {0 1} {2 3} 5]", [1, 2], "[4 0 1 2 3 5]", id="Q3, nothing full"),
        pytest.param("{9 [6 {4 5} 3 2 {0 1} 8]}", [2, 3, 0], "{9 [6 {4 5} 3 2 0 1 8]}", id="Q2, root, inner children"),
        pytest.param("{8 9 [3 4 {5 [0 1 2]}]}", [2, 8], "{9 [3 4 5 0 1 2 8]}", id="a Q node below a Q node"),
        pytest.param("{8 [3 4 {5 [0 1 2]} 6 7]}", [2, 6], "{8 [3 4 5 0 1 2 6 7]}", id="a Q node below a Q root"),
        pytest.param("{3 4 [0 1 2]}", [1, 3], None, id="no: a middle child"),
        pytest.param("{4 5 [2 {0 1} 3]}", [1, 4], None, id="no: a middle child that is partial"),
        pytest.param("{4 5 [2 {0 1} 3]}", [1, 2, 3, 4], None, id="no: partial between full"),
        pytest.param("{{0 1} {2 3} {4 5}}", [0, 2, 4], None, id="no: three partial"),
        pytest.param("{5 {4 {0 1} {2 3}}}", [0, 2, 5], None, id="no: two partial below the root"),
        pytest.param("{5 [4 {0 1} {2 3}]}", [0, 2, 5], None, id="no: two partial below the root, Q"),
        pytest.param("[0 1 2 3]", [0, 2], None, id="no: a gap"),
    ],
)
def test_templates(before: str, subset: list[int], after: str | None) -> None:
    tree = tree_of(before)
    assert canonical(tree) == before
    held = str(tree)
    assert tree.reduce(subset) == (after is not None)
    assert_sound(tree)
    if after is None:
        assert str(tree) == held
    else:
        assert canonical(tree) == after
    assert canonical(tree_of(canonical(tree))) == canonical(tree)


@given(constraints(most=9), st.randoms(use_true_random=False))
def test_the_order_of_reductions_does_not_matter(given: tuple[int, list[list[int]]], rng: random.Random) -> None:
    leaves, subsets = given
    tree = PQTree(range(leaves))
    accepted = [subset for subset in subsets if tree.reduce(subset)]
    rng.shuffle(accepted)
    assert canonical(reduced(leaves, accepted)) == canonical(tree)


@settings(max_examples=30)
@given(st.integers(10, 60), st.integers(0, 80), st.randoms(use_true_random=False))
def test_a_hidden_order_is_kept(leaves: int, count: int, rng: random.Random) -> None:
    """More leaves than all orders can be tried of: whatever a reduction meets, the hidden order stays and others go."""
    hidden = rng.sample(range(leaves), leaves)
    tree = PQTree(range(leaves))
    subsets = []
    for _ in range(count):
        begin = rng.randrange(leaves)
        subset = hidden[begin : begin + 1 + rng.randrange(rng.choice((4, leaves)))]
        subsets.append(rng.sample(subset, len(subset)))
        before = tree.order_count()
        assert tree.reduce(subsets[-1])
        assert tree.order_count() <= before
        assert tree.accepts(hidden) and tree.accepts(hidden[::-1])
    assert_sound(tree)
    again = PQTree(range(leaves))
    for subset in sorted(subsets, key=len):
        assert again.reduce(subset)
    assert canonical(again) == canonical(tree)
    order = rng.sample(range(leaves), leaves)
    tree.arrange(order)
    assert_sound(tree)
    place = {leaf: at for at, leaf in enumerate(tree.frontier())}
    for subset in subsets:
        places = [place[leaf] for leaf in subset]
        assert max(places) - min(places) == len(places) - 1
    for pair in pairwise(hidden):
        assert tree.reduce(pair)
    assert str(tree) in (f"[{' '.join(map(str, order))}]" for order in (hidden, hidden[::-1]))


@given(constraints(most=6), st.data())
def test_a_projection_has_the_orders_without_the_others(
    given: tuple[int, list[list[int]]], data: st.DataObject
) -> None:
    tree = reduced(*given)
    held = str(tree)
    kept = data.draw(st.lists(st.integers(0, given[0] - 1), unique=True))
    projected = tree.project(kept)
    if len(kept) > 1:
        assert_sound(projected)
    orders = {tuple(leaf for leaf in order if leaf in kept) for order in tree.orders()}
    assert sorted(map(tuple, projected.orders())) == sorted(orders)
    assert len(projected) == len(kept) and str(tree) == held


@given(constraints(most=6))
def test_blocks_say_what_is_fixed(given: tuple[int, list[list[int]]]) -> None:
    """Each is consecutive in all orders; they make the tree anew; and all that is consecutive follows from them."""
    tree = reduced(*given)
    leaves = range(len(tree))
    orders = list(tree.orders())
    blocks = list(tree.blocks())
    consecutive = {
        frozenset(subset)
        for size in range(2, len(tree) + 1)
        for subset in combinations(leaves, size)
        if all(max(at) - min(at) == size - 1 for order in orders for at in [[order.index(leaf) for leaf in subset]])
    }
    assert set(blocks) <= consecutive
    assert len(set(blocks)) == len(blocks)
    anew = PQTree(leaves)
    assert all(anew.reduce(block) for block in blocks)
    assert canonical(anew) == canonical(tree)
    unions = set(blocks)
    while more := {one | other for one in unions for other in blocks if one & other} - unions:
        unions |= more
    assert unions == consecutive


def test_blocks_come_children_first() -> None:
    tree = tree_of("{5 [{0 1} 2 {3 4}]}")
    inner = {frozenset(block) for block in ([0, 1], [3, 4])}
    blocks = list(tree.blocks())
    assert set(blocks[:2]) == inner
    assert blocks[2] == {0, 1, 2, 3, 4}
    assert {*blocks[3:5]} == {frozenset([0, 1, 2]), frozenset([2, 3, 4])}
    assert blocks[5:] == [frozenset(range(6))]


@given(constraints(most=6), st.data())
def test_orders_that_are_accepted_can_be_had(given: tuple[int, list[list[int]]], data: st.DataObject) -> None:
    tree = reduced(*given)
    orders = list(tree.orders())
    order = data.draw(st.permutations(range(len(tree))))
    assert tree.accepts(order) == (list(order) in orders)
    held = str(tree)
    if list(order) not in orders:
        order = data.draw(st.sampled_from(orders))
    assert tree.accepts(order) and str(tree) == held
    tree.arrange(order)
    assert tree.frontier() == list(order)
    assert_sound(tree)
    assert sorted(tree.orders()) == sorted(orders)


@given(constraints(most=6), st.data())
def test_some_leaves_can_be_put_in_order(given: tuple[int, list[list[int]]], data: st.DataObject) -> None:
    tree = reduced(*given)
    some = data.draw(st.permutations(range(len(tree))))[: data.draw(st.integers(0, len(tree)))]
    fits = tree.project(some).accepts(some)
    before = list(tree.orders())
    tree.arrange(some)
    assert tree.frontier() in before
    assert ([leaf for leaf in tree.frontier() if leaf in some] == list(some)) == fits


@given(constraints(most=6), st.lists(st.integers(0, 1), max_size=4))
def test_copies_are_trees_of_their_own(given: tuple[int, list[list[int]]], more: list[int]) -> None:
    tree = reduced(*given)
    for copied in (copy.copy(tree), copy.deepcopy(tree), pickle.loads(pickle.dumps(tree))):
        held = str(tree)
        assert str(copied) == held
        copied.reduce(more)
        assert_sound(copied)
        assert str(tree) == held
        assert tree.root is not copied.root


def test_a_deep_tree() -> None:
    """Deeper than Python's recursion may be: {.. {{{0 1} {2 3}} 4} 5 ..}."""
    leaves = 1500
    tree = PQTree(range(leaves))
    for end in range(leaves, 3, -1):
        assert tree.reduce(range(end))
    assert tree.reduce([0, 1]) and tree.reduce([2, 3])
    assert tree.order_count() == 2 ** (leaves - 1)
    assert str(tree).count("{") == leaves - 1
    assert len(next(tree.orders())) == leaves
    assert [len(block) for block in islice(tree.blocks(), 5)] == [2, 2, 4, 5, 6]
    assert tree.project(range(0, leaves, 2)).order_count() == 2 ** (leaves // 2 - 1)
    for copied in (copy.deepcopy(tree), pickle.loads(pickle.dumps(tree))):
        assert str(copied) == str(tree)
    order = tree.frontier()[::-1]
    assert tree.accepts(order)
    tree.arrange(order)
    assert tree.frontier() == order
    held = str(tree)
    assert not tree.reduce([0, 2, leaves - 1])
    assert str(tree) == held
    assert tree.reduce([0, leaves - 1])
    assert canonical(tree) == f"[{' '.join(map(str, range(leaves - 2, 3, -1)))} {{2 3}} 1 0 {leaves - 1}]"


def test_partial_nodes_are_paid_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """All reductions together open no more partial nodes than there are leaves and reductions, as reduce says."""
    opened = 0

    def counted(function):
        def count(*args):
            nonlocal opened
            opened += 1
            return function(*args)

        return count

    for name in ("_open_p", "_open_q"):
        monkeypatch.setattr(pqreduce, name, counted(getattr(pqreduce, name)))
    leaves, rng = 400, random.Random(0)
    for largest in (3, 20, leaves):
        opened, tree = 0, PQTree(range(leaves))
        reductions = 300
        for _ in range(reductions):
            size = rng.randint(2, largest)
            begin = rng.randrange(leaves - size + 1)
            assert tree.reduce(range(begin, begin + size))
        assert 0 < opened <= leaves - 1 + reductions


def test_far_children_of_a_q_node_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    leaves = 500
    tree = PQTree(range(leaves))
    for leaf in range(1, leaves):
        tree.reduce([leaf - 1, leaf])
    looked = 0

    def counted(node: Node, previous: Node | None) -> Node | None:
        nonlocal looked
        looked += 1
        return node.link_b if node.link_a is previous else node.link_a

    monkeypatch.setattr(pqreduce, "beyond", counted)
    for begin in range(leaves - 3):
        assert tree.reduce([begin, begin + 2, begin + 1])
        assert not tree.reduce([begin, begin + 2])
    assert looked <= 4 * leaves


def test_the_example_of_the_file() -> None:
    tree = PQTree(range(6))
    assert (tree.reduce([1, 2]), tree.reduce([2, 3])) == (True, True)
    assert (tree.reduce([4, 5]), tree.reduce([2, 5])) == (True, False)
    assert str(tree) == "{0 [1 2 3] {4 5}}"
    assert repr(tree) == "PQTree({0 [1 2 3] {4 5}})"
    assert repr(tree.root.children[1]) == "<Q: [1 2 3]>"
    assert tree.order_count() == math.factorial(3) * 2 * 2


def test_leaves_may_be_anything_that_hashes() -> None:
    leaves: list[Hashable] = ["a", ("b", 1), None, 2.5]
    tree = PQTree(leaves)
    assert tree.reduce(iter([None, "a", None])) and None in tree and "c" not in tree
    assert sorted(map(str, next(tree.blocks()))) == ["None", "a"]
    assert str(tree.project(["a", None, 2.5])) in (
        "{2.5 {a None}}",
        "{{a None} 2.5}",
        "{2.5 {None a}}",
        "{{None a} 2.5}",
    )
    assert str(PQTree("abc")) == "{a b c}"


@pytest.mark.parametrize(("leaves", "text"), [(0, "{}"), (1, "0"), (2, "{0 1}")])
def test_the_smallest_trees(leaves: int, text: str) -> None:
    tree = PQTree(range(leaves))
    order = list(range(leaves))
    for subset in (*([leaf] for leaf in order), [], order):
        assert tree.reduce(subset)
    assert (str(tree), len(tree), tree.frontier()) == (text, leaves, order)
    assert list(tree.orders()) == [list(each) for each in permutations(order)]
    assert tree.order_count() == max(leaves, 1)
    assert list(tree.blocks()) == [frozenset(order)] * (leaves > 1)
    assert str(copy.deepcopy(tree)) == text
    assert str(tree.project([])) == "{}"
    assert tree.accepts(order)
    tree.arrange(order[::-1])
    assert tree.frontier() == order[::-1]


def test_wrong_leaves_are_named() -> None:
    with pytest.raises(PQTreeError, match="3 leaves, of which 2 are distinct"):
        PQTree([0, 1, 0])
    tree = reduced(4, [[1, 2]])
    for wrong in (tree.reduce, tree.project, tree.accepts, tree.arrange):
        with pytest.raises(PQTreeError, match="7 is not one of the tree's 4 leaves"):
            wrong([0, 7])
    for order in ([0, 1, 2], [0, 1, 2, 3, 3]):
        with pytest.raises(PQTreeError, match=f"an order of {len(order)} leaves, in a tree of 4"):
            tree.accepts(order)
    assert str(tree) == "{0 3 {1 2}}"


def test_the_benchmark_counts_what_it_reduces_by() -> None:
    for family in FAMILIES:
        (line,) = lines_of(family, [30], elements=400, repeats=1, seed=0)
        assert line["leaves"] == 30 and line["elements"] >= 400 and line["subsets"] > 0
        assert line["accepted"] <= line["subsets"]
        assert (line["accepted"] == line["subsets"]) == (family != "conflicts")
