"""What is a word lattice, and how are files of them read and written? Characters, and the words that lie over them.

Zhang, Yang, "Chinese NER Using Lattice LSTM", ACL 2018. A file begins with a line that says how many sentences it
holds. A sentence is a line with its number of positions, one with a tag for each of them, then for each of them a line
`count start number start number ...` with the arcs that end there, and a blank line.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from bale.data.text import problem_at, read_lines
from bale.errors import DataError

Arc = tuple[int, int]
"""Where an arc starts, and the number of what it carries."""

_TOKEN = re.compile(r"[^ \t]+")
_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Lattice:
    """The arcs of a sentence: `arcs[position]` are those that end there, each `(start, number)` with start < position.

    An arc from the position just before carries a character and `number` is that of the character; any longer arc
    carries a word, which has numbers of its own. Position 0 is the begin of the sentence: nothing ends there.

    Raises `DataError` for an arc that does not start at an earlier position, for a number below 0, and where there is
    no arc at all.

    >>> lattice = Lattice(((), ((0, 7),), ((1, 8), (0, 3))))
    >>> lattice.ends, lattice.characters, lattice.words
    ((1, 2), 2, 1)
    """

    arcs: tuple[tuple[Arc, ...], ...]

    def __post_init__(self) -> None:
        for position, ending in enumerate(self.arcs):
            for start, number in ending:
                if not 0 <= start < position:
                    raise DataError(f"position {position}: {_wrong_start(start, position)}")
                if number < 0:
                    raise DataError(f"position {position}: the arc from {start} carries number {number}, below 0")
        if not any(self.arcs):
            raise DataError(f"a lattice has at least one arc, got {len(self.arcs)} positions without any")

    @property
    def ends(self) -> tuple[int, ...]:
        """The positions at which arcs end, in order: the rows of what a model says of a lattice."""
        return tuple(position for position, ending in enumerate(self.arcs) if ending)

    @property
    def characters(self) -> int:
        """The number of arcs that carry characters."""
        return sum(start == position - 1 for position, ending in enumerate(self.arcs) for start, _ in ending)

    @property
    def words(self) -> int:
        """The number of arcs that carry words."""
        return sum(map(len, self.arcs)) - self.characters


@dataclass(frozen=True)
class TaggedLattice:
    """A lattice and a tag, a number from 0, for each of its positions, also those at which no arc ends.

    `str` writes it as it is read, the blank line left out. Raises `DataError` for another number of tags, or a tag
    below 0.
    """

    lattice: Lattice
    tags: tuple[int, ...]

    def __post_init__(self) -> None:
        positions = len(self.lattice.arcs)
        if len(self.tags) != positions:
            raise DataError(f"every position has a tag: got {positions} positions and {len(self.tags)} tags")
        if min(self.tags) < 0:
            raise DataError(f"a tag is a number from 0, got {min(self.tags)}")

    def __str__(self) -> str:
        lines = [str(len(self.tags)), " ".join(map(str, self.tags))]
        for ending in self.lattice.arcs:
            arcs = " ".join(f"{start} {number}" for start, number in ending)
            lines.append(f"{len(ending)} {arcs}")  # with a space after a 0, as it is in the corpus
        return "\n".join(lines)


LatticeSample = tuple[Lattice, tuple[int, ...]]
"""One example: a lattice, and the tags of the positions at which arcs end."""


class LatticeSizes(NamedTuple):
    """How many characters, words and tags a model has to know: one more than the largest number of each."""

    characters: int
    words: int
    tags: int


def read_lattices(path: str | PathLike[str]) -> list[TaggedLattice]:
    """Read a file of tagged lattices.

    Raises `DataError`: `path:line:column: what was expected`.
    """
    return _Reader(path).sentences()


def write_lattices(path: str | PathLike[str], sentences: Sequence[TaggedLattice]) -> None:
    """Write a file that `read_lattices` reads; raises `DataError` for no sentences, OSError where it cannot be written.

    What was read from a file is written as it was, byte by byte, if its numbers had single spaces between them.
    """
    if not sentences:
        raise DataError("a file of lattices has at least one sentence, got none")
    blocks = "".join(f"{sentence}\n\n" for sentence in sentences)
    Path(path).write_text(f"{len(sentences)}\n{blocks}", "utf-8", newline="\n")


def lattice_samples(sentences: Iterable[TaggedLattice]) -> list[LatticeSample]:
    """Turn sentences into (lattice, tags of the positions with arcs), as `bale.models.LatticeLSTM` takes them."""
    return [
        (sentence.lattice, tuple(sentence.tags[position] for position in sentence.lattice.ends))
        for sentence in sentences
    ]


def lattice_sizes(samples: Iterable[LatticeSample]) -> LatticeSizes:
    """Return what a model must know to read all of `samples`; take those of every split."""
    largest_character = largest_word = largest_tag = -1
    for lattice, tags in samples:
        largest_tag = max(largest_tag, *tags)
        for position, ending in enumerate(lattice.arcs):
            for start, number in ending:
                if start == position - 1:
                    largest_character = max(largest_character, number)
                else:
                    largest_word = max(largest_word, number)
    return LatticeSizes(largest_character + 1, largest_word + 1, largest_tag + 1)


class _Line:
    """The whole numbers of a line, each with its column, taken one by one."""

    def __init__(self, path: str | PathLike[str], number: int, text: str) -> None:
        self.path = path
        self.number = number
        self.end = len(text.rstrip(" \t")) + 1
        self.tokens = iter([(match.start() + 1, match.group()) for match in _TOKEN.finditer(text)])
        self.column = 1  # of what was taken last

    def take(self, expected: str) -> int:
        self.column, token = next(self.tokens, (self.end, None))
        if token is None:
            raise self.error(f"expected {expected}, got the end of the line")
        if not _NUMBER.fullmatch(token):
            raise self.error(f"expected {expected}, a whole number from 0, got {token[:40]!r}")
        return int(token)

    def finish(self, expected: str) -> None:
        self.column, token = next(self.tokens, (self.end, None))
        if token is not None:
            raise self.error(f"expected {expected}, got {token[:40]!r} after it")

    def error(self, problem: str) -> DataError:
        return problem_at(self.path, self.number, self.column, problem)


class _Reader:
    """Reads a file line by line; what belongs together has no blank line in it, and has one after it."""

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = path
        self.lines = iter(read_lines(path, "the number of sentences, then a block of lines for each"))
        self.last = 0  # the number of the last line that was read

    def sentences(self) -> list[TaggedLattice]:
        head = self.line("the number of sentences")
        count = head.take("the number of sentences")
        head.finish("only the number of sentences")
        if count == 0:
            raise problem_at(self.path, head.number, 1, "expected at least one sentence, got 0")
        sentences = [self.sentence(place, count) for place in range(count)]
        for number, _ in self.lines:
            raise problem_at(self.path, number, 1, f"expected the end of the file after {count:,} sentences")
        return sentences

    def sentence(self, place: int, count: int) -> TaggedLattice:
        expected = f"the number of positions of sentence {place + 1:,} of {count:,}"
        first = self.line(expected, blank_before=True if place else None)
        positions = first.take(expected)
        if positions < 2:
            raise first.error(f"expected at least 2 positions, the begin and one with arcs, got {positions}")
        first.finish(f"only {expected}")
        tags = self.tags(positions)
        arcs = tuple(self.arcs(position, positions) for position in range(positions))
        if not any(arcs):
            raise problem_at(self.path, first.number, 1, f"expected arcs, got {positions} positions without any")
        return TaggedLattice(Lattice(arcs), tags)

    def tags(self, positions: int) -> tuple[int, ...]:
        line = self.line(f"{positions} tags", blank_before=False)
        tags = tuple(line.take(f"the tag of position {position} of {positions}") for position in range(positions))
        line.finish(f"a tag for each of {positions} positions")
        return tags

    def arcs(self, position: int, positions: int) -> tuple[Arc, ...]:
        line = self.line(f"the arcs of position {position} of {positions}", blank_before=False)
        count = line.take("the number of arcs")
        arcs: list[Arc] = []
        for arc in range(count):
            start = line.take(f"the start of arc {arc + 1} of {count}")
            if start >= position:
                raise line.error(_wrong_start(start, position))
            arcs.append((start, line.take(f"the number that arc {arc + 1} of {count} carries")))
        line.finish(f"{count} pairs of a start and a number")
        return tuple(arcs)

    def line(self, expected: str, blank_before: bool | None = None) -> _Line:
        """Take the next line that is not blank; `blank_before`: there must be blank lines before it, or none."""
        number, text = next(self.lines, (self.last + 1, None))
        if text is None:
            raise problem_at(self.path, number, 1, f"expected {expected}, got the end of the file")
        blank = number > self.last + 1
        if blank_before is False and blank:
            raise problem_at(self.path, self.last + 1, 1, f"expected {expected}, got a blank line")
        if blank_before is True and not blank:
            raise problem_at(self.path, number, 1, f"expected a blank line after the last position, got {text[:40]!r}")
        self.last = number
        return _Line(self.path, number, text)


def _wrong_start(start: int, position: int) -> str:
    return f"an arc that ends at {position} starts at an earlier position, from 0, got {start}"
