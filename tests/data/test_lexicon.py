"""A lattice has an arc for every character, and for every substring that is a word, and no other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bale.data import UNKNOWN, Lexicon, Vocabulary, make_lattice
from bale.errors import DataError

texts = st.text("abc", min_size=1, max_size=12)
word_lists = st.lists(st.text("abc", min_size=1, max_size=5), max_size=20, unique=True)
alphabet = Vocabulary([UNKNOWN, "b", "a"])


@given(texts, word_lists)
def test_arcs_are_the_characters_and_the_words(text, words):
    vocabulary = Vocabulary([UNKNOWN, *words])
    lattice = make_lattice(text, Lexicon(vocabulary), alphabet)
    assert lattice.arcs[0] == ()
    for end in range(1, len(text) + 1):
        longer = [(start, vocabulary.id(text[start:end])) for start in range(end - 1) if text[start:end] in words]
        assert lattice.arcs[end] == ((end - 1, alphabet.id(text[end - 1])), *longer)


@given(word_lists)
def test_a_lexicon_holds_the_words_of_two_characters_and_more(words):
    lexicon = Lexicon(Vocabulary([UNKNOWN, *words]))
    assert len(lexicon) == sum(len(word) > 1 for word in words)
    for word in words:
        assert [end for end, _ in lexicon.words_at(word, 0)] == [
            end for end in range(2, len(word) + 1) if word[:end] in words
        ]


def test_the_unknown_is_no_word_and_a_text_may_spell_it():
    lattice = make_lattice(UNKNOWN, Lexicon(Vocabulary([UNKNOWN, "unk"])), alphabet)
    assert lattice.words == 1 and lattice.arcs[4][1:] == ((1, 1),)
    assert {ending[0][1] for ending in lattice.arcs[1:]} == {0}


def test_a_lexicon_without_words_leaves_the_characters():
    assert make_lattice("ab", Lexicon(Vocabulary([UNKNOWN])), alphabet).words == 0


def test_no_text_no_lattice():
    with pytest.raises(DataError, match="at least one character, got ''"):
        make_lattice("", Lexicon(Vocabulary([UNKNOWN])), alphabet)


def test_one_long_word_does_not_make_a_long_text_slow():
    """Every walk ends at its first character that no word has there: a hundred million steps would not come back."""
    lexicon = Lexicon(Vocabulary([UNKNOWN, "a" * 10_000, "bb"]))
    assert make_lattice("ab" * 10_000, lexicon, alphabet).words == 0
