"""Made data are the same for the same seed, of the shapes they promise, and follow their rule."""

import statistics

import pytest

from bale.data import (
    KINDS,
    lattice_samples,
    lattice_sizes,
    parse_parallel,
    parse_ptb,
    parse_tagged,
    random_circuits,
    random_functions,
    random_lattices,
    random_pairs,
    random_parallel,
    random_parses,
    random_ptb,
    random_tagged,
    random_typed_trees,
)
from bale.errors import DataError

GENERATORS = [
    random_circuits,
    random_functions,
    random_lattices,
    random_pairs,
    random_parallel,
    random_parses,
    random_ptb,
    random_tagged,
    random_typed_trees,
]


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


def test_lattices_are_of_the_sizes_promised():
    sentences = random_lattices(200, 5)
    assert {len(sentence.tags) - 1 for sentence in sentences} == set(range(20, 61))
    sizes = lattice_sizes(lattice_samples(sentences))
    assert sizes.characters <= 501 and sizes.words <= 2_001 and sizes.tags == 9
    lattices = [sentence.lattice for sentence in sentences]
    assert all(lattice.characters == len(lattice.arcs) - 1 for lattice in lattices)
    assert 0.4 < sum(lattice.words for lattice in lattices) / sum(lattice.characters for lattice in lattices) < 0.6
    assert {p - s for lattice in lattices for p, ending in enumerate(lattice.arcs) for s, _ in ending} == {1, 2, 3, 4}


def test_a_lattices_tag_follows_from_the_longest_arc():
    rule = {}
    for lattice, tags in lattice_samples(random_lattices(300, 6, characters=6, words=20, tags=4, length=6)):
        assert lattice.ends == tuple(range(1, len(lattice.arcs)))
        for position, tag in zip(lattice.ends, tags, strict=True):
            start, number = min(lattice.arcs[position])
            assert rule.setdefault((start == position - 1, number), tag) == tag
    assert set(rule.values()) == {1, 2, 3} and len(rule) > 20


def test_no_more_words_than_pairs_of_characters():
    with pytest.raises(DataError, match=r"words must be at most 3\*\*2, the pairs of characters, got 10"):
        random_lattices(1, 0, characters=3, words=10)
    assert len(random_lattices(3, 0, characters=1, words=1)) == 3


def test_a_word_has_one_translation():
    table = {}
    pairs = random_parallel(300, 7, words=20, length=6)
    for pair in pairs:
        said = list(pair.target)
        for word in reversed(pair.source):
            taken = [said.pop(0) for _ in range(1 + int(word[1:]) % 2)]
            assert table.setdefault(word, taken) == taken
        assert said == []
    assert len(table) == 20
    assert {len(pair.source) for pair in pairs} == set(range(3, 10))
    assert all(parse_parallel(str(pair)) == pair for pair in pairs)


def test_pairs_that_belong_together_share_their_words_in_order():
    def common(one, other):  # the longest common subsequence
        row = [0] * (len(other) + 1)
        for a in one:
            last = 0
            for place, b in enumerate(other, 1):
                last, row[place] = row[place], last + 1 if a == b else max(row[place], row[place - 1])
        return row[-1]

    shares = {0: [], 1: []}
    for (one, other), label in random_pairs(400, 8):
        assert one and other
        shares[label].append(common(one, other) / len(one))
    assert len(shares[1]) > 150 and len(shares[0]) > 150
    assert statistics.mean(shares[1]) > 0.5 and statistics.mean(shares[0]) < 0.02
