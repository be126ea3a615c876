"""What is printed is read back, and what is wrong is named with its place."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bale.data import PtbTree, parse_ptb, ptb_samples, ptb_vocabulary, read_ptb
from bale.errors import DataError

# Words may hold anything but the separators: other alphabets, a no-break space, a line separator.
words = st.text(st.characters(exclude_characters="() \t\r\n", exclude_categories=["Cs"]), min_size=1, max_size=6)
labels = st.integers(-(10**9), 10**9)
ptb_trees = st.recursive(
    st.builds(PtbTree, labels, words),
    lambda below: st.builds(
        lambda label, children: PtbTree(label, children=tuple(children)),
        labels,
        st.lists(below, min_size=1, max_size=4),
    ),
    max_leaves=12,
)


def nested(tree):
    return (tree.label, tree.word, [nested(child) for child in tree.children])


@given(ptb_trees)
def test_a_printed_tree_reads_back(tree):
    for read in (parse_ptb(str(tree)), pickle.loads(pickle.dumps(tree)), copy.deepcopy(tree)):
        assert nested(read) == nested(tree)
        assert read == tree and hash(read) == hash(tree)


@given(ptb_trees, ptb_trees)
def test_trees_are_equal_when_they_are_the_same_written_out(one, other):
    assert (one == other) == (nested(one) == nested(other))


@given(ptb_trees, st.sampled_from([" ", "\t", "  "]))
def test_space_between_tokens_does_not_count(tree, space):
    spread = str(tree).replace("(", f"{space}({space}").replace(")", f"{space}){space}")
    assert parse_ptb(spread) == tree


@given(st.lists(ptb_trees, min_size=1, max_size=5), st.sampled_from(["\n", "\r\n", "\n\n", "\n \t\r\n"]))
def test_a_written_file_reads_back(tmp_path_factory, trees, newline):
    path = tmp_path_factory.mktemp("ptb") / "trees.txt"
    path.write_bytes(newline.join(map(str, trees)).encode())
    assert read_ptb(path) == trees


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    path = tmp_path / "trees.txt"
    path.write_bytes(b"\xef\xbb\xbf(1 a)\n")
    assert read_ptb(path) == [PtbTree(1, "a")]


@pytest.mark.parametrize(
    ("text", "column", "problem"),
    [
        ("a", 1, "expected the '(' of a tree, got 'a'"),
        (")", 1, "expected the '(' of a tree, got ')'"),
        ("(", 2, "unbalanced: the '(' at column 1 is never closed; expected ')'"),
        ("(3", 3, "unbalanced: the '(' at column 1 is never closed; expected ')'"),
        ("(3 (2 a) (", 11, "unbalanced: the '(' at column 10 is never closed; expected ')'"),
        ("(3 (2 a) (2 b)", 15, "unbalanced: the '(' at column 1 is never closed; expected ')'"),
        ("(3 (2 a) (2 b", 14, "unbalanced: the '(' at column 10 is never closed; expected ')'"),
        ("()", 2, "empty node: expected an integer label after '(', got ')'"),
        ("(3 (2 a) ())", 11, "empty node: expected an integer label after '(', got ')'"),
        ("(3)", 3, "empty node: expected a word or a child after the label 3, got ')'"),
        ("(3 (2 a) (2 ))", 13, "empty node: expected a word or a child after the label 2, got ')'"),
        ("((2 a) (3 b))", 2, "missing label: expected an integer after '(', got '('"),
        ("(a)", 2, "expected an integer label, got 'a'"),
        ("(NP (2 a))", 2, "expected an integer label, got 'NP'"),
        ("(2.5 a)", 2, "expected an integer label, got '2.5'"),
        ("(1_0 a)", 2, "expected an integer label, got '1_0'"),
        ("(٣ a)", 2, "expected an integer label, got '٣'"),
        ("(" + "9" * 5000 + " a)", 2, "expected an integer label, got '" + "9" * 40 + "...'"),
        ("(2 a b)", 6, "expected ')' after the word 'a', got 'b'"),
        ("(2 a (2 b))", 6, "expected ')' after the word 'a', got '('"),
        ("(2 (2 a) b)", 10, "expected '(' or ')' after a child, got 'b'"),
        ("(2 a))", 6, "trailing text ')' after the tree; expected one tree a line"),
        ("(2 a) (2 b)", 7, "trailing text '(' after the tree; expected one tree a line"),
        ("(2 é) x", 7, "trailing text 'x' after the tree; expected one tree a line"),
        ("(2 " * 100_000, 300_001, "unbalanced: the '(' at column 299998 is never closed; expected ')'"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_an_error_names_file_line_and_column(tmp_path, text, column, problem):
    path = tmp_path / "trees.txt"
    path.write_text(f"(1 fine)\n\n{text}\n(1 fine)\n", "utf-8")
    with pytest.raises(DataError) as error:
        read_ptb(path)
    assert str(error.value) == f"{path}:3:{column}: {problem}"


def test_a_line_without_a_tree_is_an_error_of_parse():
    with pytest.raises(DataError, match=r"^<text>:1:3: expected the '\(' of a tree, got the end of the line$"):
        parse_ptb("  ")


@given(st.text("()01a \t", max_size=12))
def test_any_text_is_a_tree_or_an_error_with_its_place(text):
    try:
        tree = parse_ptb(text, path="f", line=7)
    except DataError as error:
        file, line, column, _ = str(error).split(":", 3)
        assert (file, line) == ("f", "7")
        assert 1 <= int(column) <= len(text) + 1
    else:
        assert str(tree).split() == str(parse_ptb(str(tree))).split()


def test_a_node_has_a_word_or_children_and_not_both():
    for word, children in ((None, ()), ("a", (PtbTree(1, "b"),))):
        with pytest.raises(DataError, match="either a word or children"):
            PtbTree(1, word, children)


@pytest.mark.parametrize("word", ["", "a b", "(", "a)", "a\tb", "a\n"])
def test_a_word_that_would_not_read_back_is_refused(word):
    with pytest.raises(DataError, match="no bracket, space or newline"):
        PtbTree(1, word)


@given(ptb_trees)
def test_words_are_the_leaves_from_left_to_right(tree):
    def walk(node):
        return [node.word] if node.word is not None else [word for child in node.children for word in walk(child)]

    assert tree.words == walk(tree)


@given(st.lists(ptb_trees, min_size=1, max_size=4))
def test_a_sample_is_the_tree_with_numbers_for_words(trees):
    vocabulary = ptb_vocabulary(trees[1:])
    samples = ptb_samples(trees, vocabulary)

    def numbered(node):
        return 0 if node.word is None else vocabulary.id(node.word), [numbered(child) for child in node.children]

    def nested_kinds(node):
        return node.kind, [nested_kinds(child) for child in node.children]

    assert [label for _, label in samples] == [tree.label for tree in trees]
    assert [nested_kinds(tree) for tree, _ in samples] == [numbered(tree) for tree in trees]


def test_depth_is_no_problem():
    tree = PtbTree(1, "a")
    for _ in range(5_000):
        tree = PtbTree(2, children=(tree,))
    assert parse_ptb(str(tree)) == tree
    ((encoded, label),) = ptb_samples([tree], ptb_vocabulary([tree]))
    assert (encoded.depth, label) == (5_001, 2)


def test_the_sentiment_treebank_reads_and_prints_back(sst):
    trees = read_ptb(sst / "dev.txt")
    assert [str(tree) for tree in trees] == (sst / "dev.txt").read_text("utf-8").split("\n")[:-1]
    assert len(trees) == 1_107
    assert {tree.label for tree in trees} == set(range(5))
    assert {len(tree.children) for tree in trees} <= {0, 2}
