"""The actions of a tree build it again, and a made tree follows its rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bale.data import REDUCE, SHIFT, Tree, gold_actions, parse_samples, random_parses
from bale.errors import DataError

binary_trees = st.recursive(
    st.builds(Tree, st.integers(0, 9)),
    lambda below: st.builds(lambda left, right: Tree(0, (left, right)), below, below),
    max_leaves=12,
)


def build(words, actions):
    stack, waiting = [], iter(words)
    for action in actions:
        if action == SHIFT:
            stack.append(Tree(next(waiting)))
        else:
            right, left = stack.pop(), stack.pop()
            stack.append(Tree(0, (left, right)))
    assert next(waiting, None) is None
    (tree,) = stack
    return tree


@given(binary_trees)
def test_the_actions_build_the_tree(tree):
    (((words, actions), said),) = parse_samples([tree])
    assert actions == said == gold_actions(tree)
    assert build(words, actions) == tree
    assert set(actions) <= {SHIFT, REDUCE}


@pytest.mark.parametrize("children", [1, 3])
def test_a_node_that_is_not_binary_is_refused(children):
    tree = Tree(0, (Tree(0, (Tree(1),) * children), Tree(2)))
    with pytest.raises(DataError, match=f"a node has {children} children: binarise the tree first"):
        gold_actions(tree)


def test_depth_is_no_problem():
    tree = Tree(1)
    for _ in range(5_000):
        tree = Tree(0, (tree, Tree(1)))
    assert gold_actions(tree) == (SHIFT, *(SHIFT, REDUCE) * 5_000)


def test_a_word_says_how_often_to_reduce():
    for (words, actions), _ in parse_samples(random_parses(100, 3, words=30, length=8)):
        text = "".join(map(str, actions)).split(str(SHIFT))[1:]
        open_trees = 0
        for place, (word, reduces) in enumerate(zip(words, text, strict=True)):
            wanted = open_trees if place == len(words) - 1 else word % 3
            assert len(reduces) == min(wanted, open_trees)
            open_trees += 1 - len(reduces)
        assert open_trees == 1


def test_the_sizes_are_those_asked_for():
    assert {len(gold_actions(tree)) for tree in random_parses(300, 4, length=4)} == {3, 5, 7, 9, 11}
