"""What is printed is read back, and what is wrong is named with its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bale.data import TaggedSentence, parse_tagged, read_tagged, tag_names, tagged_samples, tagged_vocabulary
from bale.errors import DataError

words = st.text(st.characters(exclude_characters=" \t\r\n", exclude_categories=["Cs"]), min_size=1, max_size=6)
tags = st.text(st.characters(exclude_characters="| \t\r\n", exclude_categories=["Cs"]), min_size=1, max_size=6)
sentences = st.lists(st.tuples(words, tags), min_size=1, max_size=8).map(
    lambda pairs: TaggedSentence(*map(tuple, zip(*pairs, strict=True)))
)


@given(sentences)
def test_a_printed_sentence_reads_back(sentence):
    assert parse_tagged(str(sentence)) == sentence


@given(st.lists(sentences, min_size=1, max_size=5), st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_a_written_file_reads_back(tmp_path_factory, written, newline):
    path = tmp_path_factory.mktemp("tagged") / "sentences.txt"
    path.write_bytes(b"\xef\xbb\xbf" + newline.join(map(str, written)).encode())
    assert read_tagged(path) == written


def test_the_last_bar_separates():
    assert parse_tagged("||O a|b|X") == TaggedSentence(("|", "a|b"), ("O", "X"))


@pytest.mark.parametrize(
    ("text", "column", "problem"),
    [
        ("a|X b c|X", 5, "expected word|TAG, got 'b' without a '|'"),
        ("a|X |Y", 5, "expected a word before '|', got '|Y'"),
        ("a|X  b|", 8, "expected a tag after the last '|' of 'b|'"),
        ("é|X |", 5, "expected a word before '|', got '|'"),
    ],
)
def test_an_error_names_file_line_and_column(tmp_path, text, column, problem):
    path = tmp_path / "sentences.txt"
    path.write_text(f"fine|O\n\n{text}\nfine|O\n", "utf-8")
    with pytest.raises(DataError) as error:
        read_tagged(path)
    assert str(error.value) == f"{path}:3:{column}: {problem}"


def test_a_line_without_a_word_is_an_error_of_parse():
    with pytest.raises(DataError, match=r"^<text>:1:2: expected word\|TAG, got the end of the line$"):
        parse_tagged("\t")


def test_every_word_has_a_tag():
    for words_, tags_ in (((), ()), (("a",), ("X", "Y"))):
        with pytest.raises(DataError, match="each with a tag"):
            TaggedSentence(words_, tags_)


@pytest.mark.parametrize(
    ("word", "tag"), [("", "X"), ("a b", "X"), ("a\n", "X"), ("a", ""), ("a", "X|Y"), ("a", "X\n")]
)
def test_what_would_not_read_back_is_refused(word, tag):
    with pytest.raises(DataError, match=r"cannot be written as word\|TAG"):
        TaggedSentence((word,), (tag,))


@given(st.lists(sentences, min_size=1, max_size=4))
def test_samples_are_the_numbers_of_words_and_tags(read):
    vocabulary, names = tagged_vocabulary(read, min_count=2), tag_names(read)
    for sentence, (word_ids, tag_ids) in zip(read, tagged_samples(read, vocabulary, names), strict=True):
        assert tuple(names[tag] for tag in tag_ids) == sentence.tags
        assert word_ids == tuple(vocabulary.id(word) for word in sentence.words)
    assert names == tuple(sorted(set(names)))


def test_a_tag_without_a_class_is_an_error():
    read = [TaggedSentence(("a",), ("X",)), TaggedSentence(("b", "c"), ("X", "Y"))]
    with pytest.raises(DataError, match=r"^sentence 1, word 1 \('c'\): the tag 'Y' is none of the 1 known"):
        tagged_samples(read, tagged_vocabulary(read), ("X",))


def test_wikiner_reads_and_prints_back(wikiner):
    read = read_tagged(wikiner / "dev.txt")
    assert [str(sentence) for sentence in read] == (wikiner / "dev.txt").read_text("utf-8").split("\n")[:-1]
    assert len(read) == 1_696
    assert "I-LOC" in tag_names(read)
