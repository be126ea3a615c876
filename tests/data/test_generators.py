"""Made data are the same for the same seed, of the shapes they promise, and follow their rule."""

import statistics

import pytest

from bale.data import KINDS, parse_ptb, parse_tagged, random_functions, random_ptb, random_tagged

GENERATORS = [random_functions, random_ptb, random_tagged]


@pytest.mark.parametrize("generate", GENERATORS)
def test_the_seed_decides(generate):
    assert generate(20, 7) == generate(20, 7)
    assert generate(20, 7) != generate(20, 8)
    assert len(generate(20, 7)) == 20 and generate(0, 7) == []


def test_functions_have_the_sizes_of_python_functions():
    samples = random_functions(2_000, 1)
    sizes = sorted(tree.size for tree, _ in samples)
    assert 30 <= statistics.median(sizes) <= 40 and 200 <= sizes[1_900] <= 290
    assert sizes[0] >= 2 and sizes[-1] <= 1_000
    assert 5 <= statistics.median(tree.depth for tree, _ in samples) <= 8
    kinds, arities = zip(*(tree.flat() for tree, _ in samples), strict=True)
    assert {kind for of_tree in kinds for kind in of_tree} == set(range(len(KINDS)))
    assert {0, 1, 2, 3, 4, 5} <= {arity for of_tree in arities for arity in of_tree}


def test_a_function_is_labelled_by_its_first_child():
    for tree, label in random_functions(100, 2, kinds=30, classes=7, max_nodes=50):
        assert tree.size <= 50
        assert label == tree.children[0].kind % 7


def test_ptb_trees_are_binary_and_labelled_by_their_words():
    trees = random_ptb(200, 3, words=50, leaves=8)
    polarity = {}
    for tree in trees:
        for leaf in tree.leaves():
            polarity.setdefault(leaf.word, leaf.label - 2)
    assert set(polarity.values()) == {-1, 0, 1}
    waiting = list(trees)
    while waiting:
        node = waiting.pop()
        total = sum(polarity[word] for word in node.words)
        assert len(node.children) in (0, 2)
        assert node.label == min(max(2 + total, 0), 4)
        waiting += node.children
    assert {len(tree.words) for tree in trees} == set(range(4, 13))
    assert all(parse_ptb(str(tree)) == tree for tree in trees)


def test_a_tag_follows_from_its_word_and_the_next():
    rule = {}
    sentences = random_tagged(300, 4, words=20, tags=3, length=6)
    for sentence in sentences:
        odd = [int(word[1:]) % 2 for word in sentence.words[1:]] + [0]
        for word, tag, next_odd in zip(sentence.words, sentence.tags, odd, strict=True):
            assert rule.setdefault((word, next_odd), tag) == tag
    assert len(rule) == 40 and set(rule.values()) == {"T0", "T1", "T2"}
    assert {len(sentence.words) for sentence in sentences} == set(range(3, 10))
    assert all(parse_tagged(str(sentence)) == sentence for sentence in sentences)
