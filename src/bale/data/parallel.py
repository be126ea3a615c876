"""How are pairs of sentences read? `<s> source ... </s> ||| <s> target ... </s>`, one pair a line."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike

from bale.data.text import problem_at, read_lines
from bale.data.vocabulary import UNKNOWN, Vocabulary
from bale.errors import DataError

BEGIN, END = "<s>", "</s>"
_BAR = "|||"

_TOKEN = re.compile(r"[^ \t]+")
_WORD = re.compile(r"[^ \t\n]+")

ParallelSample = tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[int, ...]]
"""One example: the numbers of a source's and of a target's words, and what is to be said: the target's from the second.

Source and target have their begin and end with them, so that a word of the target is the input for the next one.
"""


@dataclass(frozen=True)
class SentencePair:
    """A sentence and its translation, without the marks of begin and end; `str` writes it as it is read, with them.

    Raises `DataError` where one of them has no words, and for a word that would not read back: one that is empty, has
    a space or newline in it, or is `<s>`, `</s>` or `|||`.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]

    def __post_init__(self) -> None:
        for side, words in (("source", self.source), ("target", self.target)):
            if not words:
                raise DataError(f"a {side} has at least one word, got none")
            for word in words:
                if not _WORD.fullmatch(word) or word in (BEGIN, END, _BAR):
                    raise DataError(f"a word of the {side} that cannot be written between {BEGIN} and {END}: {word!r}")

    def __str__(self) -> str:
        return f"{BEGIN} {' '.join(self.source)} {END} {_BAR} {BEGIN} {' '.join(self.target)} {END}"


def read_parallel(path: str | PathLike[str]) -> list[SentencePair]:
    """Read a file of sentence pairs, one a line; blank lines are passed over.

    Raises `DataError`: `path:line:column: what was expected`.
    """
    lines = read_lines(path, f"one pair of sentences a line, {BEGIN} ... {END} {_BAR} {BEGIN} ... {END}")
    return [parse_parallel(text, path=path, line=number) for number, text in lines]


def parse_parallel(text: str, *, path: str | PathLike[str] = "<text>", line: int = 1) -> SentencePair:
    """Read one pair; `path` and `line` say in a `DataError` where the text is from.

    >>> parse_parallel("<s> a cat </s> ||| <s> eine Katze </s>")
    SentencePair(source=('a', 'cat'), target=('eine', 'Katze'))
    """
    reading = _Line(text, path, line)
    source = reading.sentence("source")
    reading.expect(_BAR, f"after the {END} of the source")
    target = reading.sentence("target")
    reading.expect(None, f"after the {END} of the target")
    return SentencePair(source, target)


class _Line:
    """The tokens of a line, taken one by one."""

    def __init__(self, text: str, path: str | PathLike[str], line: int) -> None:
        self.path = path
        self.number = line
        self.end = len(text) + 1
        self.tokens = iter([(match.start() + 1, match.group()) for match in _TOKEN.finditer(text)])

    def sentence(self, side: str) -> tuple[str, ...]:
        self.expect(BEGIN, f"at the begin of the {side}")
        words: list[str] = []
        while True:
            column, word = next(self.tokens, (self.end, None))
            if word == END and words:
                return tuple(words)
            if word is None or word in (BEGIN, END, _BAR):
                expected = f"a word or {END}" if words else "a word"
                raise self.error(column, f"expected {expected} in the {side}, got {_shown(word)}")
            words.append(word)

    def expect(self, mark: str | None, where: str) -> None:
        column, token = next(self.tokens, (self.end, None))
        if token != mark:
            raise self.error(column, f"expected {_shown(mark)} {where}, got {_shown(token)}")

    def error(self, column: int, problem: str) -> DataError:
        return problem_at(self.path, self.number, column, problem)


def _shown(token: str | None) -> str:
    return "the end of the line" if token is None else repr(token[:40])


def parallel_vocabularies(
    pairs: Sequence[SentencePair], *, min_count: int = 1, max_size: int | None = None
) -> tuple[Vocabulary, Vocabulary]:
    """Number the words of the training pairs, of the sources and of the targets.

    Both begin with `<unk>`, `<s>`, `</s>`, which `max_size` includes; the rest is as `Vocabulary.build` lists it.
    """
    if max_size is not None and max_size < 3:
        raise DataError(f"max_size must be at least 3, for {UNKNOWN!r}, {BEGIN!r} and {END!r}, got {max_size}")

    def number(words: Iterable[str]) -> Vocabulary:
        known = Vocabulary.build(words, min_count=min_count, max_size=None if max_size is None else max_size - 2)
        return Vocabulary([UNKNOWN, BEGIN, END, *known.to_list()[1:]])

    sources = number(word for pair in pairs for word in pair.source)
    return sources, number(word for pair in pairs for word in pair.target)


def parallel_samples(pairs: Iterable[SentencePair], source: Vocabulary, target: Vocabulary) -> list[ParallelSample]:
    """Turn pairs into ((source numbers, target numbers), target numbers from the second), as
    `bale.models.EncoderDecoder` takes them.

    Raises `DataError` for a vocabulary that does not list `<s>` and `</s>`.
    """
    for name, vocabulary in (("source", source), ("target", target)):
        if BEGIN not in vocabulary or END not in vocabulary:
            raise DataError(
                f"the {name}'s vocabulary does not list {BEGIN} and {END}: take one of parallel_vocabularies"
            )

    def numbers(words: tuple[str, ...], vocabulary: Vocabulary) -> tuple[int, ...]:
        return tuple(vocabulary.id(word) for word in (BEGIN, *words, END))

    samples: list[ParallelSample] = []
    for pair in pairs:
        spoken = numbers(pair.target, target)
        samples.append(((numbers(pair.source, source), spoken), spoken[1:]))
    return samples
