"""Identifiers are the same at every call, none is on two sides of the split, and tags say where words begin."""

import pickle
from collections import Counter

import pytest

from bale.data import (
    IDENTIFIER_TAGS,
    Lexicon,
    Vocabulary,
    identifiers_of,
    make_lattice,
    name_words,
    python_identifiers,
    split_of,
)
from bale.errors import DataError


@pytest.fixture(scope="module")
def subset():
    return python_identifiers(800)


@pytest.fixture
def library(tmp_path):
    """Make a folder of one module per source."""

    def write(*sources):
        for number, source in enumerate(sources):
            content = source if isinstance(source, bytes) else source.encode()
            (tmp_path / f"module{number}.py").write_bytes(content)
        return tmp_path

    return write


def samples_of(data):
    return data.train + data.valid + data.test


def text_of(data, lattice):
    return "".join(data.characters[ending[0][1]] for ending in lattice.arcs[1:])


def words_of(data, sample):
    lattice, tags = sample
    text = text_of(data, lattice)
    starts = [place for place, tag in enumerate(tags) if data.tags[tag] == "B"]
    return [text[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]


def test_the_subset_is_of_the_size_asked_and_looks_like_names(subset):
    assert len(samples_of(subset)) == 800
    assert len(subset.train) > len(subset.valid) + len(subset.test) > 0
    assert subset.tags == IDENTIFIER_TAGS == ("I", "B")
    assert 0 < subset.files < 100
    lengths = sorted(len(tags) for _, tags in samples_of(subset))
    assert 9 <= lengths[400] <= 14
    assert {"get", "set", "name"} <= set(subset.words)
    assert "train" not in repr(subset)


def test_two_readings_agree_and_pickle(subset):
    assert python_identifiers(800) == subset
    assert pickle.loads(pickle.dumps(subset)) == subset


def test_no_identifier_is_on_two_sides(subset):
    texts = {split: [text_of(subset, lattice) for lattice, _ in getattr(subset, split)] for split in ("train", "test")}
    for split, of_split in texts.items():
        assert len(set(of_split)) == len(of_split)
        assert {split_of(text) for text in of_split if "<unk>" not in text} == {split}
    assert not set(texts["train"]) & set(texts["test"])


def test_the_lattice_is_that_of_the_text_and_the_lexicon(subset):
    characters, lexicon = Vocabulary(subset.characters), Lexicon(Vocabulary(subset.words))
    for sample in subset.train:
        lattice, tags = sample
        words = words_of(subset, sample)
        assert lattice == make_lattice("".join(words), lexicon, characters)
        assert len(tags) == len(lattice.ends) and len(words) > 1 and tags[0] == 1


def test_the_lexicon_holds_the_commonest_words_of_training(subset):
    counts = Counter(word for sample in subset.train for word in words_of(subset, sample) if len(word) > 1)
    assert set(subset.words[1:]) == set(counts)  # fewer than 2,000
    few = python_identifiers(800, words=20)
    assert few.words[1:] == tuple(sorted(counts, key=lambda word: (-counts[word], word))[:20])
    assert len(few.train) == len(subset.train)


def test_every_place_of_an_identifier_counts():
    source = """
import top_level.module_name as module_alias
from some_package import a_thing as an_alias
@a_decorator
class ClassName(BaseClass):
    an_attribute: type_name = "a_string b_string"
    async def do_it(self, first_arg, *rest_args, key_only=default_value, **all_kwargs):
        global some_global
        try:
            self.other_one(keyword_arg=1)  # in_comment
        except SomeError as an_error:
            match an_error:
                case {"k": a_value, **the_rest}: pass
                case [*star_name]: pass
                case Some() as as_name: pass
"""
    several = {name for name in identifiers_of(source) if len(name_words(name)) > 1}
    assert several == set(
        "module_alias some_package a_thing an_alias a_decorator ClassName BaseClass an_attribute type_name do_it"
        " first_arg rest_args key_only default_value all_kwargs other_one keyword_arg SomeError an_error a_value"
        " the_rest star_name as_name".split()
    )


def test_identifiers_are_listed_once_and_the_commonest_spelling_is_right(library):
    root = library(
        "get_value = getValue = GET_VALUE = 1", "set_up = set_up = 1; setU_p = 1", "x = value = __init__ = 1"
    )
    data = python_identifiers(library=root)
    assert data.files == 3
    words = sorted(tuple(words_of(data, sample)) for sample in samples_of(data))
    assert [len(parts) for parts in words] == [2, 2]
    lengths = sorted([len(tags), tags.index(1, 1)] for _, tags in samples_of(data))
    assert lengths == [[5, 3], [8, 3]]


def test_what_cannot_be_read_as_python_is_listed(library):
    data = python_identifiers(library=library("get_it = 1", "def (", b"get_all = 1\0"))
    assert data.unparsed == ("module1.py", "module2.py") and data.files == 3
    assert len(samples_of(data)) == 1


@pytest.mark.parametrize("argument", ["max_identifiers", "words"])
def test_numbers_below_one_are_refused(argument):
    with pytest.raises(DataError, match=f"^{argument} must be at least 1, got 0$"):
        python_identifiers(**{argument: 0})


def test_a_folder_without_identifiers_is_refused(library, tmp_path):
    for folder in (library("x = 1"), tmp_path / "none"):
        with pytest.raises(DataError, match="no identifier of several words in any"):
            python_identifiers(library=folder)
