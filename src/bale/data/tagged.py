"""How are tagged sentences read? `word|TAG word|TAG ...`, one sentence a line (WikiNER's form)."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike

from bale.data.text import problem_at, read_lines
from bale.data.vocabulary import Vocabulary
from bale.errors import DataError

_TOKEN = re.compile(r"[^ \t]+")
_WORD = re.compile(r"[^ \t\n]+")
_TAG = re.compile(r"[^| \t\n]+")

TaggedSample = tuple[tuple[int, ...], tuple[int, ...]]
"""One example: the numbers of a sentence's words and of their tags."""


@dataclass(frozen=True)
class TaggedSentence:
    """A sentence and one tag for each of its words; `str` writes it as it is read.

    Raises `DataError` for no words, for another number of tags, and for what would not read back: a word or tag that
    is empty or has a space or newline in it, or a tag with a '|'.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.words or len(self.words) != len(self.tags):
            raise DataError(f"a sentence has words, each with a tag: got {len(self.words)} and {len(self.tags)}")
        for kind, pattern, texts in (("word", _WORD, self.words), ("tag", _TAG, self.tags)):
            for text in texts:
                if not pattern.fullmatch(text):
                    raise DataError(f"a {kind} that cannot be written as word|TAG: {text!r}")

    def __str__(self) -> str:
        return " ".join(f"{word}|{tag}" for word, tag in zip(self.words, self.tags, strict=True))


def read_tagged(path: str | PathLike[str]) -> list[TaggedSentence]:
    """Read a file of tagged sentences, one a line; blank lines are passed over.

    The last '|' of a token separates, since a word may contain it. Raises `DataError`:
    `path:line:column: what was expected`.
    """
    lines = read_lines(path, "one sentence a line, word|TAG word|TAG ...")
    return [parse_tagged(text, path=path, line=number) for number, text in lines]


def parse_tagged(text: str, *, path: str | PathLike[str] = "<text>", line: int = 1) -> TaggedSentence:
    """Read one sentence; `path` and `line` say in a `DataError` where the text is from.

    >>> parse_tagged("a|DT |||SYM")
    TaggedSentence(words=('a', '||'), tags=('DT', 'SYM'))
    """
    words: list[str] = []
    tags: list[str] = []
    for match in _TOKEN.finditer(text):
        column, token = match.start() + 1, match.group()
        word, bar, tag = token.rpartition("|")
        if not bar:
            raise problem_at(path, line, column, f"expected word|TAG, got {token[:40]!r} without a '|'")
        if not word:
            raise problem_at(path, line, column, f"expected a word before '|', got {token[:40]!r}")
        if not tag:
            raise problem_at(path, line, column + len(token), f"expected a tag after the last '|' of {token[:40]!r}")
        words.append(word)
        tags.append(tag)
    if not words:
        raise problem_at(path, line, len(text) + 1, "expected word|TAG, got the end of the line")
    return TaggedSentence(tuple(words), tuple(tags))


def tagged_vocabulary(
    sentences: Iterable[TaggedSentence], *, min_count: int = 1, max_size: int | None = None
) -> Vocabulary:
    """Number the words of the training sentences (`Vocabulary.build`)."""
    words = (word for sentence in sentences for word in sentence.words)
    return Vocabulary.build(words, min_count=min_count, max_size=max_size)


def tag_names(sentences: Iterable[TaggedSentence]) -> tuple[str, ...]:
    """Return the tags that occur, by alphabet: the classes of a tagger."""
    return tuple(sorted({tag for sentence in sentences for tag in sentence.tags}))


def tagged_samples(
    sentences: Iterable[TaggedSentence], vocabulary: Vocabulary, tags: Sequence[str]
) -> list[TaggedSample]:
    """Turn sentences into (word numbers [length], tag numbers [length]), as `bale.models.BiLSTMTagger` takes them.

    Raises `DataError` for a tag that is not in `tags`: it has no class, and must be among those of the model.
    """
    numbers = {tag: number for number, tag in enumerate(tags)}
    samples: list[TaggedSample] = []
    for index, sentence in enumerate(sentences):
        for position, tag in enumerate(sentence.tags):
            if tag not in numbers:
                raise DataError(
                    f"sentence {index}, word {position} ({sentence.words[position]!r}): the tag {tag!r} is none of the"
                    f" {len(numbers)} known; take `tags` from every split (`tag_names(train + valid + test)`)"
                )
        words = tuple(vocabulary.id(word) for word in sentence.words)
        samples.append((words, tuple(numbers[tag] for tag in sentence.tags)))
    return samples
