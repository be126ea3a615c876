"""A known word is its number, a rare one its characters, and tags are those of tagged samples."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bale.data import (
    UNKNOWN,
    TaggedSentence,
    Vocabulary,
    character_vocabulary,
    read_tagged,
    spelled_samples,
    tag_names,
    tagged_samples,
    tagged_vocabulary,
)
from bale.errors import DataError

words = st.sampled_from(["a", "bb", "cab", UNKNOWN]) | st.text("abcé", min_size=1, max_size=4)
sentences = st.lists(st.tuples(words, st.sampled_from("XY")), min_size=1, max_size=8).map(
    lambda pairs: TaggedSentence(*map(tuple, zip(*pairs, strict=True)))
)


@given(st.lists(sentences, min_size=1, max_size=4), st.integers(1, 3))
def test_words_are_numbers_or_characters(read, min_count):
    known = tagged_vocabulary(read[1:], min_count=min_count)
    characters = character_vocabulary(read[1:])
    samples = spelled_samples(iter(read), known, characters, "XY")
    assert [tags for _, tags in samples] == [tags for _, tags in tagged_samples(read, known, "XY")]
    for sentence, (row, _) in zip(read, samples, strict=True):
        for word, entry in zip(sentence.words, row, strict=True):
            if word in known and word != UNKNOWN:
                assert entry == known.id(word)
            else:
                assert entry == tuple(map(characters.id, word))


def test_characters_are_those_of_the_words():
    read = [TaggedSentence(("ab", "a"), ("X", "X")), TaggedSentence(("é",), ("Y",))]
    assert character_vocabulary(read) == Vocabulary([UNKNOWN, "a", "b", "é"])
    assert character_vocabulary(read, min_count=2) == character_vocabulary(read, max_size=2)


def test_a_tag_without_a_class_is_an_error():
    read = [TaggedSentence(("a",), ("X",))]
    with pytest.raises(DataError, match="the tag 'X' is none of the 1 known"):
        spelled_samples(read, tagged_vocabulary(read), character_vocabulary(read), ("Y",))


def test_wikiner(data_folder):
    read = read_tagged(data_folder("tags") / "dev.txt")
    known = tagged_vocabulary(read, min_count=5)
    samples = spelled_samples(read, known, character_vocabulary(read), tag_names(read))
    spelt = [isinstance(word, tuple) for row, _ in samples for word in row]
    assert 0.2 < sum(spelt) / len(spelt) < 0.4
