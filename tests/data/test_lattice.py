"""What is written is read back, byte by byte, and what is wrong is named with its place."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bale.data import Lattice, TaggedLattice, lattice_samples, lattice_sizes, read_lattices, write_lattices
from bale.errors import DataError

numbers = st.integers(0, 10**6)


@st.composite
def lattices(draw):
    positions = draw(st.integers(2, 8))
    arcs = [()]
    for position in range(1, positions):
        starts = st.integers(0, position - 1)
        least = position == positions - 1 and not any(arcs)
        arcs.append(tuple(draw(st.lists(st.tuples(starts, numbers), min_size=least, max_size=3))))
    return Lattice(tuple(arcs))


@st.composite
def tagged(draw):
    lattice = draw(lattices())
    positions = len(lattice.arcs)
    return TaggedLattice(lattice, tuple(draw(st.lists(numbers, min_size=positions, max_size=positions))))


@given(st.lists(tagged(), min_size=1, max_size=4))
def test_a_written_file_reads_back(tmp_path_factory, sentences):
    path = tmp_path_factory.mktemp("lattice") / "lattices.txt"
    write_lattices(path, sentences)
    assert read_lattices(path) == sentences


@given(tagged(), st.sampled_from(["\r\n", "\n\n", " \n", "\n \t\n"]))
def test_how_lines_end_does_not_count(tmp_path_factory, sentence, newline):
    path = tmp_path_factory.mktemp("lattice") / "lattices.txt"
    lines = newline.replace("\n\n", "\n").replace("\n \t\n", "\t\n").join(str(sentence).split("\n"))
    path.write_bytes(f"{newline}2{newline}{lines}{newline}\n{lines}".encode())
    assert read_lattices(path) == [sentence, sentence]


@given(tagged())
def test_copies_are_equal(sentence):
    for copied in (pickle.loads(pickle.dumps(sentence)), copy.deepcopy(sentence)):
        assert copied == sentence and hash(copied) == hash(sentence)


def test_a_lattice_cannot_be_changed():
    lattice = Lattice(((), ((0, 1),)))
    with pytest.raises(AttributeError):
        lattice.arcs = ()
    with pytest.raises((AttributeError, TypeError)):  # a class with slots: TypeError from Python 3.11's dataclass
        lattice.colour = "blue"


@given(lattices())
def test_arcs_are_characters_or_words(lattice):
    spans = [position - start for position, ending in enumerate(lattice.arcs) for start, _ in ending]
    assert (lattice.characters, lattice.words) == (spans.count(1), len(spans) - spans.count(1))
    assert [bool(ending) for ending in lattice.arcs] == [place in lattice.ends for place in range(len(lattice.arcs))]


@given(st.lists(tagged(), min_size=1, max_size=4))
def test_samples_have_a_label_for_every_position_with_arcs(sentences):
    samples = lattice_samples(sentences)
    for sentence, (lattice, labels) in zip(sentences, samples, strict=True):
        assert lattice is sentence.lattice
        assert labels == tuple(tag for tag, ending in zip(sentence.tags, lattice.arcs, strict=True) if ending)
    sizes = lattice_sizes(samples)
    arcs = [(p - s, n) for lattice, _ in samples for p, ending in enumerate(lattice.arcs) for s, n in ending]
    assert sizes.characters == max((number + 1 for span, number in arcs if span == 1), default=0)
    assert sizes.words == max((number + 1 for span, number in arcs if span > 1), default=0)
    assert sizes.tags == 1 + max(max(labels) for _, labels in samples)


def test_no_samples_need_nothing():
    assert lattice_sizes([]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("arcs", "problem"),
    [
        ((), "a lattice has at least one arc, got 0 positions without any"),
        (((), ()), "a lattice has at least one arc, got 2 positions without any"),
        ((((0, 1),),), "position 0: an arc that ends at 0 starts at an earlier position, from 0, got 0"),
        (((), ((1, 1),)), "position 1: an arc that ends at 1 starts at an earlier position, from 0, got 1"),
        (((), ((-1, 1),)), "position 1: an arc that ends at 1 starts at an earlier position, from 0, got -1"),
        (((), ((0, -3),)), "position 1: the arc from 0 carries number -3, below 0"),
    ],
)
def test_what_is_no_lattice_is_refused(arcs, problem):
    with pytest.raises(DataError) as error:
        Lattice(arcs)
    assert str(error.value) == problem


@pytest.mark.parametrize(("tags", "problem"), [((1,), "2 positions and 1 tags"), ((0, -1), "from 0, got -1")])
def test_every_position_has_a_tag(tags, problem):
    with pytest.raises(DataError, match=problem):
        TaggedLattice(Lattice(((), ((0, 1),))), tags)


# Line 1 says two sentences; the first, sound, is lines 2 to 6; line 7 is blank.
@pytest.mark.parametrize(
    ("block", "line", "column", "problem"),
    [
        ("", 7, 1, "expected the number of positions of sentence 2 of 2, got the end of the file"),
        ("x", 8, 1, "expected the number of positions of sentence 2 of 2, a whole number from 0, got 'x'"),
        ("2 3", 8, 3, "expected only the number of positions of sentence 2 of 2, got '3' after it"),
        ("1\n0\n0", 8, 1, "expected at least 2 positions, the begin and one with arcs, got 1"),
        ("2\n0 0\n0\n0", 8, 1, "expected arcs, got 2 positions without any"),
        ("2", 9, 1, "expected 2 tags, got the end of the file"),
        ("2\n\n0 0", 9, 1, "expected 2 tags, got a blank line"),
        ("2\n0", 9, 2, "expected the tag of position 1 of 2, got the end of the line"),
        ("2\n0 -1", 9, 3, "expected the tag of position 1 of 2, a whole number from 0, got '-1'"),
        ("2\n0  B ", 9, 4, "expected the tag of position 1 of 2, a whole number from 0, got 'B'"),
        ("2\n0 1 2", 9, 5, "expected a tag for each of 2 positions, got '2' after it"),
        ("2\n0 1\n0", 11, 1, "expected the arcs of position 1 of 2, got the end of the file"),
        ("2\n0 1\n0\n\n1 0 5", 11, 1, "expected the arcs of position 1 of 2, got a blank line"),
        ("2\n0 1\n1 0 5\n1 0 5", 10, 3, "an arc that ends at 0 starts at an earlier position, from 0, got 0"),
        ("2\n0 1\n0\none", 11, 1, "expected the number of arcs, a whole number from 0, got 'one'"),
        ("2\n0 1\n0\n2 0 5", 11, 6, "expected the start of arc 2 of 2, got the end of the line"),
        ("2\n0 1\n0\n1 0  ", 11, 4, "expected the number that arc 1 of 1 carries, got the end of the line"),
        ("2\n0 1\n0\n1 0 ٣", 11, 5, "expected the number that arc 1 of 1 carries, a whole number from 0, got '٣'"),
        ("2\n0 1\n0\n1 0 5 0 6", 11, 7, "expected 1 pairs of a start and a number, got '0' after it"),
        ("2\n0 1\n0\n1 1 5", 11, 3, "an arc that ends at 1 starts at an earlier position, from 0, got 1"),
        ("2\n0 1\n0\n1 0 5\n\n2", 13, 1, "expected the end of the file after 2 sentences"),
        ("2\n0 1\n0\n1 0 5\n0", 12, 1, "expected the end of the file after 2 sentences"),
    ],
)
def test_an_error_names_file_line_and_column(tmp_path, block, line, column, problem):
    path = tmp_path / "lattices.txt"
    path.write_text(f"2\n3\n0 1 1\n0 \n1 0 5\n2 1 6 0 7\n\n{block}", "utf-8")
    with pytest.raises(DataError) as error:
        read_lattices(path)
    assert str(error.value) == f"{path}:{line}:{column}: {problem}"


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("many", "1:1", "expected the number of sentences, a whole number from 0, got 'many'"),
        ("0\n", "1:1", "expected at least one sentence, got 0"),
        ("1 1\n", "1:3", "expected only the number of sentences, got '1' after it"),
        ("2\n2\n0 1\n0\n1 0 5\n2\n", "6:1", "expected a blank line after the last position, got '2'"),
    ],
)
def test_the_lines_around_sentences(tmp_path, text, place, problem):
    path = tmp_path / "lattices.txt"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        read_lattices(path)
    assert str(error.value) == f"{path}:{place}: {problem}"


@given(st.text("012 x\t\n", max_size=40))
def test_any_text_is_lattices_or_an_error_with_its_place(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("lattice") / "lattices.txt"
    path.write_text(text)
    try:
        sentences = read_lattices(path)
    except DataError as error:
        line, column = map(int, str(error).removeprefix(f"{path}:").split(":")[:2])
        assert 1 <= line <= text.count("\n") + 2
        assert 1 <= column <= max(map(len, text.split("\n"))) + 1
    else:
        write_lattices(path, sentences)
        assert read_lattices(path) == sentences


def test_a_file_of_no_sentences_is_not_written(tmp_path):
    with pytest.raises(DataError, match="at least one sentence, got none"):
        write_lattices(tmp_path / "lattices.txt", [])


@pytest.mark.parametrize(("split", "count"), [("train", 1_147), ("dev", 113), ("test", 316)])
def test_the_corpus_reads_and_writes_back(data_folder, tmp_path, split, count):
    corpus = data_folder("lattice") / f"{split}.txt"
    sentences = read_lattices(corpus)
    write_lattices(tmp_path / "again.txt", sentences)
    assert (tmp_path / "again.txt").read_bytes() == corpus.read_bytes()
    assert len(sentences) == count
    assert all(sentence.lattice.ends == tuple(range(1, len(sentence.tags))) for sentence in sentences)
    assert {sentence.tags[0] for sentence in sentences} == {0}


def test_words_of_the_corpus_have_numbers_of_their_own(data_folder):
    """A number stands for one sequence of characters everywhere, and it also stands for some character."""
    spelling, characters = {}, set()
    for sentence in read_lattices(data_folder("lattice") / "dev.txt"):
        arcs = sentence.lattice.arcs
        own = [next((number for start, number in arcs[p] if start == p - 1), None) for p in range(len(arcs))]
        characters.update(own)
        for position, ending in enumerate(arcs):
            for start, number in ending:
                if start < position - 1:
                    word = own[start + 1 : position + 1]
                    assert spelling.setdefault(number, word) == word
    assert len(spelling) == 1_684 and len(spelling.keys() & characters) == 145
