"""A vocabulary numbers words, the unknown first, and survives a checkpoint."""

import pickle
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bale.data import UNKNOWN, Vocabulary
from bale.errors import DataError

texts = st.lists(st.sampled_from(["a", "b", "c", "d", UNKNOWN]) | st.text(max_size=3))


@given(texts)
def test_numbers_and_words_are_inverse(text):
    vocabulary = Vocabulary.build(text)
    assert set(vocabulary.to_list()) == {UNKNOWN, *text}
    assert [vocabulary.id(vocabulary.word(index)) for index in range(len(vocabulary))] == list(range(len(vocabulary)))
    assert all(word in vocabulary for word in text)


@given(texts, st.integers(1, 3), st.integers(1, 5))
def test_what_is_left_out_is_rarer_than_what_is_kept(text, min_count, max_size):
    counts = Counter(word for word in text if word != UNKNOWN)
    vocabulary = Vocabulary.build(text, min_count=min_count, max_size=max_size)
    kept = vocabulary.to_list()[1:]
    left_out = [word for word in counts if word not in kept and counts[word] >= min_count]
    assert len(vocabulary) <= max_size
    assert all(counts[word] >= min_count for word in kept)
    assert all((-counts[word], word) < (-counts[other], other) for word in kept for other in left_out)
    assert not left_out or len(vocabulary) == max_size
    assert all(vocabulary.id(word) == 0 and word not in vocabulary for word in left_out)


@given(texts)
def test_the_order_of_the_text_does_not_count(text):
    assert Vocabulary.build(text) == Vocabulary.build(reversed(text))


@given(texts)
def test_lists_and_pickles_rebuild_it(text):
    vocabulary = Vocabulary.build(text)
    for rebuilt in (Vocabulary.from_list(vocabulary.to_list()), pickle.loads(pickle.dumps(vocabulary))):
        assert rebuilt == vocabulary and hash(rebuilt) == hash(vocabulary)


@pytest.mark.parametrize(
    ("words", "problem"),
    [([], "got no words"), (["a", UNKNOWN], "got 'a'"), ([UNKNOWN, "a", "b", "a"], "got 'a' more than once")],
)
def test_a_list_that_is_no_vocabulary_is_refused(words, problem):
    with pytest.raises(DataError, match=problem):
        Vocabulary.from_list(words)


def test_there_is_room_for_the_unknown():
    with pytest.raises(DataError, match="at least 1"):
        Vocabulary.build(["a"], max_size=0)


def test_it_equals_nothing_but_a_vocabulary():
    assert Vocabulary([UNKNOWN]) != [UNKNOWN]
    assert repr(Vocabulary([UNKNOWN, "a"])) == "<Vocabulary of 2 words>"
