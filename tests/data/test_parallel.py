"""What is printed is read back, and what is wrong is named with its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bale.data import (
    BEGIN,
    END,
    UNKNOWN,
    SentencePair,
    Vocabulary,
    parallel_samples,
    parallel_vocabularies,
    parse_parallel,
    read_parallel,
)
from bale.errors import DataError

MARKS = (BEGIN, END, "|||")
words = st.text(st.characters(exclude_characters=" \t\r\n", exclude_categories=["Cs"]), min_size=1, max_size=6).filter(
    lambda word: word not in MARKS
)
sentences = st.lists(words, min_size=1, max_size=6).map(tuple)
pairs = st.builds(SentencePair, sentences, sentences)


@given(pairs)
def test_a_printed_pair_reads_back(pair):
    assert parse_parallel(str(pair)) == pair


@given(st.lists(pairs, min_size=1, max_size=5), st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_a_written_file_reads_back(tmp_path_factory, written, newline):
    path = tmp_path_factory.mktemp("parallel") / "pairs.txt"
    path.write_bytes(b"\xef\xbb\xbf" + newline.join(map(str, written)).encode())
    assert read_parallel(path) == written


@pytest.mark.parametrize(
    ("text", "column", "problem"),
    [
        ("a", 1, "expected '<s>' at the begin of the source, got 'a'"),
        ("<s> </s>", 5, "expected a word in the source, got '</s>'"),
        ("<s> a", 6, "expected a word or '</s>' in the source, got the end of the line"),
        ("<s> a ||| <s> b </s>", 7, "expected a word or '</s>' in the source, got '|||'"),
        ("<s> a <s> b </s>", 7, "expected a word or '</s>' in the source, got '<s>'"),
        ("<s> a </s>", 11, "expected '|||' after the </s> of the source, got the end of the line"),
        ("<s> a </s> <s> b </s>", 12, "expected '|||' after the </s> of the source, got '<s>'"),
        ("<s> a </s> ||| b </s>", 16, "expected '<s>' at the begin of the target, got 'b'"),
        ("<s> a </s> |||", 15, "expected '<s>' at the begin of the target, got the end of the line"),
        ("<s> é </s> ||| <s>\tb", 21, "expected a word or '</s>' in the target, got the end of the line"),
        ("<s> a </s> ||| <s> b </s> c", 27, "expected the end of the line after the </s> of the target, got 'c'"),
    ],
)
def test_an_error_names_file_line_and_column(tmp_path, text, column, problem):
    path = tmp_path / "pairs.txt"
    path.write_text(f"<s> a </s> ||| <s> b </s>\n\n{text}\n", "utf-8")
    with pytest.raises(DataError) as error:
        read_parallel(path)
    expected = problem.replace("or '</s>'", "or </s>")
    assert str(error.value) == f"{path}:3:{column}: {expected}"


@pytest.mark.parametrize("word", ["", "a b", "a\n", *MARKS])
def test_what_would_not_read_back_is_refused(word):
    for source, target, side in ((("a", word), ("b",), "source"), (("a",), (word,), "target")):
        with pytest.raises(DataError, match=rf"^a word of the {side} that cannot be written"):
            SentencePair(source, target)


def test_both_sides_have_words():
    for source, target, side in (((), ("b",), "source"), (("a",), (), "target")):
        with pytest.raises(DataError, match=f"^a {side} has at least one word, got none$"):
            SentencePair(source, target)


@given(st.lists(pairs, min_size=1, max_size=4))
def test_samples_are_the_numbers_of_the_words(read):
    source, target = parallel_vocabularies(read[1:])
    for pair, ((heard, spoken), said) in zip(read, parallel_samples(read, source, target), strict=True):
        assert heard == (1, *map(source.id, pair.source), 2)
        assert spoken == (1, *map(target.id, pair.target), 2)
        assert said == spoken[1:]


@given(st.lists(pairs, max_size=4), st.integers(1, 2), st.integers(3, 8))
def test_vocabularies_begin_with_the_marks(read, min_count, max_size):
    for side, vocabulary in enumerate(parallel_vocabularies(read, min_count=min_count, max_size=max_size)):
        text = [word for pair in read for word in (pair.source, pair.target)[side]]
        plain = Vocabulary.build(text, min_count=min_count, max_size=max_size - 2).to_list()
        assert vocabulary.to_list() == [UNKNOWN, BEGIN, END, *plain[1:]]
        assert len(vocabulary) <= max_size


def test_there_is_room_for_the_marks():
    with pytest.raises(DataError, match="at least 3"):
        parallel_vocabularies([], max_size=2)


def test_a_vocabulary_without_marks_is_refused():
    pair = SentencePair(("a",), ("b",))
    source, _ = parallel_vocabularies([pair])
    with pytest.raises(DataError, match=r"^the target's vocabulary does not list <s> and </s>: take one of"):
        parallel_samples([pair], source, Vocabulary.build(["b"]))


def test_the_translations_read_and_print_back(data_folder):
    path = data_folder("nmt") / "tst2012.en-vi.capped"
    read = read_parallel(path)
    assert [str(pair) for pair in read] == path.read_text("utf-8").split("\n")[:-1]
    assert len(read) == 1_553
    assert UNKNOWN in {word for pair in read for word in pair.source}
