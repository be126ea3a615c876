"""Trees are values, at any depth."""

import copy
import pickle

from hypothesis import given
from hypothesis import strategies as st

from bale.data import Tree

kind_trees = st.recursive(
    st.builds(Tree, st.integers(0, 9)),
    lambda below: st.builds(Tree, st.integers(0, 9), st.lists(below, min_size=1, max_size=4).map(tuple)),
    max_leaves=12,
)


def nested(tree):
    return (tree.kind, [nested(child) for child in tree.children])


def chain(length, kind=0):
    tree = Tree(kind)
    for _ in range(length - 1):
        tree = Tree(kind, (tree,))
    return tree


@given(kind_trees, kind_trees)
def test_trees_are_equal_when_they_are_the_same_written_out(one, other):
    assert (one == other) == (nested(one) == nested(other))
    if one == other:
        assert hash(one) == hash(other)


@given(kind_trees)
def test_copies_are_equal(tree):
    for copied in (pickle.loads(pickle.dumps(tree)), copy.deepcopy(tree), Tree.from_flat(*tree.flat())):
        assert copied is not tree
        assert nested(copied) == nested(tree)


@given(kind_trees)
def test_size_and_depth_are_those_of_the_recursive_definition(tree):
    def size(node):
        return 1 + sum(map(size, node.children))

    def depth(node):
        return 1 + max(map(depth, node.children), default=0)

    assert (tree.size, tree.depth) == (size(tree), depth(tree))


def test_a_tree_far_deeper_than_the_recursion_limit_is_a_value_too():
    tree = chain(50_000)
    assert (tree.size, tree.depth) == (50_000, 50_000)
    assert pickle.loads(pickle.dumps(tree)) == tree
    assert tree != chain(50_001) and tree != chain(50_000, kind=1)
    assert hash(tree) == hash(chain(50_000))


def test_a_tree_is_no_other_type():
    assert Tree(1) != 1
    assert repr(Tree(1, (Tree(2),))) == "<Tree of kind 1: 2 nodes, depth 2>"
