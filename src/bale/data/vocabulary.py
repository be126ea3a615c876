"""Which integer stands for a word?"""

from collections import Counter
from collections.abc import Iterable

from bale.errors import DataError

UNKNOWN = "<unk>"


class Vocabulary:
    """Words numbered from 0; number 0 is `<unk>`, which stands for every word that is not listed.

    >>> vocabulary = Vocabulary.build(["to", "be", "or", "not", "to", "be"], max_size=3)
    >>> vocabulary.to_list(), vocabulary.id("to"), vocabulary.id("question")
    (['<unk>', 'be', 'to'], 2, 0)
    """

    def __init__(self, words: Iterable[str]) -> None:
        """Number `words`, the first of which must be `<unk>`; raises `DataError` if it is not, or if a word repeats."""
        self._words = tuple(words)
        if self._words[:1] != (UNKNOWN,):
            first = repr(self._words[0]) if self._words else "no words"
            raise DataError(f"a vocabulary begins with {UNKNOWN!r}, got {first}")
        self._ids = {word: index for index, word in enumerate(self._words)}
        if len(self._ids) != len(self._words):
            repeated = next(word for word, count in Counter(self._words).items() if count > 1)
            raise DataError(f"a vocabulary lists each word once, got {repeated!r} more than once")

    @classmethod
    def build(cls, words: Iterable[str], *, min_count: int = 1, max_size: int | None = None) -> "Vocabulary":
        """List `<unk>` and the words of a text, the frequent first and equals by alphabet.

        Words that occur fewer than `min_count` times are left out; `max_size` bounds the length, `<unk>` included.
        """
        if max_size is not None and max_size < 1:
            raise DataError(f"max_size must be at least 1, for {UNKNOWN!r}, got {max_size}")
        counts = Counter(words)
        counts.pop(UNKNOWN, None)
        known = sorted((word for word in counts if counts[word] >= min_count), key=lambda word: (-counts[word], word))
        return cls([UNKNOWN, *known][:max_size])

    @classmethod
    def from_list(cls, words: list[str]) -> "Vocabulary":
        """Rebuild the vocabulary that `to_list` wrote down."""
        return cls(words)

    def to_list(self) -> list[str]:
        """Return the words in order, for a checkpoint."""
        return list(self._words)

    def id(self, word: str) -> int:
        """Return the number of `word`, 0 where it is unknown."""
        return self._ids.get(word, 0)

    def word(self, index: int) -> str:
        """Return the word numbered `index`."""
        return self._words[index]

    def __len__(self) -> int:
        return len(self._words)

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def __eq__(self, other: object) -> bool:
        return self._words == other._words if isinstance(other, Vocabulary) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._words)

    def __repr__(self) -> str:
        return f"<Vocabulary of {len(self)} words>"
