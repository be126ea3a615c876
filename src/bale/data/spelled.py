"""How does a tagger read words that it has hardly seen? As characters: tagged samples with rare words spelt."""

from collections.abc import Iterable, Sequence

from bale.data.tagged import TaggedSentence, tagged_samples
from bale.data.vocabulary import Vocabulary

SpelledWord = int | tuple[int, ...]
"""The number of a word that is known, or the numbers of the characters of one that is not."""

SpelledSample = tuple[tuple[SpelledWord, ...], tuple[int, ...]]
"""One example: a sentence's words, the rare ones spelt, and the numbers of their tags."""


def character_vocabulary(
    sentences: Iterable[TaggedSentence], *, min_count: int = 1, max_size: int | None = None
) -> Vocabulary:
    """Number the characters of the training sentences' words (`Vocabulary.build`)."""
    characters = (character for sentence in sentences for word in sentence.words for character in word)
    return Vocabulary.build(characters, min_count=min_count, max_size=max_size)


def spelled_samples(
    sentences: Iterable[TaggedSentence], words: Vocabulary, characters: Vocabulary, tags: Sequence[str]
) -> list[SpelledSample]:
    """Turn sentences into (words [length], tag numbers [length]), as `bale.models.CharBiLSTMTagger` takes them.

    A word that `words` does not list is the tuple of its characters' numbers; which words are rare is said where the
    vocabulary is made (`tagged_vocabulary(train, min_count=5)`). Raises `DataError` for a tag that is not in `tags`.

    >>> from bale.data import parse_tagged
    >>> train = [parse_tagged("a|DT cat|NN"), parse_tagged("a|DT tac|NN")]
    >>> words = Vocabulary.build(["a", "a"])
    >>> spelled_samples(train, words, character_vocabulary(train), ("DT", "NN"))
    [((1, (2, 1, 3)), (0, 1)), ((1, (3, 1, 2)), (0, 1))]
    """
    sentences = list(sentences)
    samples: list[SpelledSample] = []
    for sentence, (numbers, labels) in zip(sentences, tagged_samples(sentences, words, tags), strict=True):
        known = zip(sentence.words, numbers, strict=True)
        samples.append((tuple(number or _spell(word, characters) for word, number in known), labels))
    return samples


def _spell(word: str, characters: Vocabulary) -> tuple[int, ...]:
    return tuple(characters.id(character) for character in word)
